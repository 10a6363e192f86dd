/** A replay of some minutes of the past that somebody watches: its table beside the live one, and how they compare. */
import { randomUUID } from 'node:crypto'
import { sleep } from './async.ts'
import type { DashboardContext } from './dashboard.ts'
import { describe } from './errors.ts'
import { MAX_AHEAD_MS, MINUTE_MS } from './minuteTable.ts'
import { OrderReplay } from './orderReplay.ts'
import { type MinuteRow, type OrderStatistics, sumMinutes } from './orderStatistics.ts'
import { compareTables, type TableComparison } from './replayWatchComparison.ts'
import { fetchBounds } from './topicBounds.ts'
import type { ReadFrom } from './topicReader.ts'

/** Whole minutes, in milliseconds since 1970; `toMs` is the end of the last one. */
export interface MinuteRange {
  fromMs: number
  toMs: number
}

/** All replays end with the signal. */
export type ReplayContext = DashboardContext

/** What whoever watches is told. Times in milliseconds since 1970. */
export interface ReplayStatus extends MinuteRange {
  id: string
  state: 'reading' | 'comparing' | 'done' | 'cancelled' | 'failed'
  /** Offsets of orders.validated, control records included. It ends early when no further order can count. */
  records: { read: number; of: number }
  tookMs: number
  /** The table so far, and the live one at this moment: the minutes asked for. */
  replayed: MinuteRow[]
  live: MinuteRow[]
  /** Once it is done. */
  comparison?: TableComparison
  /** Why it failed. */
  problem?: string
}

/** The live table may be some records behind: it gets this long to come to where the replay ended. */
const CATCH_UP_MS = 10_000
/** What it says of that may be older than the replay's end by a little. */
const SETTLE_MS = 2_500
const COMPARE_AGAIN_MS = 250
const AT_MOST_MS = 10 * 60_000

/**
 * Counts the orders of a range anew, alone, in a group of its own that is deleted at the end.
 *
 * It begins with what arrived {@link MAX_AHEAD_MS} before the range: an order counts in its minute only when it is not
 * dated further ahead of its arrival than that, and the same holds for those that make others late. So every order that
 * can count in the range, or decide whether another does, is read, and the table is equal to the live one to the byte.
 * It ends where orders.validated ended as it began, or before, when all later orders would be late for the range.
 */
export class ReplayWatch {
  readonly id = randomUUID()
  readonly range: MinuteRange
  /** Resolves when it has ended, however that was. Never rejects. */
  readonly ended: Promise<void>
  readonly #context: ReplayContext
  readonly #cancel = new AbortController()
  /** No later order can count. */
  readonly #enough = new AbortController()
  readonly #startedMs = performance.now()
  /** By partition: where it begins, how far it is, and where it ends. */
  readonly #partitions = new Map<number, { start: number; next: number; end: number }>()
  #tookMs: number | undefined
  #state: ReplayStatus['state'] = 'reading'
  /** Once it is known where to begin. */
  #replay: OrderReplay | undefined
  #comparison: TableComparison | undefined
  #problem: string | undefined
  /** The live table that was compared. */
  #lastLive: MinuteRow[] | undefined

  constructor(context: ReplayContext, range: MinuteRange) {
    this.#context = context
    this.range = range
    this.ended = this.#run()
  }

  get isOver(): boolean {
    return this.#state !== 'reading' && this.#state !== 'comparing'
  }

  get status(): ReplayStatus {
    const partitions = [...this.#partitions.values()]
    const sum = (read: (partition: { start: number; next: number; end: number }) => number) =>
      partitions.reduce((total, partition) => total + read(partition), 0)
    return {
      id: this.id,
      ...this.range,
      state: this.#state,
      records: {
        read: sum(({ start, next }) => next - start),
        of: sum(({ start, end }) => end - start),
      },
      tookMs: this.#tookMs ?? performance.now() - this.#startedMs,
      replayed: this.#rowsOf(this.#counted),
      live: this.#lastLive ?? this.#rowsOf(this.#context.live().statistics),
      ...(this.#comparison && { comparison: this.#comparison }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
    }
  }

  cancel(): void {
    this.#cancel.abort()
  }

  async #run(): Promise<void> {
    const tooLong = setTimeout(
      () => this.#fail(`it was not through after ${AT_MOST_MS / 60_000} minutes`),
      AT_MOST_MS,
    )
    try {
      const from = await this.#lookAtBounds()
      this.#replay = this.#createReplay(from)
      await this.#replay.run()
      this.#tookMs = performance.now() - this.#startedMs
      if (!this.#isCancelled) await this.#compare()
    } catch (error) {
      this.#context.log.warn(`a replay failed: ${describe(error)}`)
      this.#problem ??= 'Kafka does not answer, or orders.validated is not there: try again'
    } finally {
      clearTimeout(tooLong)
      this.#tookMs ??= performance.now() - this.#startedMs
      this.#lastLive ??= this.#rowsOf(this.#context.live().statistics)
      this.#state = this.#problem !== undefined ? 'failed' : this.#comparison ? 'done' : 'cancelled'
    }
  }

  #fail(problem: string): void {
    this.#problem = problem
    this.#cancel.abort()
  }

  get #isCancelled(): boolean {
    return this.#cancel.signal.aborted || this.#context.signal.aborted
  }

  get #counted(): OrderStatistics[] {
    return this.#replay?.statistics ?? []
  }

  async #lookAtBounds(): Promise<ReadFrom> {
    const { config, createKafka } = this.#context
    const topic = config.topics.ordersValidated.name
    const kafka = createKafka('analytics-replay-bounds', {})
    const { bounds, since } = await fetchBounds(kafka, [topic], this.range.fromMs - MAX_AHEAD_MS)
    const starts = since!.get(topic)!
    for (const [partition, { high: end }] of bounds.get(topic)!) {
      const start = Math.min(starts.get(partition)!, end)
      this.#partitions.set(partition, { start, next: start, end })
    }
    return { offsets: since! }
  }

  #createReplay(from: ReadFrom): OrderReplay {
    const { config, createKafka, log, signal } = this.#context
    return new OrderReplay({
      kafka: createKafka('analytics-replay', {}),
      topics: [config.topics.ordersValidated],
      from,
      until: 'end',
      graceMs: config.analytics.graceMs,
      groupPrefix: `${config.topicPrefix}analytics-replay`,
      onCounted: (_topic, partition, next) => this.#onCounted(partition, next),
      signal: AbortSignal.any([signal, this.#cancel.signal, this.#enough.signal]),
      log,
    })
  }

  #onCounted(partition: number, next: number): void {
    const progress = this.#partitions.get(partition)
    // Partitions that were added meanwhile are not read.
    if (!progress) return
    progress.next = Math.min(next, progress.end)
    if ([...this.#partitions].every(([number, { next, end }]) => next >= end || this.#isFinal(number))) {
      this.#enough.abort()
    }
  }

  /** Whether every further order of a partition is late for the range. */
  #isFinal(partition: number): boolean {
    return this.#watermarkOf(partition) >= this.range.toMs + this.#context.config.analytics.graceMs
  }

  #watermarkOf(partition: number): number {
    return this.#replay?.statisticsOf(partition)?.table.watermarkMs ?? Number.NEGATIVE_INFINITY
  }

  async #compare(): Promise<void> {
    this.#state = 'comparing'
    const startedMs = performance.now()
    for (;;) {
      const live = this.#context.live()
      const liveRows = this.#rowsOf(live.statistics)
      const comparison = compareTables({
        replayed: this.#rowsOf(this.#counted),
        replayedSinceMs: this.#counted.map(({ sinceMs }) => sinceMs),
        watermarkMs: Math.min(
          ...[...this.#partitions.keys()].map((partition) => this.#watermarkOf(partition)),
        ),
        graceMs: this.#context.config.analytics.graceMs,
        live,
        liveRows,
      })
      const withinMs = live.lag > 0 ? CATCH_UP_MS : SETTLE_MS
      const isLastLook = performance.now() - startedMs > withinMs || this.#isCancelled
      if (comparison.agreement !== 'differ' || isLastLook) {
        this.#lastLive = liveRows
        this.#comparison = comparison
        return
      }
      await sleep(COMPARE_AGAIN_MS, this.#cancel.signal)
    }
  }

  #rowsOf(statistics: readonly OrderStatistics[]): MinuteRow[] {
    const { fromMs, toMs } = this.range
    return sumMinutes(statistics).filter(({ minute }) => {
      const minuteMs = Date.parse(minute)
      return minuteMs >= fromMs && minuteMs < toMs
    })
  }
}

/** The range in whole minutes that holds both times. */
export function toMinutes(fromMs: number, toMs: number): MinuteRange {
  return {
    fromMs: Math.floor(fromMs / MINUTE_MS) * MINUTE_MS,
    toMs: Math.ceil(toMs / MINUTE_MS) * MINUTE_MS,
  }
}
