import { type Client, query } from './database.ts'
import type { CustomerHistory } from './fraudRules.ts'

interface HistoryRow {
  subject: string
  orders: number
  units: number
  spent: CustomerHistory['spent']
  minute: number
  windowOrders: number
  previousOrders: number
  usualOrders: number
}

/** The histories that a batch needs, each under a lock until the transaction ends, and writable once. */
export class FraudHistory {
  readonly #client: Client
  readonly #histories: ReadonlyMap<string, CustomerHistory>

  private constructor(client: Client, histories: ReadonlyMap<string, CustomerHistory>) {
    this.#client = client
    this.#histories = histories
  }

  /**
   * Reads and locks what is known of these customers, and of the shop as seen in a partition.
   *
   * Two batches with customers in common wait for each other and do not deadlock: rows that are new are inserted
   * sorted, when nothing is locked yet, and whoever comes second waits there; then all are locked sorted.
   *
   * @throws UnavailableError
   */
  static async lock(client: Client, customerIds: Iterable<string>, partition: number): Promise<FraudHistory> {
    const subjects = [...new Set([...customerIds].map(subjectOf)), partitionSubjectOf(partition)].sort()
    await query(client, {
      name: 'add-fraud-history',
      text: `INSERT INTO fraud_history (subject) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING`,
      values: [subjects],
    })
    const rows = await query<HistoryRow>(client, {
      name: 'lock-fraud-history',
      text: `SELECT subject, orders, units, spent, window_minute AS minute, window_orders AS "windowOrders",
                    previous_orders AS "previousOrders", usual_orders AS "usualOrders"
             FROM fraud_history WHERE subject = ANY($1) ORDER BY subject FOR UPDATE`,
      values: [subjects],
    })
    return new FraudHistory(client, new Map(rows.map((row) => [row.subject, toHistory(row)])))
  }

  /** To be changed in place. */
  ofCustomer(customerId: string): CustomerHistory {
    return this.#histories.get(subjectOf(customerId))!
  }

  /** To be changed in place; only its window is used. */
  ofPartition(partition: number): CustomerHistory {
    return this.#histories.get(partitionSubjectOf(partition))!
  }

  /** Writes all of them as they are now. @throws UnavailableError */
  async save(): Promise<void> {
    const subjects = [...this.#histories.keys()]
    const histories = [...this.#histories.values()]
    await query(this.#client, {
      name: 'save-fraud-history',
      text: `UPDATE fraud_history AS history
             SET orders = seen.orders, units = seen.units, spent = seen.spent::jsonb,
                 window_minute = seen.minute, window_orders = seen.window_orders,
                 previous_orders = seen.previous_orders, usual_orders = seen.usual_orders
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
                         $7::bigint[], $8::float8[])
               AS seen (subject, orders, units, spent, minute, window_orders, previous_orders, usual_orders)
             WHERE history.subject = seen.subject`,
      values: [
        subjects,
        histories.map(({ orders }) => orders),
        histories.map(({ units }) => units),
        histories.map(({ spent }) => JSON.stringify(spent)),
        histories.map(({ window }) => window.minute),
        histories.map(({ window }) => window.orders),
        histories.map(({ window }) => window.previousOrders),
        histories.map(({ window }) => window.usualOrders),
      ],
    })
  }
}

function toHistory(row: HistoryRow): CustomerHistory {
  const { orders, units, spent, minute, windowOrders, previousOrders, usualOrders } = row
  return { orders, units, spent, window: { minute, orders: windowOrders, previousOrders, usualOrders } }
}

function subjectOf(customerId: string): string {
  return `customer/${customerId}`
}

function partitionSubjectOf(partition: number): string {
  return `partition/${partition}`
}
