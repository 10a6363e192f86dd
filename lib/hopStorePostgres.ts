import pg from 'pg'
import type { Config } from '../kafkaConfig.ts'
import { type Database, inTransaction, migrateDatabase, openDatabase, query } from './database.ts'
import { UnavailableError } from './errors.ts'
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
import type { Logger } from './log.ts'

/** Some thousand rows are written in a tenth of a second; a statement has five. */
const ROWS_PER_STATEMENT = 5_000
/** Any numbers of ours: whoever holds one makes a partition, or drops some, and the others wait. */
const MAKING_LOCK = 4_071_970
const DROPPING_LOCK = 4_071_971
/** For what no record waits for: looking through a table that can be large. */
const UNHURRIED_MS = 60_000

/** The metadata log in PostgreSQL; waits until it is there, or the signal. */
export async function openPostgresHopStore(
  config: Config,
  log: Logger,
  signal?: AbortSignal,
): Promise<HopStore> {
  const database = openDatabase(config.databaseUrl, config.partitions, log)
  await migrateDatabase(database, log, signal)
  return new PostgresHopStore(database)
}

class PostgresHopStore implements HopStore {
  readonly #database: Database
  /** Days that are known to have a partition, by their beginning. */
  readonly #days = new Set<number>()

  constructor(database: Database) {
    this.#database = database
  }

  async write(rows: readonly HopRow[]): Promise<void> {
    await this.#makePartitions(rows)
    for (let from = 0; from < rows.length; from += ROWS_PER_STATEMENT) {
      await this.#insert(rows.slice(from, from + ROWS_PER_STATEMENT))
    }
  }

  async #insert(rows: readonly HopRow[]): Promise<void> {
    try {
      await query(this.#database, { name: 'write-hops', text: INSERT, values: columnsOf(rows) })
    } catch (error) {
      // What was known of partitions may be wrong: another database, or somebody dropped one. It is no fault of a row.
      this.#days.clear()
      if (error instanceof pg.DatabaseError && error.code === NO_PARTITION) {
        throw new UnavailableError('PostgreSQL', error)
      }
      throw error
    }
  }

  async #makePartitions(rows: readonly HopRow[]): Promise<void> {
    for (const dayMs of new Set(rows.map(({ atMs }) => startOfUtcDay(atMs)))) {
      if (this.#days.has(dayMs)) continue
      await makePartition(this.#database, dayMs)
      this.#days.add(dayMs)
    }
  }

  async trail(requestId: string): Promise<HopRow[]> {
    const found = await query<StoredRow>(this.#database, {
      text: `SELECT ${COLUMNS} FROM command_center.hops WHERE request_id = $1
             ORDER BY at, log_partition, log_offset, index LIMIT ${MAX_TRAIL_HOPS}`,
      values: [requestId],
    })
    return found.map(fromStored)
  }

  async summary(by: SummaryBy, sinceMs: number): Promise<HopSummary[]> {
    const text = summaryStatement(by === 'worker' ? 'worker_name' : 'route_id, target_topic')
    const since = new Date(sinceMs).toISOString()
    const found = await unhurried(this.#database, (ask) => ask<StoredSummary>(text, [since]))
    return found.map((row) => ({
      ...(row.worker_name != null && { workerName: row.worker_name }),
      ...(row.route_id != null && { routeId: row.route_id }),
      ...(row.target_topic != null && { targetTopic: row.target_topic }),
      hops: row.hops,
      refused: row.refused,
      p50Ms: row.p50,
      p99Ms: row.p99,
      meanMs: row.mean,
    }))
  }

  async count(): Promise<{ forwarded: number; refused: number }> {
    return unhurried(this.#database, async (ask) => {
      const [found] = await ask<{ forwarded: number; refused: number }>(
        `SELECT count(*) FILTER (WHERE success) AS forwarded, count(*) FILTER (WHERE NOT success) AS refused
         FROM command_center.hops`,
      )
      return found!
    })
  }

  async expire(nowMs: number): Promise<Expiry> {
    return unhurried(this.#database, async (ask) => {
      // Two at once would count the same rows.
      await ask(`SELECT pg_advisory_xact_lock(${DROPPING_LOCK})`)
      const partitions = await ask<{ name: string; about: number }>(
        `SELECT relname AS name, greatest(reltuples, 0)::bigint AS about
         FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'command_center.hops'::regclass ORDER BY relname`,
      )
      const firstKept = partitionOf(keptFromMs(nowMs))
      const gone = partitions.filter(({ name }) => name < firstKept)
      let expired = 0
      for (const { name } of gone) {
        const [found] = await ask<{ rows: number }>(`SELECT count(*) AS rows FROM command_center.${name}`)
        expired += found!.rows
      }
      for (const { name } of gone) await ask(`DROP TABLE command_center.${name}`)
      const next = partitions[gone.length]
      // It is dropped at the end of its last day.
      return { expired, expiring: next?.name === firstKept ? next.about : 0 }
    })
  }

  async close(): Promise<void> {
    await this.#database.end()
  }
}

type Ask = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>

/** In a transaction whose statements may take long. */
function unhurried<Result>(database: Database, work: (ask: Ask) => Promise<Result>): Promise<Result> {
  return inTransaction(database, async (client) => {
    const ask: Ask = (text, values = []) => {
      const statement = { text, values, query_timeout: UNHURRIED_MS }
      return query(client, statement)
    }
    await ask(`SET LOCAL statement_timeout = ${UNHURRIED_MS}`)
    return work(ask)
  })
}

/** SQLSTATE for a row that no partition takes; the same as for a CHECK, of which the table has none. */
const NO_PARTITION = '23514'

/** hops_20261121 */
function partitionOf(timeMs: number): string {
  return `hops_${new Date(timeMs).toISOString().slice(0, 10).replaceAll('-', '')}`
}

/** Attached rather than made in place: that would wait for every reader of the table, and every writer for it. */
async function makePartition(database: Database, dayMs: number): Promise<void> {
  const name = `command_center.${partitionOf(dayMs)}`
  const [from, to] = [dayMs, dayMs + DAY_MS].map((timeMs) => new Date(timeMs).toISOString())
  await inTransaction(database, async (client) => {
    // Whoever was second would fail.
    await query(client, { text: `SELECT pg_advisory_xact_lock(${MAKING_LOCK})` })
    const [found] = await query<{ isThere: boolean }>(client, {
      text: 'SELECT to_regclass($1) IS NOT NULL AS "isThere"',
      values: [name],
    })
    if (found!.isThere) return
    await query(client, { text: `CREATE TABLE ${name} (LIKE command_center.hops INCLUDING ALL)` })
    await query(client, {
      text: `ALTER TABLE command_center.hops ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}')`,
    })
  })
}

const COLUMNS = `at, log_partition, log_offset, index, request_id, worker_name, sender, source_topic, source_offset,
                 target_topic, route_id, success, error, processing_time_ms`

interface StoredRow {
  at: Date
  log_partition: number
  log_offset: number
  index: number
  request_id: string
  worker_name: string
  sender: string
  source_topic: string
  source_offset: number
  target_topic: string | null
  route_id: number | null
  success: boolean
  error: string | null
  processing_time_ms: number
}

// In order of the key: two that write the same do not deadlock.
const INSERT = `INSERT INTO command_center.hops (${COLUMNS})
                SELECT * FROM unnest($1::timestamptz[], $2::smallint[], $3::bigint[], $4::integer[], $5::text[],
                                     $6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[], $11::integer[],
                                     $12::boolean[], $13::text[], $14::bigint[])
                ORDER BY 1, 2, 3, 4
                ON CONFLICT DO NOTHING`

function columnsOf(rows: readonly HopRow[]): unknown[][] {
  return [
    rows.map(({ atMs }) => new Date(atMs).toISOString()),
    rows.map(({ partition }) => partition),
    rows.map(({ offset }) => offset),
    rows.map(({ index }) => index),
    rows.map(({ requestId }) => requestId),
    rows.map(({ workerName }) => workerName),
    rows.map(({ sender }) => sender),
    rows.map(({ sourceTopic }) => sourceTopic),
    rows.map(({ sourceOffset }) => sourceOffset),
    rows.map(({ targetTopic }) => targetTopic),
    rows.map(({ routeId }) => routeId),
    rows.map(({ success }) => success),
    rows.map(({ error }) => error),
    rows.map(({ processingTimeMs }) => processingTimeMs),
  ]
}

function fromStored(row: StoredRow): HopRow {
  return {
    partition: row.log_partition,
    offset: row.log_offset,
    index: row.index,
    requestId: row.request_id,
    workerName: row.worker_name,
    sender: row.sender,
    sourceTopic: row.source_topic,
    sourceOffset: row.source_offset,
    ...(row.target_topic !== null && { targetTopic: row.target_topic }),
    ...(row.route_id !== null && { routeId: row.route_id }),
    success: row.success,
    ...(row.error !== null && { error: row.error }),
    processingTimeMs: row.processing_time_ms,
    atMs: row.at.getTime(),
  }
}

interface StoredSummary {
  worker_name?: string | null
  route_id?: number | null
  target_topic?: string | null
  hops: number
  refused: number
  p50: number
  p99: number
  mean: number
}

/** Times are whole milliseconds and soon repeat: counted first, so that nothing has to sort every hop. */
function summaryStatement(group: string): string {
  return `WITH times AS (
            SELECT ${group}, processing_time_ms AS ms, count(*) AS hops, count(*) FILTER (WHERE NOT success) AS refused
            FROM command_center.hops WHERE at >= $1 GROUP BY ${group}, processing_time_ms
          ), ranked AS (
            SELECT *, sum(hops) OVER (PARTITION BY ${group} ORDER BY ms) AS rank,
                   sum(hops) OVER (PARTITION BY ${group}) AS total
            FROM times
          )
          SELECT ${group}, sum(hops)::bigint AS hops, sum(refused)::bigint AS refused,
                 min(ms) FILTER (WHERE rank >= 0.5 * total) AS p50,
                 min(ms) FILTER (WHERE rank >= 0.99 * total) AS p99,
                 (sum(ms * hops) / sum(hops))::float8 AS mean
          FROM ranked GROUP BY ${group} ORDER BY sum(hops) DESC, ${group} LIMIT ${MAX_SUMMARY_LINES}`
}
