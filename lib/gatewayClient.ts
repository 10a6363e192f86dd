/**
 * Speaks to the payment gateway so that a payment is made once, however often it is asked for: one idempotency
 * key for each order and operation, and answers that say nothing (none, 5xx, 429) are asked for again.
 */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { urlToHttpOptions } from 'node:url'
import {
  BrokenCircuitError,
  bulkhead,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  DelegateBackoff,
  handleType,
  type IRetryBackoffContext,
  retry,
  wrap,
} from 'cockatiel'
import { describe, UnavailableError } from './errors.ts'
import type { Logger } from './log.ts'
import { TRACEPARENT_HEADER } from './record.ts'
import { tracing } from './tracing.ts'

export interface Payment {
  orderId: string
  amountMinor: number
  currency: string
  /** The context of the trace that it is asked for in. */
  traceparent?: string
}

/** The definitive answers to each operation. */
export interface GatewayAnswers {
  authorise: { status: 'authorised'; authorisationId: string } | { status: 'declined'; reason: string }
  capture: { status: 'captured'; authorisationId: string }
  /** Without an authorisation there was nothing to void, and nothing will be authorised any more. */
  void: { status: 'voided'; authorisationId?: string }
}
export type GatewayOperation = keyof GatewayAnswers
export type GatewayAnswer = GatewayAnswers[GatewayOperation]

export interface GatewayClientOptions {
  url: string
  /** Of each try. */
  timeoutMs: number
  /** Most requests under way at once, whoever asks. */
  concurrency: number
  log: Logger
  /** Told of each try that is going to be repeated. */
  onRetry?: (reason: Error) => void
  /** Told of each try when it is over. */
  onTry?: (operation: GatewayOperation, result: TryResult, seconds: number) => void
}

/** answered: for good, whatever the answer is; throttled: 429; no-answer: it may have done what it was asked for. */
export type TryResult = 'answered' | 'throttled' | 'no-answer'

/**
 * Each operation is done once for an order, however often it is asked for. All of them throw an UnavailableError when the
 * gateway gives no answer: to be asked again, whether it was done is not known; and an Error when it refuses the request
 * itself, which is a bug of ours.
 */
export interface GatewayClient {
  /** Asks for the amount to be held. */
  authorise(payment: Payment): Promise<GatewayAnswers['authorise']>
  /** Asks for the amount to be taken, of what is held. */
  capture(payment: Payment): Promise<GatewayAnswers['capture']>
  /** Asks for what is held, which is the amount, to be let go, and for nothing to be held from now on. */
  void(payment: Payment): Promise<GatewayAnswers['void']>
  /** Whether requests are held back for now because the gateway did not answer. */
  readonly isBreakerOpen: boolean
  close(): void
}

const PATHS: Record<GatewayOperation, string> = {
  authorise: '/authorisations',
  capture: '/captures',
  void: '/voids',
}

/** Repetitions of one request before whoever asked is told; the processor then waits and begins again. */
const MAX_RETRIES = 5
const FIRST_BACKOFF_MS = 50
const MAX_BACKOFF_MS = 2_000
/** More than a gateway may ask for is not waited: it would hold up a whole batch. */
const MAX_RETRY_AFTER_MS = 5_000
/**
 * Failures in a row that open the breaker. In a row: a gateway of which every second answer fails is slow but
 * does work, and twenty in a row have then a chance of one in a million.
 */
const BREAK_AFTER_FAILURES = 20
const HALF_OPEN_AFTER_MS = 500

/** The gateway did not answer, or answered 5xx. It may have done what it was asked for. */
class NoAnswerError extends Error {}

/** The gateway answered 429: it is there, and did nothing. */
class ThrottledError extends Error {
  readonly retryAfterMs: number
  constructor(retryAfterMs: number) {
    super('it answers 429, too many requests')
    this.retryAfterMs = retryAfterMs
  }
}

interface Answer {
  statusCode: number
  headers: IncomingMessage['headers']
  body: string
}

type Send = (path: string, idempotencyKey: string, body: string, traceparent?: string) => Promise<Answer>

export function createGatewayClient(options: GatewayClientOptions): GatewayClient {
  const { send, dropIdleConnections, close } = createSender(options)
  const { policy, breaker } = createPolicy(options)
  // They may lead to a host that has vanished without a word, and once its successor is there each would cost a timeout.
  breaker.onBreak(dropIdleConnections)

  /** One POST, repeated until it has a definitive answer or is given up. */
  async function ask<Operation extends GatewayOperation>(
    operation: Operation,
    { orderId, amountMinor: amount, currency, traceparent }: Payment,
  ): Promise<GatewayAnswers[Operation]> {
    const path = PATHS[operation]
    const body = JSON.stringify({ orderId, amount, currency })
    let answer: Answer
    try {
      answer = await policy.execute(() =>
        tryOnce(operation, () => send(path, `${orderId}:${operation}`, body, traceparent)),
      )
    } catch (error) {
      // With the breaker open, what opened it is the reason that helps.
      const failure = error instanceof BrokenCircuitError ? breaker.lastFailure : undefined
      throw new UnavailableError('payment gateway', failure && 'error' in failure ? failure.error : error)
    }
    if (answer.statusCode === 200) return readAnswer(operation, orderId, answer.body)
    throw new Error(
      `the payment gateway refused ${path} for ${orderId}: ${answer.statusCode} ${answer.body.slice(0, 500)}`,
    )
  }

  async function tryOnce(operation: GatewayOperation, send: () => Promise<Answer>): Promise<Answer> {
    const startedMs = performance.now()
    let result: TryResult = 'no-answer'
    try {
      const answer = await send()
      result = 'answered'
      return answer
    } catch (error) {
      if (error instanceof ThrottledError) result = 'throttled'
      throw error
    } finally {
      options.onTry?.(operation, result, (performance.now() - startedMs) / 1_000)
    }
  }

  return {
    authorise: (payment) => ask('authorise', payment),
    capture: (payment) => ask('capture', payment),
    void: (payment) => ask('void', payment),
    get isBreakerOpen() {
      return breaker.state !== CircuitState.Closed
    },
    close,
  }
}

/** What the fields of an answer say; undefined when that is no answer to the operation. */
const READERS: {
  [Operation in GatewayOperation]: (fields: AnswerFields) => GatewayAnswers[Operation] | undefined
} = {
  authorise({ status, authorisationId, reason }) {
    if (status === 'authorised' && authorisationId !== undefined) return { status, authorisationId }
    return status === 'declined' && reason !== undefined ? { status, reason } : undefined
  },
  capture: ({ status, authorisationId }) =>
    status === 'captured' && authorisationId !== undefined ? { status, authorisationId } : undefined,
  void({ status, authorisationId }) {
    if (status !== 'voided') return undefined
    return authorisationId === undefined ? { status } : { status, authorisationId }
  },
}

interface AnswerFields {
  status?: string
  authorisationId?: string
  reason?: string
}

/** @throws Error when this is no answer to the operation */
function readAnswer<Operation extends GatewayOperation>(
  operation: Operation,
  orderId: string,
  body: string,
): GatewayAnswers[Operation] {
  const answer = READERS[operation](JSON.parse(body))
  if (answer) return answer
  throw new Error(`the payment gateway's answer to ${operation} ${orderId} is none: ${body.slice(0, 500)}`)
}

/**
 * From the outside in:
 *
 *   - retry: a request that waits for its next try takes up no slot
 *   - bulkhead: bounds what is under way. Those that wait are bounded by whoever asks (batches of all tasks)
 *   - breaker: asked when a slot is free, so those that waited while it opened do not all try in vain
 *   - timeout: of a single try, where it is sent. Cockatiel's own hangs a listener on one signal that all calls share
 */
function createPolicy({ concurrency, log, onRetry }: GatewayClientOptions) {
  const retries = retry(handleType(NoAnswerError).orType(ThrottledError), {
    maxAttempts: MAX_RETRIES,
    backoff: new DelegateBackoff(backoffMs),
  })
  const breaker = circuitBreaker(handleType(NoAnswerError), {
    breaker: new ConsecutiveBreaker(BREAK_AFTER_FAILURES),
    halfOpenAfter: HALF_OPEN_AFTER_MS,
  })
  retries.onRetry((failure) => {
    if ('error' in failure) onRetry?.(failure.error)
  })
  breaker.onBreak(() => log.debug('the payment gateway does not answer: requests are held back'))
  breaker.onReset(() => log.info('the payment gateway answers again'))
  const slots = bulkhead(concurrency, Number.POSITIVE_INFINITY)
  return { policy: wrap(retries, slots, breaker), breaker }
}

/**
 * Exponential with full jitter: any time up to the ceiling, so that those who failed together do not come back
 * together (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A gateway that said
 * when to come back is believed, within reason, and the jitter is added.
 */
function backoffMs({ attempt, result }: IRetryBackoffContext<unknown>): number {
  const jitterMs = Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** attempt)
  const error = 'error' in result ? result.error : undefined
  return error instanceof ThrottledError ? error.retryAfterMs + jitterMs : jitterMs
}

/** Plain node:http with connections that stay: half the CPU of fetch() at this size of request. */
function createSender({ url, timeoutMs, concurrency }: GatewayClientOptions): {
  send: Send
  dropIdleConnections: () => void
  close: () => void
} {
  const isTls = new URL(url).protocol === 'https:'
  const agent = new (isTls ? HttpsAgent : Agent)({ keepAlive: true, maxSockets: concurrency })
  const request = isTls ? httpsRequest : httpRequest
  const { host, pathname } = new URL(url)
  const target = urlToHttpOptions(new URL(url))
  const base = pathname.replace(/\/+$/, '')
  const commonHeaders = ['host', host, 'content-type', 'application/json']
  if (target.auth) commonHeaders.push('authorization', `Basic ${Buffer.from(target.auth).toString('base64')}`)

  const send: Send = (path, idempotencyKey, body, traceparent) =>
    new Promise((resolve, reject) => {
      const fail = (error: Error) => reject(new NoAnswerError(describe(error), { cause: error }))
      const outgoing = request({
        ...target,
        path: base + path,
        agent,
        method: 'POST',
        // As a list they are sent as they are, and not looked at one by one.
        headers: [
          ...commonHeaders,
          ...['content-length', String(Buffer.byteLength(body)), 'idempotency-key', idempotencyKey],
          ...(traceparent === undefined ? [] : [TRACEPARENT_HEADER, traceparent]),
        ],
      })
      const onTimeout = () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`))
      const timer = setTimeout(onTimeout, timeoutMs)
      outgoing.on('close', () => clearTimeout(timer))
      outgoing.on('error', fail)
      outgoing.on('response', (incoming) => {
        let text = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (chunk: string) => {
          text += chunk
        })
        incoming.on('error', fail)
        incoming.on('end', () => {
          const { statusCode = 0, headers } = incoming
          const answer = { statusCode, headers, body: text }
          const error = toRetryableError(answer)
          if (error) reject(error)
          else resolve(answer)
        })
      })
      outgoing.end(body)
    })
  const dropIdleConnections = () => {
    for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy()
  }
  return { send: traced(send, new URL(url)), dropIdleConnections, close: () => agent.destroy() }
}

/** Each try is a span of its own. */
function traced(send: Send, { hostname: host, port, protocol }: URL): Send {
  const address = { host, port: Number(port || (protocol === 'https:' ? 443 : 80)) }
  return async (path, idempotencyKey, body, parent) => {
    const span = tracing?.request({ kind: 'client', method: 'POST', route: path, address }, parent)
    try {
      const answer = await send(path, idempotencyKey, body, span?.traceparent ?? parent)
      span?.end(undefined, answer.statusCode)
      return answer
    } catch (error) {
      span?.end(error instanceof ThrottledError ? '429' : 'no-answer')
      throw error
    }
  }
}

/**
 * What a gateway says about a request: done, or wrong (400), not possible (409), another one under this key (422). The rest,
 * such as 401 or 404, is about us or what is between, and no fault of an order.
 */
const DEFINITIVE = new Set([200, 400, 409, 422])

/** What the answer is worth: undefined when it is definitive. */
function toRetryableError({ statusCode, headers, body }: Answer): Error | undefined {
  if (statusCode === 429) return new ThrottledError(parseRetryAfterMs(headers['retry-after']))
  if (DEFINITIVE.has(statusCode)) return undefined
  return new NoAnswerError(`it answers ${statusCode} ${body.slice(0, 200)}`)
}

/** Seconds or a date, RFC 9110 section 10.2.3; 0 when there is none. */
function parseRetryAfterMs(value: string | undefined): number {
  if (value === undefined) return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS)
}
