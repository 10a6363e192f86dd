import { type Database, query } from './database.ts'
import {
  type OrderSummary,
  STATUS_RANKS,
  summarise,
  type TimelineEntry,
  toTimelineEntry,
  type ViewRecord,
} from './orderView.ts'

/** The schema that is read, and the one that a rebuild fills before it takes its place. */
export type ViewSchema = 'order_view' | 'order_view_next'

/** Writes the order view. The same records again, in whatever order, leave it as it is. */
export class OrderViewStore {
  readonly #database: Database
  readonly #schema: ViewSchema
  readonly #ids = new Map<string, number>()

  constructor(database: Database, schema: ViewSchema = 'order_view') {
    this.#database = database
    this.#schema = schema
  }

  /** In one statement, and so in one transaction. @throws UnavailableError */
  async write(records: readonly ViewRecord[]): Promise<void> {
    const entries = records.map(toTimelineEntry)
    const idOf = await this.#lookUpIds(entries)
    await query(this.#database, {
      name: `write-${this.#schema}`,
      text: writeStatement(this.#schema),
      values: [...timelineColumns(entries, idOf), ...summaryColumns(summarise(records))],
    })
  }

  async #lookUpIds(entries: readonly TimelineEntry[]): Promise<(name: string) => number> {
    const missing = new Set<string>()
    for (const { topic, label } of entries) {
      if (!this.#ids.has(topic)) missing.add(topic)
      if (!this.#ids.has(label)) missing.add(label)
    }
    if (missing.size > 0) {
      for (const { id, name } of await findIds(this.#database, [...missing])) this.#ids.set(name, id)
    }
    return (name) => this.#ids.get(name)!
  }
}

/** Gives numbers to names that have none. There are few of them: topics, and kinds of event. */
async function findIds(
  database: Database,
  names: readonly string[],
): Promise<{ id: number; name: string }[]> {
  // Asked first: a conflict would use up a number each time, and there are 32,767.
  await query(database, {
    text: `INSERT INTO order_view_names (name)
           SELECT name FROM unnest($1::text[]) AS wanted (name)
           WHERE NOT EXISTS (SELECT FROM order_view_names AS known WHERE known.name = wanted.name)
           ON CONFLICT (name) DO NOTHING`,
    values: [names],
  })
  return query(database, {
    text: 'SELECT id, name FROM order_view_names WHERE name = ANY($1)',
    values: [names],
  })
}

/** The merge of lib/orderView.ts, against what the table has. */
function writeStatement(schema: ViewSchema): string {
  return `WITH timeline AS (
            INSERT INTO ${schema}.events
              (order_id, topic, partition, log_offset, label, event_id, occurred_at_ms)
            SELECT * FROM unnest($1::text[], $2::smallint[], $3::smallint[], $4::bigint[], $5::smallint[],
                                 $6::text[], $7::bigint[])
            -- As summarise() does: two that write the same do not deadlock.
            ORDER BY 1, 2, 3, 4
            ON CONFLICT DO NOTHING
          )
          INSERT INTO ${schema}.orders AS known
            (order_id, status, log_offset, customer_id, currency, total_minor, placed_at_ms, updated_at_ms, reasons,
             shipment_number)
          SELECT * FROM unnest($8::text[], $9::smallint[], $10::bigint[], $11::text[], $12::text[], $13::bigint[],
                               $14::bigint[], $15::bigint[], $16::text[], $17::text[])
          ON CONFLICT (order_id) DO UPDATE SET
            status = excluded.status, log_offset = excluded.log_offset, customer_id = excluded.customer_id,
            currency = excluded.currency, total_minor = excluded.total_minor,
            placed_at_ms = excluded.placed_at_ms, updated_at_ms = excluded.updated_at_ms,
            reasons = excluded.reasons, shipment_number = excluded.shipment_number
          WHERE (excluded.status, -excluded.log_offset) > (known.status, -known.log_offset)`
}

function timelineColumns(entries: readonly TimelineEntry[], idOf: (name: string) => number): unknown[][] {
  return [
    entries.map(({ orderId }) => orderId),
    entries.map(({ topic }) => idOf(topic)),
    entries.map(({ partition }) => partition),
    entries.map(({ offset }) => offset),
    entries.map(({ label }) => idOf(label)),
    entries.map((entry) => (entry.eventId === usualEventId(entry) ? null : withoutNul(entry.eventId))),
    entries.map(({ occurredAtMs }) => occurredAtMs),
  ]
}

function summaryColumns(summaries: readonly OrderSummary[]): unknown[][] {
  return [
    summaries.map(({ orderId }) => orderId),
    summaries.map(({ status }) => STATUS_RANKS[status]),
    summaries.map(({ offset }) => offset),
    summaries.map(({ customerId }) => customerId),
    summaries.map(({ currency }) => currency),
    summaries.map(({ totalMinor }) => totalMinor),
    summaries.map(({ placedAtMs }) => placedAtMs),
    summaries.map(({ updatedAtMs }) => updatedAtMs),
    summaries.map(({ reasons }) => (reasons.length > 0 ? JSON.stringify(reasons) : null)),
    summaries.map(({ shipmentNumber }) => (shipmentNumber === undefined ? null : withoutNul(shipmentNumber))),
  ]
}

/** What most events are called, see `eventIdOf`: not stored. */
export function usualEventId({ orderId, label }: { orderId: string; label: string }): string {
  return `${orderId}/${label.split(' ', 1)[0]}`
}

/** PostgreSQL refuses the whole batch for one NUL, which whoever writes to a topic may have put in there. */
function withoutNul(text: string): string {
  return text.replaceAll('\0', '\uFFFD')
}
