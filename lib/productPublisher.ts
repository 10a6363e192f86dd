import { sleep } from './async.ts'
import { type Client, type Database, inTransaction, query } from './database.ts'
import { UnavailableError } from './errors.ts'
import { eventIdOf, type ProductEvent } from './events.ts'
import type { Logger } from './log.ts'
import type { OrderSender, SentRecord } from './orderSender.ts'
import type { Topic } from './topics.ts'

export interface ProductPublisherOptions {
  database: Database
  /** Resolves with the number of records that are acknowledged. */
  sender: Pick<OrderSender, 'send'>
  topic: Topic<ProductEvent>
  log: Logger
  /** Ends the waiting for what is away. */
  signal: AbortSignal
}

/** Any number of ours: whoever holds it is the only one that writes the topic. */
const PUBLISHING_LOCK = 4_071_970
/** So long another waits before it asks for the lock again. */
const BUSY_MS = 50
const RETRY_MS = 500
const PRODUCTS_PER_TRANSACTION = 1_000
/** How long one that was frozen, or waits for Kafka, keeps the others from publishing. */
const HOLD_MS = 60_000

interface ProductRow {
  sku: string
  name: string
  unitPrice: number
  currency: string
  withdrawn: boolean
  version: number
}

/**
 * Says on the compacted topic what has changed in the table of products: an event with the state as it is now, or a
 * tombstone for a product that was withdrawn. The table is the truth, and each product whose version is above the one
 * that was published last is still to be said. So a change is committed there first, and if its process dies before it
 * was said, the next publication says it, whoever's that is and whatever it is about: api.ts has one at its start and
 * every few minutes.
 *
 * The last record of a product must not be an older state. Therefore one at a time writes the topic, in all
 * processes: it takes the lock, *then* reads the rows, sends them, notes the versions that it sent, and lets the lock
 * go by committing. Whoever comes second reads after the first was acknowledged, so what it sends is no older.
 *
 * That breaks when the first loses its lock while it sends: frozen or without Kafka for {@link HOLD_MS}, or its
 * database has restarted. Then the second may be faster. But the first cannot commit without its lock, hears of that,
 * and says the same products again as they are by then. Only if it also dies between those two is an old state left
 * at the end, until the product changes or is registered again: registration says its products in any case.
 */
export class ProductPublisher {
  readonly #options: ProductPublisherOptions
  /** Products to be said whatever their version: asked for, or sent by a transaction that did not come about. */
  readonly #unsaid = new Set<string>()
  #running: Promise<unknown> = Promise.resolve()
  #next: Promise<void> | undefined

  constructor(options: ProductPublisherOptions) {
    this.#options = options
  }

  /**
   * Says all that is still to be said. Waits for Kafka and PostgreSQL as long as it takes, holding one connection of
   * the pool: whoever has no time for that stops waiting, and it goes on. Resolves unfinished when the signal comes.
   *
   * @param skus to be said in any case
   */
  publish(skus: readonly string[] = []): Promise<void> {
    for (const sku of skus) this.#unsaid.add(sku)
    // One that is under way may have looked before the change was made; the next one serves all who come meanwhile.
    if (this.#next === undefined) {
      const next = this.#running.then(() => {
        this.#next = undefined
        return this.#publishAll()
      })
      this.#next = next
      this.#running = next.catch(() => undefined)
    }
    return this.#next
  }

  async #publishAll(): Promise<void> {
    const { database, log, signal } = this.#options
    for (let attempt = 1; !signal.aborted; ) {
      try {
        const result = await inTransaction(database, (client) => this.#publishSome(client))
        if (result === 'done') return
        attempt = 1
        if (result === 'busy') await sleep(BUSY_MS, signal)
        else for (const sku of result) this.#unsaid.delete(sku)
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error
        if (attempt++ % 20 === 1) log.warn(`${error.message} - products are published when it is back`)
        await sleep(RETRY_MS, signal)
      }
    }
  }

  /** @returns the products that are said if the transaction commits */
  async #publishSome(client: Client): Promise<'busy' | 'done' | Iterable<string>> {
    const [lock] = await query<{ isOurs: boolean }>(client, {
      text: `SELECT pg_try_advisory_xact_lock($1) AS "isOurs",
                    set_config('idle_in_transaction_session_timeout', $2, true)`,
      values: [PUBLISHING_LOCK, String(HOLD_MS)],
    })
    if (!lock!.isOurs) return 'busy'
    const asked = [...this.#unsaid].slice(0, PRODUCTS_PER_TRANSACTION)
    const rows = await findUnsaid(client, asked)
    if (rows.length === 0 && asked.length === 0) return 'done'
    for (const { sku } of rows) this.#unsaid.add(sku)
    if (rows.length > 0) await this.#say(client, rows)
    return new Set([...asked, ...rows.map(({ sku }) => sku)])
  }

  async #say(client: Client, rows: readonly ProductRow[]): Promise<void> {
    const { sender, topic } = this.#options
    const records = rows.map((row) => toRecord(topic, row))
    const acknowledged = await sender.send(topic.name, records).catch((error: unknown) => {
      throw new UnavailableError('Kafka', error)
    })
    if (acknowledged < records.length) {
      const missing = new Error(
        `${topic.name}: ${acknowledged} of ${records.length} records are acknowledged`,
      )
      throw new UnavailableError('Kafka', missing)
    }
    await query(client, {
      text: `UPDATE products SET published_version = said.version
             FROM unnest($1::text[], $2::bigint[]) AS said (sku, version)
             WHERE products.sku = said.sku AND published_version <> said.version`,
      values: [rows.map(({ sku }) => sku), rows.map(({ version }) => version)],
    })
  }
}

function findUnsaid(client: Client, asked: readonly string[]): Promise<ProductRow[]> {
  const columns = 'sku, name, unit_price_minor AS "unitPrice", currency, withdrawn, version'
  return query<ProductRow>(client, {
    text: `SELECT ${columns} FROM products WHERE sku = ANY ($1)
           UNION
           (SELECT ${columns} FROM products WHERE published_version < version ORDER BY sku LIMIT $2)`,
    values: [asked, PRODUCTS_PER_TRANSACTION],
  })
}

function toRecord(topic: Topic<ProductEvent>, { withdrawn, version, ...product }: ProductRow): SentRecord {
  const { sku } = product
  if (withdrawn) return { key: sku, value: null }
  const occurredAt = new Date().toISOString()
  const event: ProductEvent =
    version === 1
      ? { type: 'ProductCreated', eventId: eventIdOf(sku, 'ProductCreated'), occurredAt, ...product }
      : {
          type: 'ProductUpdated',
          eventId: eventIdOf(sku, 'ProductUpdated', String(version)),
          occurredAt,
          ...product,
        }
  return { key: sku, value: Buffer.from(topic.encode(event)) }
}
