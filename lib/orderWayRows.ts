/** What the database knows of one order: where its events lie, and the rows that its way has left. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, query } from './database.ts'
import { UnavailableError } from './errors.ts'
import { formatPosition } from './record.ts'

/** What a service stored for the order, keyed by operation. */
export interface StoredOutcome {
  service: string
  operation: string
  /** The position that caused it. */
  source: string
  note: string
  decidedAtMs: number
}

/** A row of the payment gateway's own books. Money in minor units. */
export interface LedgerRow {
  operation: string
  status: string
  amountMinor: number
  currency: string
  authorisationId: string | null
  reason: string | null
  answeredAtMs: number
}

/** A product's stock as it is now. */
export interface StockRow {
  sku: string
  received: number
  available: number
  reserved: number
  committed: number
}

export interface OrderRows {
  /** `topic/partition/offset` of the events that the order view or an outcome names. */
  positions: string[]
  /** When the API took it. */
  acceptedAtMs: number | undefined
  outcomes: StoredOutcome[]
  ledger: LedgerRow[]
}

const MAX_ROWS = 500
const MAX_PRODUCTS = 100
const OUTCOMES = ['inventory', 'payment', 'fraud', 'fulfilment']
  .map(
    (service) =>
      `SELECT '${service}' AS service, operation, source, note,
              floor(extract(epoch FROM decided_at) * 1000)::bigint AS "decidedAtMs"
       FROM ${service}_outcomes WHERE order_id = $1`,
  )
  .join(' UNION ALL ')

/** @throws UnavailableError */
export async function readOrderRows(database: Database, orderId: string): Promise<OrderRows> {
  const values = [orderId]
  const [events, outcomes, ledger, accepted] = await Promise.all([
    query<{ topic: string; partition: number; offset: number }>(database, {
      name: 'way-events',
      text: `SELECT names.name AS topic, partition, log_offset AS "offset" FROM order_view.events
             JOIN order_view_names AS names ON names.id = events.topic
             WHERE order_id = $1 LIMIT ${MAX_ROWS}`,
      values,
    }),
    query<StoredOutcome>(database, {
      name: 'way-outcomes',
      text: `${OUTCOMES} ORDER BY "decidedAtMs", service`,
      values,
    }),
    query<LedgerRow>(database, {
      name: 'way-ledger',
      text: `SELECT operation, status, amount_minor AS "amountMinor", currency,
                    authorisation_id AS "authorisationId", reason,
                    floor(extract(epoch FROM answered_at) * 1000)::bigint AS "answeredAtMs"
             FROM gateway.ledger WHERE order_id = $1 ORDER BY answered_at LIMIT ${MAX_ROWS}`,
      values,
    }),
    query<{ atMs: number }>(database, {
      name: 'way-accepted',
      text: 'SELECT accepted_at_ms AS "atMs" FROM api_orders WHERE order_id = $1',
      values,
    }),
  ])
  const viewed = events.map(({ topic, partition, offset }) => formatPosition(topic, partition, offset))
  return {
    positions: [...new Set([...viewed, ...outcomes.map(({ source }) => source)])],
    acceptedAtMs: accepted[0]?.atMs,
    outcomes,
    ledger,
  }
}

/** The stock of these products, the first {@link MAX_PRODUCTS} of them. @throws UnavailableError */
export async function readStock(database: Database, skus: readonly string[]): Promise<StockRow[]> {
  // PostgreSQL takes no NUL, so none is in its tables.
  const wanted = skus.filter((sku) => !sku.includes('\0')).slice(0, MAX_PRODUCTS)
  if (wanted.length === 0) return []
  return query<StockRow>(database, {
    name: 'way-stock',
    text: 'SELECT sku, received, available, reserved, committed FROM stock WHERE sku = ANY ($1) ORDER BY sku',
    values: [wanted],
  })
}

/** When the mail about an order was written into the outbox; undefined when there is none (yet). */
export async function findMail(outboxDir: string, orderId: string): Promise<number | undefined> {
  try {
    return (await stat(join(outboxDir, `${orderId}.eml`))).mtimeMs
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new UnavailableError('the outbox', error)
  }
}
