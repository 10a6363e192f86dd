/** What can be asked of the order view. */
import { type Database, query } from './database.ts'
import type { Reason } from './events.ts'
import { ORDER_STATUSES, type OrderStatus, STATUS_RANKS } from './orderView.ts'
import { usualEventId } from './orderViewStore.ts'

/** Money in minor units. */
export interface ViewedOrder {
  orderId: string
  status: OrderStatus
  customerId: string
  currency: string
  total: number
  placedAt: string
  updatedAt: string
  reasons: Reason[]
  shipmentNumber?: string
}

interface ViewedEvent {
  time: string
  type: string
  /** What it says, where one type says several things: RESERVED, or a verdict. */
  outcome?: string
  topic: string
  partition: number
  offset: number
  eventId: string
}

interface OrderFilter {
  customerId?: string | undefined
  status?: OrderStatus | undefined
}

/** Where a page ends: the next one begins behind this order. */
export interface PageEnd {
  placedAtMs: number
  orderId: string
}

interface OrderRow {
  order_id: string
  status: number
  customer_id: string
  currency: string
  total_minor: number
  placed_at_ms: number
  updated_at_ms: number
  reasons: string | null
  shipment_number: string | null
}

/** An order with its timeline, in the order of what happened; undefined while no event of it has been seen. */
export async function findOrder(
  database: Database,
  orderId: string,
): Promise<{ order: ViewedOrder | undefined; events: ViewedEvent[] } | undefined> {
  const [orders, events] = await Promise.all([
    query<OrderRow>(database, {
      name: 'find-viewed-order',
      text: 'SELECT * FROM order_view.orders WHERE order_id = $1',
      values: [orderId],
    }),
    findEvents(database, orderId),
  ])
  const [row] = orders
  if (!row && events.length === 0) return undefined
  return { order: row && toOrder(row), events }
}

async function findEvents(database: Database, orderId: string): Promise<ViewedEvent[]> {
  interface EventRow {
    label: string
    topic: string
    partition: number
    log_offset: number
    event_id: string | null
    occurred_at_ms: number
  }
  const rows = await query<EventRow>(database, {
    name: 'find-viewed-events',
    text: `SELECT labels.name AS label, topics.name AS topic, partition, log_offset, event_id, occurred_at_ms
           FROM order_view.events
           JOIN order_view_names AS topics ON topics.id = events.topic
           JOIN order_view_names AS labels ON labels.id = events.label
           WHERE order_id = $1 ORDER BY occurred_at_ms, events.topic, log_offset`,
    values: [orderId],
  })
  return rows.map(({ label, topic, partition, log_offset, event_id, occurred_at_ms }) => {
    const [type, outcome] = label.split(' ')
    return {
      time: toTime(occurred_at_ms),
      type: type!,
      ...(outcome !== undefined && { outcome }),
      topic,
      partition,
      offset: log_offset,
      eventId: event_id ?? usualEventId({ orderId, label }),
    }
  })
}

/** Newest first, by when they were placed. `end` is there if there are more. */
export async function listOrders(
  database: Database,
  { customerId, status }: OrderFilter,
  { after, limit }: { after?: PageEnd | undefined; limit: number },
): Promise<{ orders: ViewedOrder[]; end?: PageEnd }> {
  const values: unknown[] = []
  const bind = (value: unknown) => `$${values.push(value)}`
  const conditions = [
    ...(customerId === undefined ? [] : [`customer_id = ${bind(customerId)}`]),
    ...(status === undefined ? [] : [`status = ${bind(STATUS_RANKS[status])}`]),
    ...(after ? [`(placed_at_ms, order_id) < (${bind(after.placedAtMs)}, ${bind(after.orderId)})`] : []),
  ]
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  // One more than asked for, to see whether there is one.
  const rows = await query<OrderRow>(database, {
    text: `SELECT * FROM order_view.orders ${where}
           ORDER BY placed_at_ms DESC, order_id DESC LIMIT ${bind(limit + 1)}`,
    values,
  })
  const orders = rows.slice(0, limit).map(toOrder)
  if (rows.length <= limit) return { orders }
  const last = rows[limit - 1]!
  return { orders, end: { placedAtMs: last.placed_at_ms, orderId: last.order_id } }
}

function toOrder(row: OrderRow): ViewedOrder {
  return {
    orderId: row.order_id,
    status: ORDER_STATUSES.find((status) => STATUS_RANKS[status] === row.status)!,
    customerId: row.customer_id,
    currency: row.currency,
    total: row.total_minor,
    placedAt: toTime(row.placed_at_ms),
    updatedAt: toTime(row.updated_at_ms),
    reasons: row.reasons === null ? [] : (JSON.parse(row.reasons) as Reason[]),
    ...(row.shipment_number !== null && { shipmentNumber: row.shipment_number }),
  }
}

function toTime(ms: number): string {
  return new Date(ms).toISOString()
}
