import { type Client, type Database, query } from './database.ts'
import type { InputRecord, Outcome, Outgoing } from './record.ts'
import type { TopicSettings } from './topics.ts'

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

/** Where the outcomes of one operation are kept, and the topic that their events go to. */
export interface OutcomeStore {
  table: OutcomeTable
  operation: string
  topic: TopicSettings
}

/**
 * Decides each order once, whatever happens to the Kafka transaction that follows:
 *
 *   - the same position again (it was stored, and the Kafka transaction did not come about): the stored bytes
 *   - another position for an order that has its outcome, or a second one in these records: nothing
 *   - the rest: `decide`, then stored
 *
 * With a client that is in a transaction, look-up, effect and store are one. With a pool, the look-up and the
 * store are a statement and thus a transaction each, and `decide` does its effect elsewhere, keyed by order.
 *
 * @param decide one event for each record, in the same order; no two of these records are of the same order
 * @throws UnavailableError when another writer stored one of the orders in the meantime: the next try finds it
 */
export async function withStoredOutcomes<Event extends { orderId: string }>(
  database: Client | Database,
  { table, operation, topic }: OutcomeStore,
  records: readonly InputRecord<Event>[],
  decide: (undecided: InputRecord<Event>[]) => Promise<Outgoing[]>,
): Promise<Outcome[]> {
  const firstByOrder = new Map<string, InputRecord<Event>>()
  for (const record of records) {
    if (!firstByOrder.has(record.event.orderId)) firstByOrder.set(record.event.orderId, record)
  }
  const outcomes = await findOutcomes(database, table, operation, [...firstByOrder.keys()])
  const undecided = [...firstByOrder.values()].filter(({ event }) => !outcomes.has(event.orderId))
  if (undecided.length > 0) {
    const decided = await decide(undecided)
    const added = undecided.map(({ event, source }, index) => {
      const { value, note } = decided[index]!
      return { orderId: event.orderId, source, event: value, note }
    })
    await storeOutcomes(database, table, operation, added)
    for (const outcome of added) outcomes.set(outcome.orderId, outcome)
  }
  return records.map(({ event: { orderId }, source }) => {
    const outcome = outcomes.get(orderId)
    if (outcome?.source !== source) return []
    // A position that stands in these records twice (a dead letter redriven twice) is answered once.
    outcomes.delete(orderId)
    return [{ topic: topic.name, key: orderId, value: outcome.event, note: outcome.note }]
  })
}

/** The outcomes that are stored already for these orders, by order id. */
async function findOutcomes(
  database: Client | Database,
  table: OutcomeTable,
  operation: string,
  orderIds: string[],
): Promise<Map<string, StoredOutcome>> {
  const rows = await query<StoredOutcome>(database, {
    name: `find-${table}`,
    text: `SELECT order_id AS "orderId", source, event, note FROM ${table}
           WHERE operation = $1 AND order_id = ANY($2)`,
    values: [operation, orderIds],
  })
  return new Map(rows.map((row) => [row.orderId, row]))
}

/**
 * Stores new outcomes; belongs in the transaction of their effect, where that is in this database. Sorted, so that two writers cannot deadlock.
 *
 * @throws UnavailableError when one of the orders was stored by somebody else in the meantime: the whole
 * transaction is to be tried again, and will find it
 */
async function storeOutcomes(
  database: Client | Database,
  table: OutcomeTable,
  operation: string,
  outcomes: readonly StoredOutcome[],
): Promise<void> {
  if (outcomes.length === 0) return
  const sorted = [...outcomes].sort((a, b) => (a.orderId < b.orderId ? -1 : 1))
  await query(database, {
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
