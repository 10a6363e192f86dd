/**
 * Speaks to the payment gateway so that a payment is made once, however often it is asked for: one idempotency
 * key for each order and operation, and answers that say nothing (none, 5xx, 429) are asked for again.
 */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
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

export interface Payment {
  orderId: string
  amountMinor: number
  currency: string
}

export type Authorisation =
  | { status: 'authorised'; authorisationId: string }
  | { status: 'declined'; reason: string }

export interface GatewayClientOptions {
  url: string
  /** Of each try. */
  timeoutMs: number
  /** Most requests under way at once, whoever asks. */
  concurrency: number
  log: Logger
  /** Told of each try that is going to be repeated. */
  onRetry?: (reason: Error) => void
}

export interface GatewayClient {
  /**
   * Asks for the amount to be held for the order, once.
   *
   * @throws UnavailableError when the gateway gives no answer: to be asked again, whether it charged is not known
   * @throws Error when it refuses the request itself, which is a bug of ours
   */
  authorise(payment: Payment): Promise<Authorisation>
  /** Whether requests are held back for now because the gateway did not answer. */
  readonly isBreakerOpen: boolean
  close(): void
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

type Send = (path: string, idempotencyKey: string, body: string) => Promise<Answer>

export function createGatewayClient(options: GatewayClientOptions): GatewayClient {
  const { send, dropIdleConnections, close } = createSender(options)
  const { policy, breaker } = createPolicy(options)
  // They may lead to a host that has vanished without a word, and once its successor is there each would cost a timeout.
  breaker.onBreak(dropIdleConnections)

  /** One POST, repeated until it has a definitive answer or is given up. */
  async function post(path: string, idempotencyKey: string, payment: Payment): Promise<unknown> {
    const { orderId, amountMinor: amount, currency } = payment
    const body = JSON.stringify({ orderId, amount, currency })
    let answer: Answer
    try {
      answer = await policy.execute(() => send(path, idempotencyKey, body))
    } catch (error) {
      // With the breaker open, what opened it is the reason that helps.
      const failure = error instanceof BrokenCircuitError ? breaker.lastFailure : undefined
      throw new UnavailableError('payment gateway', failure && 'error' in failure ? failure.error : error)
    }
    if (answer.statusCode === 200) return JSON.parse(answer.body)
    throw new Error(
      `the payment gateway refused ${path} for ${orderId}: ${answer.statusCode} ${answer.body.slice(0, 500)}`,
    )
  }

  return {
    async authorise(payment) {
      const answer = await post('/authorisations', `${payment.orderId}:authorise`, payment)
      return toAuthorisation(answer, payment.orderId)
    },
    get isBreakerOpen() {
      return breaker.state !== CircuitState.Closed
    },
    close,
  }
}

function toAuthorisation(answer: unknown, orderId: string): Authorisation {
  const { status, authorisationId, reason } = answer as Record<string, unknown>
  if (status === 'authorised' && typeof authorisationId === 'string') return { status, authorisationId }
  if (status === 'declined' && typeof reason === 'string') return { status, reason }
  throw new Error(`the payment gateway's answer for ${orderId} is none: ${JSON.stringify(answer)}`)
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
  const base = url.replace(/\/+$/, '')

  const send: Send = (path, idempotencyKey, body) =>
    new Promise((resolve, reject) => {
      const fail = (error: Error) => reject(new NoAnswerError(describe(error), { cause: error }))
      const outgoing = request(base + path, {
        agent,
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          'idempotency-key': idempotencyKey,
        },
      })
      const onTimeout = () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`))
      const timer = setTimeout(onTimeout, timeoutMs)
      outgoing.on('close', () => clearTimeout(timer))
      outgoing.on('error', fail)
      outgoing.on('response', (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', fail)
        incoming.on('end', () => {
          const { statusCode = 0, headers } = incoming
          const answer = { statusCode, headers, body: Buffer.concat(chunks).toString('utf8') }
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
  return { send, dropIdleConnections, close: () => agent.destroy() }
}

/** What the answer is worth: undefined when it is definitive. */
function toRetryableError({ statusCode, headers, body }: Answer): Error | undefined {
  if (statusCode === 429) return new ThrottledError(parseRetryAfterMs(headers['retry-after']))
  if (statusCode >= 500) return new NoAnswerError(`it answers ${statusCode} ${body.slice(0, 200)}`)
  return undefined
}

/** Seconds or a date, RFC 9110 section 10.2.3; 0 when there is none. */
function parseRetryAfterMs(value: string | undefined): number {
  if (value === undefined) return 0
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS)
}
