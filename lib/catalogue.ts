import type { Admin, Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { type Database, query } from './database.ts'
import { describe, UnavailableError, UnusableRecordError } from './errors.ts'
import type { ProductEvent } from './events.ts'
import type { Logger } from './log.ts'
import { readTopics } from './topicReader.ts'
import type { Topic } from './topics.ts'

export type ProductStatus = 'known' | 'withdrawn' | 'unknown'

export interface CatalogueOptions {
  /** Makes a Kafka client of its own connections. */
  createKafka(purpose: string): Kafka
  topic: Topic<ProductEvent>
  log: Logger
  signal: AbortSignal
}

/** How long a fresh look at the end of the topic may take before it counts as an outage. */
const FRESH_LOOK_MS = 5_000

/**
 * All products, from the compacted `products` topic: the whole of it is read before the first question, and
 * followed from then on. Each instance of a service has the whole.
 */
export class Catalogue {
  readonly #options: CatalogueOptions
  /** The latest event of each product; undefined for one that was withdrawn by a tombstone. */
  readonly #products = new Map<string, ProductEvent | undefined>()
  /** The skus of those that are on sale, sorted; undefined after some have come or gone. */
  #sorted: string[] | undefined
  #position = 0
  #admin: Admin | undefined
  #freshLook: Promise<void> | undefined

  private constructor(options: CatalogueOptions) {
    this.#options = options
  }

  /** Reads the whole topic, waiting for the broker as long as it takes, and goes on following it. */
  static async open(options: CatalogueOptions): Promise<Catalogue> {
    const catalogue = new Catalogue(options)
    await new Promise<void>((resolve, reject) => {
      const { topic, signal, log } = options
      readTopics({
        kafka: options.createKafka('catalogue'),
        topics: [topic.name],
        from: 'beginning',
        until: 'forever',
        signal,
        log,
        onRecords: (_topic, _partition, records) => {
          for (const record of records) catalogue.#apply(record)
        },
        onCaughtUp: resolve,
      }).then(
        () => resolve(),
        (error: unknown) => {
          log.error(`no longer follows ${topic.name}: ${describe(error)}`)
          reject(error)
        },
      )
    })
    options.log.info(`knows ${catalogue.count} products`)
    return catalogue
  }

  /** How many products are on sale. */
  get count(): number {
    return this.#skus.length
  }

  /** What this instance has read so far: a product that came or went a moment ago may be missing. */
  statusOf(sku: string): ProductStatus {
    if (this.#products.get(sku)) return 'known'
    return this.#products.has(sku) ? 'withdrawn' : 'unknown'
  }

  /** The latest event of a product that is on sale. */
  find(sku: string): ProductEvent | undefined {
    return this.#products.get(sku)
  }

  /** The products on sale in the order of their skus: at most `limit`, beginning after that sku. */
  list(after: string | undefined, limit: number): ProductEvent[] {
    const skus = this.#skus
    const start = after === undefined ? 0 : countUpTo(skus, after)
    return skus.slice(start, start + limit).map((sku) => this.#products.get(sku)!)
  }

  /**
   * What is known of these products. For any that is not plainly there, everything is asked once more first: the
   * topic up to its end as of now, then the database. An order must not be refused because news was slow.
   *
   * @throws UnavailableError
   */
  async lookUp(database: Database, skus: Iterable<string>): Promise<(sku: string) => ProductStatus> {
    const doubtful = new Set<string>()
    for (const sku of skus) if (!this.#products.get(sku)) doubtful.add(sku)
    const inDatabase = new Map<string, ProductStatus>()
    if (doubtful.size > 0) {
      await this.#lookAgain()
      const rows = await query<{ sku: string; withdrawn: boolean }>(database, {
        name: 'find-products',
        text: 'SELECT sku, withdrawn FROM products WHERE sku = ANY($1)',
        values: [[...doubtful]],
      })
      for (const { sku, withdrawn } of rows) inDatabase.set(sku, withdrawn ? 'withdrawn' : 'known')
    }
    return (sku) => {
      const status = this.statusOf(sku)
      return status === 'known' ? status : (inDatabase.get(sku) ?? status)
    }
  }

  get #skus(): string[] {
    this.#sorted ??= [...this.#products].flatMap(([sku, event]) => (event ? [sku] : [])).sort()
    return this.#sorted
  }

  #apply({ offset, key, value }: { offset: number; key: Buffer | null; value: Buffer | null }): void {
    this.#position = offset + 1
    if (key === null) return
    const sku = key.toString()
    if (value === null) {
      this.#set(sku, undefined)
      return
    }
    try {
      const event = this.#options.topic.decode(value)
      if (event.sku !== sku) throw new UnusableRecordError(`key '${sku.slice(0, 80)}' is not '${event.sku}'`)
      this.#set(sku, event)
    } catch (error) {
      if (!(error instanceof UnusableRecordError)) throw error
      this.#options.log.error(`${this.#options.topic.name}/0/${offset} passed over: ${error.message}`)
    }
  }

  #set(sku: string, event: ProductEvent | undefined): void {
    const wasThere = this.#products.get(sku) !== undefined
    this.#products.set(sku, event)
    if (wasThere !== (event !== undefined)) this.#sorted = undefined
  }

  /** One look serves all tasks that ask at the same time, but none that asked before it began. */
  async #lookAgain(): Promise<void> {
    const look = this.#freshLook
    if (look) await look.catch(() => undefined)
    this.#freshLook ??= this.#readToEnd().finally(() => {
      this.#freshLook = undefined
    })
    await this.#freshLook
  }

  async #readToEnd(): Promise<void> {
    const endOffset = await this.#fetchEnd()
    const deadlineMs = Date.now() + FRESH_LOOK_MS
    while (this.#position < endOffset) {
      if (Date.now() > deadlineMs || this.#options.signal.aborted) {
        throw new UnavailableError('product catalogue', new Error(`at ${this.#position} of ${endOffset}`))
      }
      await sleep(5, this.#options.signal)
    }
  }

  async #fetchEnd(): Promise<number> {
    try {
      if (!this.#admin) {
        this.#admin = this.#options.createKafka('catalogue-end').admin()
        await this.#admin.connect()
      }
      const [partition] = await this.#admin.fetchTopicOffsets(this.#options.topic.name)
      return Number(partition!.high)
    } catch (error) {
      const broken = this.#admin
      this.#admin = undefined
      void broken?.disconnect().catch(() => undefined)
      throw new UnavailableError('Kafka', error)
    }
  }
}

/** How many of the sorted texts are not after this one, by binary search. */
function countUpTo(sorted: readonly string[], text: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! <= text) low = middle + 1
    else high = middle
  }
  return low
}
