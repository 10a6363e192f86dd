/** A request to one worker: what is in a file, made to a message that the worker takes. */
import { randomBytes } from 'node:crypto'
import { ConfigurationError, describe, UnusableRecordError } from './errors.ts'
import { eventIdOf, type OrderCancelled, type OrderValidated } from './events.ts'
import { JUDGE_NAMES, type JudgeName } from './judges.ts'
import { defineTopics, forwardedTopics, type Topic } from './topics.ts'

/** As much of an event as has to be known to send it. */
export interface RequestEvent {
  type: string
  orderId: string
  eventId: string
}

/** Events as they are before they are sealed. */
const PLAIN = defineTopics('')
/** Which times an event has that are now, unless the file says otherwise. */
const TIMES: Readonly<Record<string, readonly string[]>> = {
  OrderPlaced: ['placedAt'],
  OrderValidated: ['placedAt', 'validatedAt'],
}

/**
 * The request in a file: with an id of its own, so that the same file can be sent again, and as of now.
 *
 * @param keepId the ids and the time that the file has stay as they are
 * @throws ConfigurationError that names the file, the path in it and what is wrong
 */
export function parseRequest(
  file: string,
  text: string,
  { worker, keepId, nowMs }: { worker: string; keepId: boolean; nowMs: number },
): RequestEvent {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new ConfigurationError(`${file} is not usable: ${problem}`, { cause })
  }
  const content = parseObject(text, refuse)
  const event = complete(content, keepId, nowMs)
  try {
    return topicOf(worker).decode(Buffer.from(JSON.stringify(event))) as RequestEvent
  } catch (error) {
    if (error instanceof UnusableRecordError) return refuse(error.message, error)
    throw error
  }
}

function parseObject(text: string, refuse: (problem: string) => never): Record<string, unknown> {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (error) {
    return refuse(`not JSON: ${describe(error)}`)
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) {
    return content as Record<string, unknown>
  }
  return refuse('it takes one event, a JSON object')
}

function complete(content: Record<string, unknown>, keepId: boolean, nowMs: number): object {
  const type = String(content.type)
  const orderId = keepId ? content.orderId : `req-${randomBytes(8).toString('hex')}`
  const occurredAt = new Date(nowMs).toISOString()
  const fresh = { orderId, eventId: eventIdOf(String(orderId), type), occurredAt }
  const times = Object.fromEntries((TIMES[type] ?? []).map((name) => [name, occurredAt]))
  return keepId ? { ...times, ...fresh, ...content } : { ...times, ...content, ...fresh }
}

/** The topic whose events this worker takes; for one that is not ours, any event about an order will do. */
function topicOf(worker: string): Topic<unknown> {
  if (JUDGE_NAMES.includes(worker as JudgeName)) return PLAIN.ordersValidated as Topic<unknown>
  const topics = forwardedTopics(PLAIN)
  return topics.find(({ address }) => address === worker) ?? (PLAIN.answers as Topic<unknown>)
}

/** The decision that makes a judge undo what it did for a request. */
export function cancellationOf(order: OrderValidated, nowMs: number): OrderCancelled {
  const type = 'OrderCancelled'
  const { orderId, customerId, placedAt, currency, total } = order
  return {
    type,
    eventId: eventIdOf(orderId, type),
    occurredAt: new Date(nowMs).toISOString(),
    ...{ orderId, customerId, placedAt, currency, total },
    items: order.items.map(({ sku, quantity }) => ({ sku, quantity })),
    reasons: [{ code: 'trial', message: 'it was a request of npm run send' }],
  }
}
