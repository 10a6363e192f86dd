import type { types } from 'cassandra-driver'
import { DAY_MS, HOPS_KEPT_MS, type HopRow, startOfUtcDay } from './hopStore.ts'

/** A part of a day: a million rows of one worker are kept well together, and a worker can have that many in an hour. */
export const SLOT_MS = 10 * 60_000

/** CQL with the values of its parameters. */
export interface Statement {
  query: string
  params: unknown[]
}

/**
 * What makes the tables of the metadata log in Cassandra, where they are missing. The keyspace is for one node; on a
 * cluster, make it beforehand with as many copies as it should have.
 *
 * Compaction keeps the rows of a day in files of their own, which are thrown away whole. Nothing is ever deleted, so a
 * day is enough before what has expired leaves the disk.
 */
export function tableStatements(keyspace: string): string[] {
  const options = `default_time_to_live = ${HOPS_KEPT_MS / 1_000} AND gc_grace_seconds = 86400 AND compaction =
    {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': 1}`
  return [
    `CREATE KEYSPACE IF NOT EXISTS ${keyspace}
     WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`,
    `CREATE TABLE IF NOT EXISTS ${keyspace}.hops_by_request (
       request_id text, day date, at timestamp, log_partition int, log_offset bigint, hop_index int,
       worker_name text, sender text, source_topic text, source_offset bigint, target_topic text, route_id int,
       success boolean, error text, processing_time_ms bigint,
       PRIMARY KEY ((request_id, day), at, log_partition, log_offset, hop_index)
     ) WITH ${options}`,
    `CREATE TABLE IF NOT EXISTS ${keyspace}.hops_by_worker_and_day (
       worker_name text, day date, slot int, at timestamp, log_partition int, log_offset bigint, hop_index int,
       request_id text, target_topic text, route_id int, success boolean, error text, processing_time_ms bigint,
       PRIMARY KEY ((worker_name, day, slot), at, log_partition, log_offset, hop_index)
     ) WITH ${options}`,
    `CREATE TABLE IF NOT EXISTS ${keyspace}.workers_by_day (
       day date, worker_name text, slot int,
       PRIMARY KEY (day, worker_name, slot)
     ) WITH ${options}`,
  ]
}

/** What is asked of these tables; `slot` is the number of one such part of a day. */
export function hopStatements(keyspace: string) {
  const workers = `${keyspace}.workers_by_day`
  const byWorker = `${keyspace}.hops_by_worker_and_day`
  const byRequest = `${keyspace}.hops_by_request`
  return {
    addWorker: (row: HopRow, nowMs: number): Statement =>
      insertion(
        workers,
        { day: dateOf(row.atMs), worker_name: row.workerName, slot: slotOf(row) },
        secondsLeft(row, nowMs),
      ),

    addToWorker: (row: HopRow, nowMs: number): Statement =>
      insertion(byWorker, { ...keyOf(row), slot: slotOf(row), ...outcomeOf(row) }, secondsLeft(row, nowMs)),

    addToRequest: (row: HopRow, nowMs: number): Statement =>
      insertion(
        byRequest,
        {
          ...keyOf(row),
          sender: row.sender,
          source_topic: row.sourceTopic,
          source_offset: row.sourceOffset,
          ...outcomeOf(row),
        },
        secondsLeft(row, nowMs),
      ),

    /** Of one day, as they came. */
    trail: (requestId: string, dayMs: number, limit: number): Statement => ({
      query: `SELECT * FROM ${byRequest} WHERE request_id = ? AND day = ? LIMIT ?`,
      params: [requestId, dateOf(dayMs), limit],
    }),

    /** Of each day the first name from there on. */
    nextWorkers: (daysMs: number[], from: string): Statement => ({
      query: `SELECT worker_name FROM ${workers} WHERE day IN ? AND worker_name >= ? PER PARTITION LIMIT 1`,
      params: [daysMs.map(dateOf), from],
    }),

    slotsOf: (workerName: string, daysMs: number[]): Statement => ({
      query: `SELECT day, slot FROM ${workers} WHERE day IN ? AND worker_name = ?`,
      params: [daysMs.map(dateOf), workerName],
    }),

    hopsOf: (workerName: string, dayMs: number, slot: number, sinceMs: number): Statement => ({
      query: `SELECT success, processing_time_ms, route_id, target_topic FROM ${byWorker}
              WHERE worker_name = ? AND day = ? AND slot = ? AND at >= ?`,
      params: [workerName, dateOf(dayMs), slot, new Date(sinceMs)],
    }),

    /** An error is what a refused hop has. */
    count: (): Statement => ({
      query: `SELECT count(*) AS hops, count(error) AS refused FROM ${byWorker}`,
      params: [],
    }),

    countDay: (dayMs: number): Statement => ({
      query: `SELECT count(*) AS hops FROM ${byWorker} WHERE day = ? ALLOW FILTERING`,
      params: [dateOf(dayMs)],
    }),
  }
}

/** Values that are undefined are left out, which is not the same as null: that would be a deletion. */
function insertion(table: string, values: Record<string, unknown>, ttl: number): Statement {
  const names = Object.keys(values)
  return {
    query: `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')}) USING TTL ?`,
    params: [...Object.values(values), ttl],
  }
}

function keyOf(row: HopRow) {
  return {
    day: dateOf(row.atMs),
    at: new Date(row.atMs),
    log_partition: row.partition,
    log_offset: row.offset,
    hop_index: row.index,
    request_id: row.requestId,
    worker_name: row.workerName,
  }
}

function outcomeOf(row: HopRow) {
  return {
    target_topic: row.targetTopic,
    route_id: row.routeId,
    success: row.success,
    error: row.error,
    processing_time_ms: row.processingTimeMs,
  }
}

/** Until its whole day has been kept for as long as its last row must be. */
function secondsLeft({ atMs }: HopRow, nowMs: number): number {
  const goneFromMs = startOfUtcDay(atMs) + DAY_MS + HOPS_KEPT_MS
  return Math.max(1, Math.ceil((goneFromMs - nowMs) / 1_000))
}

function slotOf({ atMs }: HopRow): number {
  return Math.floor((atMs - startOfUtcDay(atMs)) / SLOT_MS)
}

/** 2026-11-21 */
function dateOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10)
}

export function routeOf(row: types.Row): Pick<HopRow, 'routeId' | 'targetTopic'> {
  return {
    ...(row.route_id !== null && { routeId: row.route_id }),
    ...(row.target_topic !== null && { targetTopic: row.target_topic }),
  }
}

/** A row of hops_by_request. */
export function fromStored(row: types.Row): HopRow {
  return {
    partition: row.log_partition,
    offset: Number(row.log_offset),
    index: row.hop_index,
    requestId: row.request_id,
    workerName: row.worker_name,
    sender: row.sender,
    sourceTopic: row.source_topic,
    sourceOffset: Number(row.source_offset),
    ...routeOf(row),
    success: row.success,
    ...(row.error !== null && { error: row.error }),
    processingTimeMs: Number(row.processing_time_ms),
    atMs: row.at.getTime(),
  }
}
