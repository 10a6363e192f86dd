import { type Client, type Database, query } from './database.ts'
import type { Outgoing } from './record.ts'

/** What was decided for one order: the event to publish, kept so that it can be published again as it was. */
interface StoredOutcome {
  orderId: string
  operation: string
  /** The position that caused it; see `InputRecord.source`. */
  source: string
  /** The event as it was sent, JSON. */
  event: string
  note: string
}

export type OutcomeTable =
  | 'inventory_outcomes'
  | 'payment_outcomes'
  | 'fraud_outcomes'
  | 'fulfilment_outcomes'

/** What is to be done for one order, and the position that caused it. */
export interface Cause {
  source: string
  event: { orderId: string }
}

/**
 * Decides each order once for each operation, whatever happens to the Kafka transaction that follows. For a batch: what
 * is stored is read, `add` takes what is decided, `save` stores it, and `outcomeOf` says what to publish:
 *
 *   - the same position again (it was stored, and the Kafka transaction did not come about): the stored bytes
 *   - another position for an order that has its outcome, or a second one in this batch: nothing
 *
 * With a client that is in a transaction, look-up, effect and store are one. With a pool, the look-up and the store are
 * a statement and thus a transaction each, and the effect is done elsewhere, keyed by order.
 */
export class OutcomeBook {
  readonly #database: Client | Database
  readonly #table: OutcomeTable
  /** By order and operation. */
  readonly #outcomes = new Map<string, StoredOutcome>()
  #added: StoredOutcome[] = []

  private constructor(database: Client | Database, table: OutcomeTable) {
    this.#database = database
    this.#table = table
  }

  /** Reads what is stored for these orders. @throws UnavailableError */
  static async read(
    database: Client | Database,
    table: OutcomeTable,
    causes: readonly Cause[],
  ): Promise<OutcomeBook> {
    const book = new OutcomeBook(database, table)
    const orderIds = new Set(causes.map(({ event }) => event.orderId))
    const rows = await query<StoredOutcome>(database, {
      name: `find-${table}`,
      text: `SELECT order_id AS "orderId", operation, source, event, note FROM ${table} WHERE order_id = ANY($1)`,
      values: [[...orderIds]],
    })
    for (const row of rows) book.#outcomes.set(keyOf(row.orderId, row.operation), row)
    return book
  }

  /** The event that is stored, or added already, for an order and operation: JSON. */
  find(orderId: string, operation: string): string | undefined {
    return this.#outcomes.get(keyOf(orderId, operation))?.event
  }

  /** The first cause of each order that has no outcome of this operation yet. */
  undecided<Some extends Cause>(operation: string, causes: readonly Some[]): Some[] {
    const first = new Map<string, Some>()
    for (const cause of causes) {
      const { orderId } = cause.event
      if (!first.has(orderId) && !this.#outcomes.has(keyOf(orderId, operation))) first.set(orderId, cause)
    }
    return [...first.values()]
  }

  /** Adds what was decided for an order that is {@link undecided}. */
  add(operation: string, { source, event: { orderId } }: Cause, { value: event, note }: Outgoing): void {
    const outcome = { orderId, operation, source, event, note }
    this.#outcomes.set(keyOf(orderId, operation), outcome)
    this.#added.push(outcome)
  }

  /**
   * Stores what was added, sorted, so that two writers cannot deadlock; belongs in the transaction of the effect, where
   * that is in this database.
   *
   * @throws UnavailableError also when somebody else stored one of them in the meantime: the next try finds it
   */
  async save(): Promise<void> {
    if (this.#added.length === 0) return
    const sorted = this.#added.sort((a, b) => (a.orderId < b.orderId ? -1 : 1))
    this.#added = []
    await query(this.#database, {
      name: `store-${this.#table}`,
      text: `INSERT INTO ${this.#table} (order_id, operation, source, event, note)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])`,
      values: [
        sorted.map(({ orderId }) => orderId),
        sorted.map(({ operation }) => operation),
        sorted.map(({ source }) => source),
        sorted.map(({ event }) => event),
        sorted.map(({ note }) => note),
      ],
    })
  }

  /**
   * What becomes of a cause: see {@link OutcomeBook}. To be asked once for each; a position that stands in a batch twice
   * (a dead letter redriven twice) is answered once.
   *
   * @param topic where events of this operation go
   */
  outcomeOf(operation: string, { source, event: { orderId } }: Cause, topic: { name: string }): Outgoing[] {
    const key = keyOf(orderId, operation)
    const outcome = this.#outcomes.get(key)
    if (outcome?.source !== source) return []
    this.#outcomes.delete(key)
    return [{ topic: topic.name, key: orderId, value: outcome.event, note: outcome.note, source }]
  }
}

function keyOf(orderId: string, operation: string): string {
  return `${operation}/${orderId}`
}
