import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { BucketCounts } from './bucketCounts.ts'
import { DeadLetter, type Outcome, type RawRecord } from './record.ts'

/** Seconds from being sent, or placed, to being committed: from a quiet machine to one that was away for a while. */
export const LATENCY_BUCKETS_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60] as const
const TRANSACTION_BUCKETS_SECONDS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10] as const
const RECORDS_BUCKETS = [1, 5, 10, 50, 100, 500, 1_000, 2_000] as const

/** An order that was placed so long ago comes from a history that is replayed. */
const HISTORY_AGE_MS = 86_400_000

/** What a processor has done since it started, by topic where it says so. */
export class ProcessorCounters {
  /** Records worked on, by transactions that are committed. */
  in = 0
  /** The same by the topic that they were read from: for what was redriven that is the group's retry topic. */
  readonly inByTopic = new Map<string, number>()
  /** Records written, by topic. */
  readonly out = new Map<string, number>()
  deadLetters = 0
  /** Tasks that had to start again: errors of transactions, each for all the tasks in it. */
  restarts = 0
  /** Asks that were repeated because a dependency did not answer. */
  retries = 0
  readonly transactions = { committed: 0, aborted: 0 }
  /** Records worked on in one transaction. */
  readonly transactionRecords = new BucketCounts(RECORDS_BUCKETS)
  readonly transactionSeconds = new BucketCounts(TRANSACTION_BUCKETS_SECONDS)
  /** From being sent to Kafka to being committed by us, by topic. */
  readonly recordSeconds = new Map<string, BucketCounts>()
  /** From being placed to being committed by us, of events that say when their order was placed. */
  readonly orderSeconds = new Map<string, BucketCounts>()
  readonly #latency = new RecentLatency()
  readonly #onDone: ((record: RawRecord, outcome: Outcome) => void) | undefined
  readonly #onOutage: (message: string) => void

  /**
   * @param onOutage is told whenever a dependency did not answer
   * @param onDone is told of each record, once it is committed
   */
  constructor(onOutage: (message: string) => void, onDone?: (record: RawRecord, outcome: Outcome) => void) {
    this.#onOutage = onOutage
    this.#onDone = onDone
  }

  /**
   * @param topic that it was read from, one of few; a redriven record names another one, which may be any
   * @param placedAtMs when its order was placed, where the event says so
   */
  done(
    topic: string,
    record: RawRecord,
    outcome: Outcome,
    nowMs: number,
    placedAtMs: number | undefined,
  ): void {
    const isLetter = outcome instanceof DeadLetter
    const latencyMs = nowMs - record.readTimestampMs
    this.in++
    this.inByTopic.set(topic, (this.inByTopic.get(topic) ?? 0) + 1)
    if (isLetter) this.deadLetters++
    for (const { topic } of isLetter ? outcome.also : outcome) this.wrote(topic)
    this.#latency.record(latencyMs, nowMs)
    bucketsOf(this.recordSeconds, topic).add(latencyMs / 1_000)
    if (placedAtMs !== undefined && nowMs - placedAtMs < HISTORY_AGE_MS)
      bucketsOf(this.orderSeconds, topic).add((nowMs - placedAtMs) / 1_000)
    this.#onDone?.(record, outcome)
  }

  /** A record that is the result of another, or of a time that is up. */
  wrote(topic: string): void {
    this.out.set(topic, (this.out.get(topic) ?? 0) + 1)
  }

  /** @param records worked on in it */
  committed(records: number, durationMs: number): void {
    this.transactions.committed++
    // Some commit offsets alone: past control records, or what was not due.
    if (records > 0) this.transactionRecords.add(records)
    this.transactionSeconds.add(durationMs / 1_000)
  }

  outage(message: string): void {
    this.retries++
    this.#onOutage(message)
  }

  /** From being sent to Kafka to being committed by us, over the last seconds; undefined when there was nothing. */
  get latency(): { p50Ms: number; p99Ms: number } | undefined {
    return this.#latency.quantiles()
  }
}

function bucketsOf(all: Map<string, BucketCounts>, topic: string): BucketCounts {
  let counts = all.get(topic)
  if (!counts) {
    counts = new BucketCounts(LATENCY_BUCKETS_SECONDS)
    all.set(topic, counts)
  }
  return counts
}

/** Latencies of the last two to four seconds, in two halves of which the older one is dropped in turn. */
class RecentLatency {
  static readonly #HALF_MS = 2_000
  #current: RecordableHistogram = createHistogram()
  #before: RecordableHistogram = createHistogram()
  #turnedMs = 0

  record(latencyMs: number, nowMs: number): void {
    this.#turn(nowMs)
    // The histogram starts at 1; clocks of two machines may differ.
    this.#current.record(Math.max(1, Math.round(latencyMs)))
  }

  quantiles(): { p50Ms: number; p99Ms: number } | undefined {
    this.#turn(Date.now())
    const both = createHistogram()
    both.add(this.#before)
    both.add(this.#current)
    return both.count === 0 ? undefined : { p50Ms: both.percentile(50), p99Ms: both.percentile(99) }
  }

  #turn(nowMs: number): void {
    const sinceMs = nowMs - this.#turnedMs
    if (sinceMs < RecentLatency.#HALF_MS) return
    this.#before = sinceMs < 2 * RecentLatency.#HALF_MS ? this.#current : createHistogram()
    this.#current = createHistogram()
    this.#turnedMs = nowMs
  }
}
