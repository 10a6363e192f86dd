/**
 * Makes the order view anew from the topics, while it is read and while `orderView.ts` goes on writing it.
 *
 * All of it is filled into a schema beside the one in use. What came meanwhile is added, and once more with writers
 * locked out; then the new schema takes the place of the old one, in the same transaction. Walked through:
 *
 *   1. Whatever a writer had committed to the old tables when the lock was given is of records that lie before the ends
 *      of the topics, which are looked up after that. So the last filling has it.
 *   2. Whoever writes later waits for the lock and then finds the new tables under the old name.
 *   3. Killed at any moment before the end, nothing has changed: the old tables are in use, and what was filled is
 *      dropped by the next rebuild.
 *
 * Readers are never locked out for longer than it takes to rename. What is older than the topics keep is gone after.
 */
import { readFile } from 'node:fs/promises'
import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { type Client, type Database, query } from './database.ts'
import { ConfigurationError, UnavailableError, UnusableRecordError } from './errors.ts'
import type { Logger } from './log.ts'
import type { ViewEvent, ViewRecord } from './orderView.ts'
import { OrderViewStore } from './orderViewStore.ts'
import { formatCount } from './text.ts'
import { type OffsetsByPartition, type ReadFrom, readTopics, type TopicRecord } from './topicReader.ts'
import type { Topic } from './topics.ts'

interface RebuildOptions {
  database: Database
  kafka: Kafka
  topics: readonly Topic<ViewEvent>[]
  log: Logger
  /** Gives up, and leaves all as it was. */
  signal: AbortSignal
}

/** Any number of ours: whoever holds it rebuilds. */
const REBUILD_LOCK = 4_071_980
/** Waiting to be written, above which reading stops for a while. */
const MAX_WAITING_BYTES = 32 * 1024 * 1024
const RECORDS_PER_WRITE = 5_000
/** With the lock: longer than it takes to read what came in the meantime. */
const LOCKED_FOR_MS = 30_000
/** A lock may be held by others, or a statement take too long, just then. */
const MAX_ATTEMPTS = 5
const RETRY_MS = 1_000
const MIGRATION = new URL('../sql/007_order-view.sql', import.meta.url)

/**
 * @returns how many records it read, or undefined when the signal came first
 * @throws ConfigurationError when another rebuild runs or topics are missing; UnavailableError when PostgreSQL does not
 *   answer, or writers had to be locked out for too long
 */
export async function rebuildOrderView(options: RebuildOptions): Promise<number | undefined> {
  const { database, log, signal } = options
  const client = await database.connect().catch((error: unknown) => {
    throw new UnavailableError('PostgreSQL', error)
  })
  let isDone = false
  try {
    const [lock] = await query<{ isOurs: boolean }>(client, {
      text: 'SELECT pg_try_advisory_lock($1) AS "isOurs"',
      values: [REBUILD_LOCK],
    })
    if (!lock!.isOurs)
      throw new ConfigurationError('another rebuild of the order view is under way: wait for it')
    await createNext(client)
    const filling = new Filling(options)
    await filling.readToEnd()
    log.info(`read ${formatCount(filling.records)} records; catching up with what came since`)
    // Again without the lock, so that little is left to be done with it.
    await filling.readToEnd()
    isDone = !signal.aborted && (await takeOverPatiently(client, filling, options))
    return isDone ? filling.records : undefined
  } finally {
    // Closing the connection gives the lock back, and rolls back what was not committed.
    client.release(true)
  }
}

async function createNext(client: Client): Promise<void> {
  const [found] = await query<{ isWhole: boolean }>(client, {
    text: `SELECT to_regclass('order_view.orders') IS NOT NULL
              AND to_regclass('order_view.events') IS NOT NULL AS "isWhole"`,
  })
  if (!found!.isWhole) {
    // Dropped, all or a part of it. What runs beside us goes on with empty tables until the new ones take their place.
    await query(client, {
      text: `DROP SCHEMA IF EXISTS order_view CASCADE; ${await readFile(MIGRATION, 'utf8')}`,
    })
  }
  await query(client, {
    text: `
    DROP SCHEMA IF EXISTS order_view_next CASCADE;
    CREATE SCHEMA order_view_next;
    CREATE TABLE order_view_next.orders (LIKE order_view.orders INCLUDING ALL);
    CREATE TABLE order_view_next.events (LIKE order_view.events INCLUDING ALL)`,
  })
}

/** @returns false when the signal came, and nothing was changed */
function takeOverPatiently(client: Client, filling: Filling, options: RebuildOptions): Promise<boolean> {
  return patiently(options, async () => {
    // Of the try before.
    await query(client, { text: 'ROLLBACK' })
    return takeOver(client, filling, options.signal)
  })
}

/** Tries again what may work next time. */
async function patiently<Result>(
  { log, signal }: RebuildOptions,
  work: () => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof UnavailableError) || attempt === MAX_ATTEMPTS || signal.aborted) throw error
      log.warn(`${error.message} - trying again`)
      await sleep(RETRY_MS, signal)
    }
  }
}

/** @returns false when the signal came, and nothing was changed */
async function takeOver(client: Client, filling: Filling, signal: AbortSignal): Promise<boolean> {
  const deadlineMs = Date.now() + LOCKED_FOR_MS
  await query(client, {
    text: `
    BEGIN;
    SET LOCAL idle_in_transaction_session_timeout = ${2 * LOCKED_FOR_MS};
    SET LOCAL statement_timeout = 0;
    LOCK TABLE order_view.events, order_view.orders IN EXCLUSIVE MODE`,
  })
  await filling.readToEnd()
  if (signal.aborted) return false
  if (Date.now() > deadlineMs) {
    throw new UnavailableError('Kafka', new Error('it took too long to read the last records: try again'))
  }
  await query(client, {
    text: `
    DROP SCHEMA order_view CASCADE;
    ALTER SCHEMA order_view_next RENAME TO order_view;
    COMMIT`,
  })
  return true
}

/** What is read and not yet written. */
class Backlog {
  bytes = 0
  readonly #waiting: { record: ViewRecord; bytes: number }[] = []

  push(record: ViewRecord, bytes: number): void {
    this.#waiting.push({ record, bytes })
    this.bytes += bytes
  }

  take(count: number): ViewRecord[] {
    const taken = this.#waiting.splice(0, count)
    for (const { bytes } of taken) this.bytes -= bytes
    return taken.map(({ record }) => record)
  }
}

/** Reads the topics from where it was to where they end, and writes what it reads into the new schema. */
class Filling {
  records = 0
  readonly #options: RebuildOptions
  readonly #store: OrderViewStore
  readonly #topics: ReadonlyMap<string, Topic<ViewEvent>>
  #from: ReadFrom = 'beginning'

  constructor(options: RebuildOptions) {
    this.#options = options
    this.#store = new OrderViewStore(options.database, 'order_view_next')
    this.#topics = new Map(options.topics.map((topic) => [topic.name, topic]))
  }

  async readToEnd(): Promise<void> {
    while (!(await this.#readSome()) && !this.#options.signal.aborted);
  }

  /** Reads as far as memory allows. The reader hands over without waiting, so it is ended and begun again. @returns whether that was all */
  async #readSome(): Promise<boolean> {
    const { kafka, log, signal } = this.#options
    const waiting = new Backlog()
    const full = new AbortController()
    let isRead = false
    const reading = readTopics({
      kafka,
      topics: [...this.#topics.keys()],
      from: this.#from,
      until: 'end',
      signal: AbortSignal.any([signal, full.signal]),
      log,
      onRecords: (topic, partition, records) => {
        for (const record of records) {
          const decoded = this.#decode(topic, partition, record)
          if (decoded) waiting.push(decoded, record.value!.length)
        }
        if (waiting.bytes > MAX_WAITING_BYTES) full.abort()
      },
    }).finally(() => {
      isRead = true
    })
    const writing = this.#write(waiting, () => isRead)
    // What stops the one stops the other.
    writing.catch(() => full.abort())
    const [positions] = await Promise.all([reading, writing])
    this.#from = { offsets: positions as OffsetsByPartition }
    return !full.signal.aborted
  }

  async #write(waiting: Backlog, isRead: () => boolean): Promise<void> {
    while (!isRead() || waiting.bytes > 0) {
      const records = waiting.take(RECORDS_PER_WRITE)
      if (records.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
      else await patiently(this.#options, () => this.#store.write(records))
      this.records += records.length
    }
  }

  /** Undefined for what cannot be used: the running view has it among its dead letters. */
  #decode(name: string, partition: number, { offset, key, value }: TopicRecord): ViewRecord | undefined {
    const topic = this.#topics.get(name)!
    if (key === null || value === null) return undefined
    try {
      const event = topic.decode(value)
      return topic.keyOf(event) === key.toString() ? { topic: name, partition, offset, event } : undefined
    } catch (error) {
      if (error instanceof UnusableRecordError) return undefined
      throw error
    }
  }
}
