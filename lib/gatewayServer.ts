/**
 * The HTTP side of the simulated payment gateway, with switches for the faults that a real one has.
 *
 *   POST /authorisations, /captures, /voids   {orderId, amount, currency}, header Idempotency-Key
 *   GET, PUT /faults                          the switches of this front end, changeable while it runs
 *   GET /health
 *
 * Answers: 200 with `status` (authorised, declined, captured, voided); 409 refused: what was asked for cannot be
 * done to this order; 422: the key was used for another request; 400: no proper request. These are for good. 429,
 * 500, 503 and a dropped connection say nothing: ask again with the same key.
 */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import Type, { type Static } from 'typebox'
import { sleep } from './async.ts'
import { ControlError, type Controls } from './controls.ts'
import { type Database, query } from './database.ts'
import { ConfigurationError, describe, UnavailableError } from './errors.ts'
import { GatewayLedger, type GatewayOperation, isSameRequest, type LedgerEntry } from './gatewayLedger.ts'
import { addHttpMetrics } from './httpMetrics.ts'
import type { Logger } from './log.ts'
import { traceRequests } from './tracingHttp.ts'

const Ratio = Type.Number({ minimum: 0, maximum: 1 })
const GatewaySettings = Type.Object(
  {
    /** Half of it to one and a half times as much, evenly spread. */
    latencyMs: Type.Number({ minimum: 0, maximum: 60_000 }),
    /** Of the orders, chosen by their id. The others are chosen by chance, of the requests. */
    declineRatio: Ratio,
    /** 500 before anything was done. */
    errorRatio: Ratio,
    /** 429 with Retry-After before anything was done. */
    throttleRatio: Ratio,
    /** Done and kept, and then the connection ends without an answer. */
    dropRatio: Ratio,
  },
  { additionalProperties: false },
)
export type GatewaySettings = Static<typeof GatewaySettings>

const PaymentBody = Type.Object({
  orderId: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$' }),
  amount: Type.Integer({ minimum: 1, maximum: 1e15 }),
  currency: Type.String({ pattern: '^[A-Z]{3}$' }),
})
type PaymentBody = Static<typeof PaymentBody>

const PaymentHeaders = Type.Object({ 'idempotency-key': Type.String({ pattern: '^[!-~]{1,200}$' }) })
type PaymentHeaders = Static<typeof PaymentHeaders>
/** Answers of which the form is known are written by a function made for it. */
const PaymentAnswer = Type.Object({
  orderId: Type.String(),
  status: Type.String(),
  amount: Type.Integer(),
  currency: Type.String(),
  authorisationId: Type.Optional(Type.String()),
  reason: Type.Optional(Type.String()),
})
type PaymentAnswer = Static<typeof PaymentAnswer>

type PaymentRequest = FastifyRequest<{ Body: PaymentBody; Headers: PaymentHeaders }>

const OPERATIONS: Readonly<Record<string, GatewayOperation>> = {
  '/authorisations': 'authorise',
  '/captures': 'capture',
  '/voids': 'void',
}
const RETRY_AFTER_SECONDS = 1

export interface GatewayOptions {
  /** Where the ledger is; migrated. Closed by whoever opened it. */
  database: Database
  settings: GatewaySettings
  /** 0 for any that is free. */
  port: number
  host?: string
  metrics: Registry
  log: Logger
}

export interface Gateway {
  url: string
  /** May be changed at any time. */
  settings: GatewaySettings
  /** Requests so far. */
  countAnswered(): number
  /** Told to break or to heal; see {@link GatewaySettings}. */
  controls: Controls
  close(): Promise<void>
}

/** @throws ConfigurationError when the port is taken */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { database, port, host = '127.0.0.1', metrics, log } = options
  const settings = { ...options.settings }
  const ledger = new GatewayLedger(database, () => settings.declineRatio)
  const server = Fastify({
    logger: false,
    // Connections that are kept alive would else hold up the end.
    forceCloseConnections: true,
    bodyLimit: 16_384,
    // What is sent as a text is no number.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  })
  server.setErrorHandler((error, _request, reply) => answerError(error, reply, log))
  const countAnswered = addHttpMetrics(server, metrics)
  traceRequests(server)
  const response = { 200: PaymentAnswer, 409: PaymentAnswer }
  const schema = { body: PaymentBody, headers: PaymentHeaders, response }
  for (const [path, operation] of Object.entries(OPERATIONS)) {
    server.post(path, { schema }, (request, reply) =>
      answerPayment(operation, request as PaymentRequest, reply, { ledger, settings }),
    )
  }
  addOperatorRoutes(server, database, settings)
  try {
    const url = await server.listen({ port, host })
    return {
      url,
      settings,
      countAnswered,
      controls: { faults: (body) => changeFaults(server, body) },
      close: () => server.close(),
    }
  } catch (error) {
    await server.close()
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    const message = `the payment gateway cannot listen on ${host}:${port}, another program does: stop it or set GATEWAY_PORT`
    throw new ConfigurationError(message, { cause: error })
  }
}

/** Faults strike before anything is done, but for the dropped connection, which is the one that tempts to charge twice. */
async function answerPayment(
  operation: GatewayOperation,
  { body, headers, raw }: PaymentRequest,
  reply: FastifyReply,
  { ledger, settings }: { ledger: GatewayLedger; settings: GatewaySettings },
): Promise<FastifyReply> {
  if (settings.latencyMs > 0) await sleep(settings.latencyMs * (0.5 + Math.random()))
  if (Math.random() < settings.throttleRatio) {
    return reply.code(429).header('retry-after', RETRY_AFTER_SECONDS).send({ error: 'too many requests' })
  }
  if (Math.random() < settings.errorRatio) return reply.code(500).send({ error: 'simulated error' })

  const { orderId, amount: amountMinor, currency } = body
  const request = { idempotencyKey: headers['idempotency-key'], operation, orderId, amountMinor, currency }
  const entry = await ledger.answer(request)
  if (Math.random() < settings.dropRatio) {
    reply.hijack()
    raw.socket.destroy()
    return reply
  }
  if (isSameRequest(entry, request)) {
    return reply.code(entry.status === 'refused' ? 409 : 200).send(toAnswer(entry))
  }
  return reply.code(422).send({ error: 'this idempotency key was used for another request' })
}

function toAnswer({
  orderId,
  status,
  authorisationId,
  amountMinor,
  currency,
  reason,
}: LedgerEntry): PaymentAnswer {
  return {
    orderId,
    status,
    amount: amountMinor,
    currency,
    ...(authorisationId === null ? {} : { authorisationId }),
    ...(reason === null ? {} : { reason }),
  }
}

function addOperatorRoutes(server: FastifyInstance, database: Database, settings: GatewaySettings): void {
  server.get('/faults', () => settings)
  server.put<{ Body: Partial<GatewaySettings> }>(
    '/faults',
    { schema: { body: Type.Partial(GatewaySettings, { additionalProperties: false, minProperties: 1 }) } },
    ({ body }) => Object.assign(settings, body),
  )
  server.get('/health', async () => {
    await query(database, { text: 'SELECT 1' })
    return { service: 'gateway', ready: true, settings }
  })
}

/** The same as anybody can ask for, with the same checks. */
async function changeFaults(server: FastifyInstance, body: unknown): Promise<unknown> {
  const response = await server.inject({ method: 'PUT', url: '/faults', payload: body as object })
  const answer = response.json<{ error?: string }>()
  if (response.statusCode !== 200) throw new ControlError(answer.error ?? 'the gateway does not take that')
  return answer
}

function answerError(error: unknown, reply: FastifyReply, log: Logger): FastifyReply {
  if (error instanceof UnavailableError) {
    log.debug(`the gateway answers 503: ${error.message}`)
    return reply.code(503).send({ error: error.message })
  }
  const { statusCode } = error as { statusCode?: number }
  if (statusCode !== undefined && statusCode < 500) {
    return reply.code(statusCode).send({ error: describe(error) })
  }
  log.error({ error }, `the gateway failed: ${describe(error)}`)
  return reply.code(500).send({ error: 'internal error' })
}
