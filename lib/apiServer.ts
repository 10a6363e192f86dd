/** The HTTP server: validation, errors, limits, documents and routes put together. */
import rateLimit from '@fastify/rate-limit'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyInstance, type FastifySchema } from 'fastify'
import type { Registry } from 'prom-client'
import Type, { type TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Settings } from 'typebox/system'
import { Convert, Default } from 'typebox/value'
import { callerOf, requireTokens } from './apiAccess.ts'
import type { OrderIntake } from './apiIntake.ts'
import { addOrderRoutes } from './apiOrders.ts'
import { addProductRoutes } from './apiProducts.ts'
import { type Database, query } from './database.ts'
import { ConfigurationError } from './errors.ts'
import { addHttpMetrics } from './httpMetrics.ts'
import type { IdempotencyStore } from './idempotency.ts'
import type { Logger } from './log.ts'
import { Problem, problemAnswerer, toFieldErrors } from './problem.ts'
import type { ProductContext } from './products.ts'
import { traceRequests } from './tracingHttp.ts'

export interface ApiOptions {
  host: string
  /** 0 for any that is free. */
  port: number
  tokens: readonly string[]
  maxBodyBytes: number
  /** Of all requests whose bodies are being read or that are not answered yet. */
  maxBodiesBytes: number
  /** For each address; 0 for as many as it likes. */
  maxRequestsPerSecond: number
  version: string
  database: Database
  store: IdempotencyStore
  intake: OrderIntake
  sender: { readonly isConnected: boolean }
  products: ProductContext
  asyncApi: object
  metrics: Registry
  log: Logger
}

export interface Api {
  url: string
  /** Requests so far. */
  countAnswered(): number
  /** Takes nothing new, and resolves when all that is under way is answered. */
  close(): Promise<void>
}

/** TypeBox stops at eight, of which there are two for a property that is not known. */
const MAX_SCHEMA_ERRORS = 100
/** How long a client may take to send its request. */
const REQUEST_WITHIN_MS = 30_000
const CLOSE_IDLE_EVERY_MS = 50

/** @throws ConfigurationError when the port is taken */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { host, port, log } = options
  const { server, countAnswered } = await buildServer(options)
  try {
    const url = await server.listen({ host, port })
    return { url, countAnswered, close: () => closeServer(server) }
  } catch (error) {
    await server.close()
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    log.debug({ error }, 'the port is taken')
    const message = `the API cannot listen on ${host}:${port}, another program does: stop it or set API_PORT`
    throw new ConfigurationError(message, { cause: error })
  }
}

/** Connections that are idle by then are closed at once; those that answer yet, as soon as they have. */
async function closeServer(server: FastifyInstance): Promise<void> {
  const timer = setInterval(() => server.server.closeIdleConnections(), CLOSE_IDLE_EVERY_MS)
  try {
    await server.close()
  } finally {
    clearInterval(timer)
  }
}

async function buildServer(
  options: ApiOptions,
): Promise<{ server: FastifyInstance } & Pick<Api, 'countAnswered'>> {
  const { log, maxBodyBytes, maxRequestsPerSecond, tokens } = options
  Settings.Set({ maxErrors: MAX_SCHEMA_ERRORS })
  const answerProblem = problemAnswerer(log)
  const server = Fastify({
    logger: false,
    bodyLimit: maxBodyBytes,
    requestTimeout: REQUEST_WITHIN_MS,
    // Of a path that cannot be read.
    frameworkErrors: (error, _request, reply) => void answerProblem(error, reply),
    // refuseWhenClosing does, as a problem.
    return503OnClosing: false,
  })
  server.removeContentTypeParser('text/plain')
  server.setValidatorCompiler(({ schema, httpPart }) => compile(schema as TSchema, httpPart ?? 'request'))
  // Answers are made here and need no filter.
  server.setSerializerCompiler(() => JSON.stringify)
  server.setErrorHandler((error, _request, reply) => answerProblem(error, reply))
  if (maxRequestsPerSecond > 0) {
    await server.register(rateLimit, { max: maxRequestsPerSecond, timeWindow: 1_000 })
  }
  const limits = maxRequestsPerSecond > 0 ? { preHandler: server.rateLimit() } : {}
  server.setNotFoundHandler(limits, (_request, reply) =>
    answerProblem(Object.assign(new Error('see /docs for what there is'), { statusCode: 404 }), reply),
  )
  const countAnswered = addHttpMetrics(server, options.metrics)
  traceRequests(server)
  refuseWhenClosing(server)
  await addDocuments(server, options)
  requireTokens(server, tokens)
  limitBodies(server, options)
  addHealth(server, options)
  addOrderRoutes(server, { ...options, callerOf })
  addProductRoutes(server, options.products)
  return { server, countAnswered }
}

function refuseWhenClosing(server: FastifyInstance): void {
  let isClosing = false
  server.addHook('preClose', async () => {
    isClosing = true
  })
  server.addHook('onRequest', async () => {
    if (isClosing) throw new Problem('unavailable', 'this API is ending')
  })
}

/** Takes so much of requests at a time: a body is in memory from its first byte until it is answered. */
function limitBodies(server: FastifyInstance, { maxBodyBytes, maxBodiesBytes }: ApiOptions): void {
  let takenBytes = 0
  server.addHook('preParsing', async ({ headers }, reply) => {
    const { 'content-length': length, 'transfer-encoding': encoding } = headers
    const bytes = Math.min(Number(length ?? (encoding === undefined ? 0 : maxBodyBytes)), maxBodyBytes)
    if (takenBytes + bytes > maxBodiesBytes) {
      throw new Problem('unavailable', 'too many requests are being read')
    }
    takenBytes += bytes
    reply.raw.once('close', () => {
      takenBytes -= bytes
    })
  })
}

/** What comes in a URL is text, and is read as what it should be; a body has to say it right. */
function compile(schema: TSchema, part: string) {
  const check = Compile(schema)
  const read =
    part === 'querystring' || part === 'params'
      ? (value: unknown) => Default(schema, Convert(schema, value))
      : (value: unknown) => value
  return (given: unknown) => {
    const value = read(given)
    if (check.Check(value)) return { value }
    const errors = toFieldErrors(check.Errors(value), part)
    const detail = errors.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; ')
    return { error: new Problem('invalid-request', `${part}: ${detail}`.slice(0, 500), errors) }
  }
}

async function addDocuments(
  server: FastifyInstance,
  { version, tokens, asyncApi }: ApiOptions,
): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Order pipeline',
        version,
        description:
          'Places orders and tells what became of them. Money is in minor units, prices include tax, times are ISO ' +
          '8601 in UTC. Errors are application/problem+json (RFC 9457). The topics: /asyncapi.json.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    },
    transform: ({ schema, url }) => ({ schema: describeAnswers(schema, tokens.length > 0), url }),
  })
  await server.register(swaggerUi, {
    routePrefix: '/docs',
    // Everything comes from here: the page asks nobody else, and may not.
    staticCSP: true,
    uiConfig: { validatorUrl: null },
  })
  server.get('/asyncapi.json', { schema: { hide: true } }, () => asyncApi)
}

/** Problems have a content type of their own; and no token is asked for where none is set. */
function describeAnswers(schema: FastifySchema | undefined, hasTokens: boolean): FastifySchema {
  const {
    response = {},
    security,
    ...rest
  } = (schema ?? {}) as FastifySchema & {
    response?: Record<string, TSchema>
  }
  const described = Object.entries(response).map(([status, content]) => {
    const description = STATUS_DESCRIPTIONS[status] ?? 'Done'
    const type = Number(status) < 400 ? 'application/json' : 'application/problem+json'
    return [status, { description, content: { [type]: { schema: content } } }]
  })
  return { ...rest, response: Object.fromEntries(described), ...(hasTokens && security && { security }) }
}

const STATUS_DESCRIPTIONS: Readonly<Record<string, string>> = {
  202: 'Accepted',
  400: 'Not of the right form; each field that is wrong is named',
  401: 'A token is needed',
  404: 'There is no such thing',
  409: 'Not in this state',
  413: 'Too large',
  415: 'Not of a type that is taken',
  422: 'Used before, for something else',
  429: 'Too many requests',
  503: 'Not available at present: ask again after Retry-After',
}

function addHealth(server: FastifyInstance, { database, sender, intake }: ApiOptions): void {
  const unlimited = { config: { rateLimit: false } }
  const Report = Type.Object({
    ready: Type.Boolean(),
    kafka: Type.Boolean(),
    database: Type.Boolean(),
    waiting: Type.Integer(),
  })
  server.get(
    '/health/live',
    { ...unlimited, schema: { tags: ['health'], response: { 200: Type.Object({ live: Type.Boolean() }) } } },
    async () => ({ live: true }),
  )
  server.get(
    '/health/ready',
    {
      ...unlimited,
      schema: {
        tags: ['health'],
        summary: 'Whether orders are taken',
        response: { 200: Report, 503: Report },
      },
    },
    async (_request, reply) => {
      const isAnswered = await query(database, { text: 'SELECT 1' }).then(
        () => true,
        () => false,
      )
      const ready = isAnswered && sender.isConnected
      if (!ready) reply.code(503)
      return { ready, kafka: sender.isConnected, database: isAnswered, waiting: intake.waiting }
    },
  )
}
