import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type TraceSpan, traceparentOf, tracing } from './tracing.ts'

/** Asked over and over by machines, and of no order. */
const UNTRACED = /^\/(?:health|metrics|docs|faults)(?:\/|$)/

const spans = new WeakMap<FastifyRequest['raw'], TraceSpan>()

/** Makes a span of each request to a server, until it is answered or its connection ends; nothing where nothing is traced. */
export function traceRequests(server: FastifyInstance): void {
  if (!tracing) return
  server.addHook('onRequest', (request, reply, done) => {
    const { method, routeOptions, headers, raw } = request
    const { url: route } = routeOptions
    if (tracing && !UNTRACED.test(route ?? '')) {
      const span = tracing.request({ kind: 'server', method, route }, traceparentOf(headers))
      spans.set(raw, span)
      reply.raw.once('close', () => {
        if (reply.raw.writableFinished) span.end(undefined, reply.statusCode)
        else span.end('connection-ended')
      })
    }
    done()
  })
}

/** The context that what a request causes is to continue. */
export function traceparentOfRequest({ raw, headers }: FastifyRequest): string | undefined {
  return spans.get(raw)?.traceparent ?? traceparentOf(headers)
}
