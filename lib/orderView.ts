/**
 * What the order view makes of an event: pure, and the same in whatever order and however often events come.
 */
import type {
  FraudAssessed,
  InventoryUpdated,
  OrderAssessed,
  OrderCancelled,
  OrderConfirmed,
  OrderRejected,
  OrderValidated,
  Reason,
} from './events.ts'
import type { InputRecord } from './record.ts'
import { judgeTopics, type Topic, type TopicTable } from './topics.ts'

/**
 * Where an order is, as a number that only ever grows:
 *
 *   - ACCEPTED: placed, and the validator has not spoken (known to the API alone)
 *   - REJECTED: refused by the validator. For good, unless the same order id was also found good: then this was said of
 *     a repetition
 *   - PENDING: valid, and being judged
 *   - CANCELLED, CONFIRMED: decided
 */
export const STATUS_RANKS = { ACCEPTED: 0, REJECTED: 1, PENDING: 2, CANCELLED: 3, CONFIRMED: 4 } as const
export type OrderStatus = keyof typeof STATUS_RANKS
export const ORDER_STATUSES = Object.keys(STATUS_RANKS) as OrderStatus[]

/** An order as one event describes it. Money in minor units, times in milliseconds since 1970. */
export interface OrderSummary {
  orderId: string
  status: OrderStatus
  /** Of the event. */
  offset: number
  customerId: string
  currency: string
  totalMinor: number
  placedAtMs: number
  updatedAtMs: number
  /** Why it was refused or cancelled, or confirmed with a mark. */
  reasons: Reason[]
  shipmentNumber: string | undefined
}

/** One event of an order's timeline. */
export interface TimelineEntry {
  orderId: string
  topic: string
  partition: number
  offset: number
  /** The type, and what it says where one type says several things: `InventoryUpdated RESERVED`. */
  label: string
  eventId: string
  occurredAtMs: number
}

type SummarisedEvent = OrderValidated | OrderRejected | OrderConfirmed | OrderCancelled
/** Of judges that are yet to come, only what all of them share is known here. */
type JudgeEvent = { type: string; eventId: string; occurredAt: string; orderId: string }
export type ViewEvent = SummarisedEvent | JudgeEvent
export type ViewRecord = Pick<InputRecord<ViewEvent>, 'topic' | 'partition' | 'offset' | 'event'>

/**
 * What the view reads. Not orders.raw: whatever is in there goes on to be validated or rejected, or is no order.
 */
export function viewedTopics(topics: TopicTable): Topic<ViewEvent>[] {
  // Each takes its own kind of event, and is only ever asked for what it has decoded itself.
  return [
    topics.ordersValidated,
    topics.ordersRejected,
    ...judgeTopics(topics),
    topics.ordersCompleted,
  ] as unknown as Topic<ViewEvent>[]
}

/** The line of the timeline that a record is. */
export function toTimelineEntry({ topic, partition, offset, event }: ViewRecord): TimelineEntry {
  const { orderId, eventId, occurredAt } = event
  return {
    orderId,
    topic,
    partition,
    offset,
    label: labelOf(event),
    eventId,
    occurredAtMs: Date.parse(occurredAt),
  }
}

function labelOf(event: ViewEvent): string {
  const { status, verdict } = event as Partial<InventoryUpdated & (FraudAssessed | OrderAssessed)>
  const outcome = event.type === 'InventoryUpdated' ? status : verdict
  return outcome === undefined ? event.type : `${event.type} ${outcome}`
}

/** What a record says about its order as a whole; undefined for the verdict of a judge, which says nothing of that. */
export function toSummary({ event, offset }: ViewRecord): OrderSummary | undefined {
  if (!isSummarised(event)) return undefined
  const { orderId, customerId, currency, total: totalMinor, placedAt, occurredAt } = event
  return {
    orderId,
    offset,
    customerId,
    currency,
    totalMinor,
    placedAtMs: Date.parse(placedAt),
    updatedAtMs: Date.parse(occurredAt),
    ...outcomeOf(event),
  }
}

const SUMMARISED = new Set(['OrderValidated', 'OrderRejected', 'OrderConfirmed', 'OrderCancelled'])

function isSummarised(event: ViewEvent): event is SummarisedEvent {
  return SUMMARISED.has(event.type)
}

function outcomeOf(event: SummarisedEvent): Pick<OrderSummary, 'status' | 'reasons' | 'shipmentNumber'> {
  switch (event.type) {
    case 'OrderValidated':
      return { status: 'PENDING', reasons: [], shipmentNumber: undefined }
    case 'OrderRejected':
      return { status: 'REJECTED', reasons: event.reasons, shipmentNumber: undefined }
    case 'OrderCancelled':
      return { status: 'CANCELLED', reasons: event.reasons, shipmentNumber: undefined }
    case 'OrderConfirmed':
      return { status: 'CONFIRMED', reasons: event.warnings, shipmentNumber: event.shipmentNumber }
  }
}

/**
 * What is known of an order from two of its events: the one that says more, and of two that say as much the one that
 * came first. All events of an order are in one partition, so status and offset put them into one order, and the
 * greatest is the same however they are taken together.
 */
export function mergeSummaries(one: OrderSummary, other: OrderSummary): OrderSummary {
  const byStatus = STATUS_RANKS[one.status] - STATUS_RANKS[other.status]
  return byStatus > 0 || (byStatus === 0 && one.offset <= other.offset) ? one : other
}

/** One summary for each order, sorted by order id, so that two writers cannot deadlock. */
export function summarise(records: readonly ViewRecord[]): OrderSummary[] {
  const byOrder = new Map<string, OrderSummary>()
  for (const record of records) {
    const summary = toSummary(record)
    if (!summary) continue
    const known = byOrder.get(summary.orderId)
    byOrder.set(summary.orderId, known ? mergeSummaries(known, summary) : summary)
  }
  return [...byOrder.values()].sort((a, b) => (a.orderId < b.orderId ? -1 : 1))
}
