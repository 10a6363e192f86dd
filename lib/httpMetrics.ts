import type { FastifyInstance } from 'fastify'
import { Counter, Histogram, type Registry } from 'prom-client'

const BUCKETS_SECONDS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]

/**
 * Counts the requests that a server answers, by route and never by path: anybody can ask for any.
 *
 * @returns tells how many there were
 */
export function addHttpMetrics(server: FastifyInstance, registry: Registry): () => number {
  let answered = 0
  const registers = [registry]
  const requests = new Counter<'method' | 'route' | 'status'>({
    name: 'http_requests_total',
    help: 'Requests that were answered',
    labelNames: ['method', 'route', 'status'],
    registers,
  })
  const durations = new Histogram<'method' | 'route'>({
    name: 'http_request_duration_seconds',
    help: 'From the first byte of a request to the last of its answer',
    labelNames: ['method', 'route'],
    buckets: BUCKETS_SECONDS,
    registers,
  })
  server.addHook('onResponse', async ({ method, routeOptions }, reply) => {
    answered++
    const route = routeOptions.url ?? 'none'
    requests.inc({ method, route, status: reply.statusCode })
    durations.observe({ method, route }, reply.elapsedTime / 1_000)
  })
  return () => answered
}
