/**
 * The metadata log in Apache Cassandra.
 *
 *   hops_by_request          one request on one day: its trail
 *   hops_by_worker_and_day   one worker in ten minutes of a day: figures
 *   workers_by_day           which parts of the table above there are
 *
 * Rows go by themselves: each is written with the time that it has left. All statements can be repeated, and a row is
 * known by where it came from, so what was written in part is written again as it was.
 */
import cassandra, { type Client, type types } from 'cassandra-driver'
import type { Config } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { causesOf, createClient } from './cassandraClient.ts'
import { ConfigurationError, describe, UnavailableError } from './errors.ts'
import {
  DAY_MS,
  type Expiry,
  type HopRow,
  type HopStore,
  type HopSummary,
  keptFromMs,
  MAX_SUMMARY_LINES,
  MAX_TRAIL_HOPS,
  type SummaryBy,
  startOfUtcDay,
} from './hopStore.ts'
import {
  fromStored,
  hopStatements,
  routeOf,
  SLOT_MS,
  type Statement,
  tableStatements,
} from './hopTablesCassandra.ts'
import { HopTally } from './hopTally.ts'
import { inParallel } from './inParallel.ts'
import type { Logger } from './log.ts'

type Settings = Config['metadataLog']['cassandra']

/** At the same time. */
const MAX_WRITES = 64
const MAX_READS = 16
/** Of one partition: they cost little more than one row. */
const ROWS_PER_BATCH = 50
/** For what nobody waits for: counting a table that can be large. */
const UNHURRIED_MS = 10 * 60_000

/**
 * The metadata log in Cassandra, with its tables made; waits until it is there, or the signal.
 *
 * @throws ConfigurationError when the data center is not one of the cluster's
 */
export async function openCassandraHopStore(
  settings: Settings,
  log: Logger,
  signal?: AbortSignal,
): Promise<HopStore> {
  const store = new CassandraHopStore(settings)
  for (let attempt = 1; !signal?.aborted; attempt++) {
    try {
      await store.makeTables()
      break
    } catch (error) {
      if (!(error instanceof UnavailableError)) {
        await store.close()
        throw error
      }
      if (attempt % 20 === 1) log.warn(`${error.message} - waiting for it`)
      await sleep(500, signal)
    }
  }
  return store
}

class CassandraHopStore implements HopStore {
  #client: Client | undefined
  readonly #settings: Settings
  readonly #statements: ReturnType<typeof hopStatements>
  /** Undefined until they are known to be there. */
  #tables: Promise<void> | undefined

  constructor(settings: Settings) {
    this.#settings = settings
    this.#statements = hopStatements(settings.keyspace)
  }

  /**
   * One that has lost a server is given up for a new one: left to itself it connects again, but keeps what it had
   * for that server, timers and connections, past its end.
   */
  #connection(): Client {
    if (this.#client === undefined) {
      const client = createClient(this.#settings)
      client.on('hostDown', () => {
        if (this.#client === client) this.#client = undefined
        client.shutdown(() => undefined)
      })
      this.#client = client
    }
    return this.#client
  }

  makeTables(): Promise<void> {
    return this.#attempt(async () => undefined)
  }

  async write(rows: readonly HopRow[]): Promise<void> {
    const nowMs = Date.now()
    await this.#attempt(() => inParallel(this.#writes(rows, nowMs), MAX_WRITES))
  }

  *#writes(rows: readonly HopRow[], nowMs: number): Generator<() => Promise<unknown>> {
    const { addWorker, addToRequest, addToWorker } = this.#statements
    for (const group of byWorkerAndSlot(rows)) {
      yield () => this.#execute(addWorker(group[0], nowMs))
      const batch = group.map((row) => addToWorker(row, nowMs))
      yield () => this.#connection().batch(batch, { logged: false, prepare: true })
    }
    for (const row of rows) {
      // What names no request belongs to none: all of these together would be one partition without bound.
      if (row.requestId !== '') yield () => this.#execute(addToRequest(row, nowMs))
    }
  }

  trail(requestId: string): Promise<HopRow[]> {
    return this.#attempt(async () => {
      const hops: HopRow[] = []
      if (requestId === '') return hops
      for (const dayMs of daysSince(0)) {
        const wanted = MAX_TRAIL_HOPS - hops.length
        if (wanted === 0) break
        for await (const row of await this.#execute(this.#statements.trail(requestId, dayMs, wanted))) {
          hops.push(fromStored(row))
        }
      }
      return hops
    })
  }

  summary(by: SummaryBy, sinceMs: number): Promise<HopSummary[]> {
    return this.#attempt(() => (by === 'worker' ? this.#byWorker(sinceMs) : this.#byRoute(sinceMs)))
  }

  /** One worker after the other: names are made up by whoever sends, and there may be any number of them. */
  async #byWorker(sinceMs: number): Promise<HopSummary[]> {
    let lines: HopSummary[] = []
    for await (const workerName of this.#workers(sinceMs)) {
      const tally = new HopTally()
      let isEmpty = true
      await this.#readHops(workerName, sinceMs, (row) => {
        tally.take(row.success, Number(row.processing_time_ms))
        isEmpty = false
      })
      if (!isEmpty) lines.push({ workerName, ...tally.figures() })
      if (lines.length >= 2 * MAX_SUMMARY_LINES) lines = mostFirst(lines)
    }
    return mostFirst(lines)
  }

  /** Routes are made by us: of them there are few. */
  async #byRoute(sinceMs: number): Promise<HopSummary[]> {
    const routes = new Map<string, { route: Partial<HopSummary>; tally: HopTally }>()
    for await (const workerName of this.#workers(sinceMs)) {
      await this.#readHops(workerName, sinceMs, (row) => {
        const route = routeOf(row)
        const key = JSON.stringify(route)
        const known = routes.get(key) ?? { route, tally: new HopTally() }
        routes.set(key, known)
        known.tally.take(row.success, Number(row.processing_time_ms))
      })
    }
    return mostFirst([...routes.values()].map(({ route, tally }) => ({ ...route, ...tally.figures() })))
  }

  /** All that had hops on these days, each once, in the order of their names in bytes. */
  async *#workers(sinceMs: number): AsyncGenerator<string> {
    for (let from = ''; ; ) {
      const { rows } = await this.#execute(this.#statements.nextWorkers(daysSince(sinceMs), from))
      const [next] = rows.map((row) => Buffer.from(row.worker_name)).sort(Buffer.compare)
      if (next === undefined) return
      yield next.toString()
      from = `${next}\0`
    }
  }

  async #readHops(workerName: string, sinceMs: number, take: (row: types.Row) => void): Promise<void> {
    const { slotsOf, hopsOf } = this.#statements
    const { rows } = await this.#execute(slotsOf(workerName, daysSince(sinceMs)))
    const slots = rows.map(({ day, slot }) => ({ dayMs: Date.parse(String(day)), slot: Number(slot) }))
    const reads = slots
      .filter(({ dayMs, slot }) => dayMs + (slot + 1) * SLOT_MS > sinceMs)
      .map(({ dayMs, slot }) => async () => {
        const hops = await this.#execute(hopsOf(workerName, dayMs, slot, sinceMs))
        for await (const row of hops) take(row)
      })
    await inParallel(reads.values(), MAX_READS)
  }

  count(): Promise<{ forwarded: number; refused: number }> {
    return this.#attempt(async () => {
      const { rows } = await this.#execute(this.#statements.count(), UNHURRIED_MS)
      const [hops, refused] = [Number(rows[0]?.hops), Number(rows[0]?.refused)]
      return { forwarded: hops - refused, refused }
    })
  }

  /** Rows go by themselves; the next are those of the first day that is kept. */
  expire(nowMs: number): Promise<Expiry> {
    return this.#attempt(async () => {
      const { rows } = await this.#execute(this.#statements.countDay(keptFromMs(nowMs)), UNHURRIED_MS)
      return { expired: 0, expiring: Number(rows[0]?.hops) }
    })
  }

  async close(): Promise<void> {
    await this.#client?.shutdown()
  }

  #execute({ query, params }: Statement, readTimeout?: number): Promise<types.ResultSet> {
    return this.#connection().execute(query, params, readTimeout === undefined ? {} : { readTimeout })
  }

  /** Whatever went wrong, the tables may have gone with it: they are looked at again before the next. */
  async #attempt<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      this.#tables ??= this.#ensureTables()
      await this.#tables
      return await work()
    } catch (error) {
      this.#tables = undefined
      throw this.#classify(error)
    }
  }

  async #ensureTables(): Promise<void> {
    for (const query of tableStatements(this.#settings.keyspace)) {
      await this.#connection().execute(query, [], { prepare: false })
    }
  }

  /** What the server or the way to it refuses can be tried again: nothing in a row is of a kind that it never takes. */
  #classify(error: unknown): unknown {
    if (!(error instanceof cassandra.errors.DriverError)) return error
    const causes = causesOf(error)
    const misuse = causes.find((cause) => cause instanceof cassandra.errors.ArgumentError)
    if (misuse !== undefined) {
      const setting = `CASSANDRA_DATA_CENTER=${this.#settings.dataCenter}`
      return new ConfigurationError(`${setting} is not usable: ${describe(misuse)}`, { cause: error })
    }
    return new UnavailableError('Cassandra', new AggregateError(causes, '', { cause: error }))
  }
}

type AtLeastOne<Item> = [Item, ...Item[]]

/** Rows that share a partition, so many at a time. */
function* byWorkerAndSlot(rows: readonly HopRow[]): Generator<AtLeastOne<HopRow>> {
  const groups = new Map<string, AtLeastOne<HopRow>>()
  for (const row of rows) {
    const key = `${Math.floor(row.atMs / SLOT_MS)} ${row.workerName}`
    const group = groups.get(key)
    if (group === undefined || group.length === ROWS_PER_BATCH) {
      if (group !== undefined) yield group
      groups.set(key, [row])
    } else {
      group.push(row)
    }
  }
  yield* groups.values()
}

/** The days that may have rows; tomorrow too, since clocks differ. */
function daysSince(sinceMs: number): number[] {
  const nowMs = Date.now()
  const firstMs = Math.max(keptFromMs(nowMs), startOfUtcDay(sinceMs))
  const days = Math.floor((nowMs + DAY_MS - firstMs) / DAY_MS) + 1
  return Array.from({ length: Math.max(0, days) }, (_, index) => firstMs + index * DAY_MS)
}

function mostFirst(lines: HopSummary[]): HopSummary[] {
  return lines.sort((a, b) => b.hops - a.hops).slice(0, MAX_SUMMARY_LINES)
}
