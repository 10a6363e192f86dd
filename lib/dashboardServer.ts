/** The HTTP side of the dashboard, on this machine alone: the page, what it is told and what it may ask for. */
import { fileURLToPath } from 'node:url'
import rateLimit from '@fastify/rate-limit'
import fastifyStatic from '@fastify/static'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { addControlRoutes, type ControlOptions } from './dashboardControls.ts'
import { RefusedError } from './dashboardErrors.ts'
import type { EventStream } from './dashboardStream.ts'
import { isLoopback } from './health.ts'
import type { Logger } from './log.ts'
import { Problem, problemAnswerer } from './problem.ts'

export interface DashboardServerOptions extends ControlOptions {
  /** The first port that is tried; 0 for any that is free. */
  port: number
  stream: EventStream
  /** What a client is sent when it begins to listen. */
  greeting(): string
  /** What else can be asked for; errors are answered as lib/problem.ts does. */
  routes: readonly FastifyPluginAsync[]
  log: Logger
}

export interface DashboardServer {
  url: string
  close(): Promise<void>
}

const WEB = fileURLToPath(new URL('../web', import.meta.url))
const UPLOT = fileURLToPath(new URL('../node_modules/uplot/dist', import.meta.url))
const VENDOR_FILES = ['/uPlot.esm.js', '/uPlot.min.css']
const HOST = '127.0.0.1'
const PORTS_TRIED = 50
const MAX_BODY_BYTES = 65_536

/** Everything comes from here, and nothing is asked of anybody else; no other page may show this one or read from it. */
const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
}

/** Takes the next free port when the first is taken. @throws what `listen` throws when none can be had */
export async function startDashboardServer(options: DashboardServerOptions): Promise<DashboardServer> {
  for (let attempt = 0; ; attempt++) {
    const server = await buildServer(options)
    try {
      const url = await server.listen({ host: HOST, port: options.port === 0 ? 0 : options.port + attempt })
      return { url, close: () => close(server, options.stream) }
    } catch (error) {
      await server.close()
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || attempt >= PORTS_TRIED) throw error
    }
  }
}

async function close(server: FastifyInstance, stream: EventStream): Promise<void> {
  stream.close()
  await server.close()
}

async function buildServer(options: DashboardServerOptions): Promise<FastifyInstance> {
  const { log, routes } = options
  const answerProblem = problemAnswerer(log)
  const server = Fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: 30_000,
    forceCloseConnections: true,
    frameworkErrors: (error, _request, reply) => void answerProblem(error, reply),
  })
  server.removeContentTypeParser('text/plain')
  server.setErrorHandler((error, _request, reply) => answerProblem(error, reply))
  server.setNotFoundHandler((_request, reply) =>
    answerProblem(new RefusedError(404, 'there is nothing here: the page is at /'), reply),
  )
  server.addHook('onRequest', async ({ headers: { host } }, reply) => {
    reply.headers(SECURITY_HEADERS)
    if (!isLoopback(host)) {
      throw new RefusedError(421, 'the dashboard is asked for at 127.0.0.1 or localhost, by no other name')
    }
  })
  await server.register(rateLimit, { global: false })
  addFiles(server)
  addEvents(server, options)
  addControlRoutes(server, options)
  for (const route of routes) await server.register(route)
  return server
}

function addFiles(server: FastifyInstance): void {
  // Asked for again each time, and not sent again while it is the same.
  const files = { cacheControl: true, maxAge: 0, dotfiles: 'deny' } as const
  server.register(fastifyStatic, { ...files, root: WEB, prefix: '/' })
  server.register(fastifyStatic, {
    ...files,
    root: UPLOT,
    prefix: '/vendor/',
    decorateReply: false,
    allowedPath: (path) => VENDOR_FILES.includes(path),
  })
}

function addEvents(server: FastifyInstance, { stream, greeting }: DashboardServerOptions): void {
  server.get('/events', (_request, reply) => {
    if (stream.isFull) throw new Problem('unavailable', 'too many pages look already: close some')
    reply.hijack()
    stream.add(reply.raw, SECURITY_HEADERS, greeting())
  })
}
