import type { Config } from '../kafkaConfig.ts'
import type { Logger } from './log.ts'

export const DAY_MS = 24 * 60 * 60 * 1000
/** How long a row of the metadata log is kept. */
export const HOPS_KEPT_MS = 7 * DAY_MS
/** The most hops of one request that are told: a request has about ten, but anybody may send under its id. */
export const MAX_TRAIL_HOPS = 10_000
/** The most lines of a summary: of workers there are as many as names were sent. */
export const MAX_SUMMARY_LINES = 1_000

/**
 * What became of one message in the Command Center. Known by `partition`, `offset` (of the record in the topic of hops
 * that says it) and `index` (of the hop in that record).
 */
export interface HopRow {
  partition: number
  offset: number
  index: number
  /** Empty, as the two that follow, where the envelope had none that could be read. */
  requestId: string
  workerName: string
  sender: string
  sourceTopic: string
  /** Of the message, in the same partition of the source topic. */
  sourceOffset: number
  targetTopic?: string
  routeId?: number
  success: boolean
  /** Why it was refused; absent when it was forwarded. */
  error?: string
  /** From its arrival in the source topic on. */
  processingTimeMs: number
  atMs: number
}

/** Whether figures are told for each worker, or for each route and the topic that it led to. */
export type SummaryBy = 'worker' | 'route'

/** Hops of one worker or route, forwarded and refused alike. */
export interface HopSummary {
  /** By worker. */
  workerName?: string
  /** By route; absent for hops that had none. */
  routeId?: number
  targetTopic?: string
  hops: number
  refused: number
  /** Of the processing times, by nearest rank: a time that one of the hops had. */
  p50Ms: number
  p99Ms: number
  meanMs: number
}

export interface Expiry {
  /** How many rows went. 0 in a store where rows go by themselves. */
  expired: number
  /** About how many go next, within a day. */
  expiring: number
}

/** The metadata log. Every method throws UnavailableError while the store is away. */
export interface HopStore {
  /**
   * Writes rows; those that are there already stay as they are. All may be written in part when it throws.
   *
   * @param rows none older than {@link keptFromMs}
   */
  write(rows: readonly HopRow[]): Promise<void>
  /** The hops of a request in order of time, then as they came: the first {@link MAX_TRAIL_HOPS}. */
  trail(requestId: string): Promise<HopRow[]>
  /** The most hops first, {@link MAX_SUMMARY_LINES} at most. @param sinceMs hops from this time on, since 1970 */
  summary(by: SummaryBy, sinceMs: number): Promise<HopSummary[]>
  /** How many rows there are. */
  count(): Promise<{ forwarded: number; refused: number }>
  /** Drops what is older than {@link keptFromMs}. */
  expire(nowMs: number): Promise<Expiry>
  close(): Promise<void>
}

/** From when on rows are kept: whole days in UTC, each until its last row is as old as that. */
export function keptFromMs(nowMs: number): number {
  return startOfUtcDay(nowMs - HOPS_KEPT_MS)
}

export function startOfUtcDay(timeMs: number): number {
  return Math.floor(timeMs / DAY_MS) * DAY_MS
}

/**
 * The store that is configured, with its tables made; waits until it is there, or the signal.
 *
 * @throws ConfigurationError when it is not usable as configured
 */
export async function openHopStore(config: Config, log: Logger, signal?: AbortSignal): Promise<HopStore> {
  if (config.metadataLog.store === 'cassandra') {
    // Only here: whoever keeps the log in PostgreSQL does not load its driver.
    const { openCassandraHopStore } = await import('./hopStoreCassandra.ts')
    return openCassandraHopStore(config.metadataLog.cassandra, log, signal)
  }
  const { openPostgresHopStore } = await import('./hopStorePostgres.ts')
  return openPostgresHopStore(config, log, signal)
}
