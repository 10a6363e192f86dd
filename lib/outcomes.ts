import { type Client, query } from './database.ts'

/** What was decided for one order: the event to publish, kept so that it can be published again as it was. */
export interface StoredOutcome {
  orderId: string
  /** The position that caused it; see {@link InputRecord.source}. */
  source: string
  /** The event as it was sent, JSON. */
  event: string
  note: string
}

export type OutcomeTable = 'inventory_outcomes' | 'payment_outcomes'

/** The outcomes that are stored already for these orders, by order id. */
export async function findOutcomes(
  client: Client,
  table: OutcomeTable,
  operation: string,
  orderIds: string[],
): Promise<Map<string, StoredOutcome>> {
  const rows = await query<StoredOutcome>(client, {
    name: `find-${table}`,
    text: `SELECT order_id AS "orderId", source, event, note FROM ${table}
           WHERE operation = $1 AND order_id = ANY($2)`,
    values: [operation, orderIds],
  })
  return new Map(rows.map((row) => [row.orderId, row]))
}

/**
 * Stores new outcomes; belongs in the transaction of their effect. Sorted, so that two writers cannot deadlock.
 *
 * @throws UnavailableError when one of the orders was stored by somebody else in the meantime: the whole
 * transaction is to be tried again, and will find it
 */
export async function storeOutcomes(
  client: Client,
  table: OutcomeTable,
  operation: string,
  outcomes: readonly StoredOutcome[],
): Promise<void> {
  if (outcomes.length === 0) return
  const sorted = [...outcomes].sort((a, b) => (a.orderId < b.orderId ? -1 : 1))
  await query(client, {
    name: `store-${table}`,
    text: `INSERT INTO ${table} (order_id, operation, source, event, note)
           SELECT order_id, $1, source, event, note
           FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS new (order_id, source, event, note)`,
    values: [
      operation,
      sorted.map(({ orderId }) => orderId),
      sorted.map(({ source }) => source),
      sorted.map(({ event }) => event),
      sorted.map(({ note }) => note),
    ],
  })
}
