import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { DeadLetter, type Outcome, type RawRecord } from './record.ts'

/** What a processor has done since it started, and since it was last asked. */
export class ProcessorCounters {
  /** Records worked on, by transactions that are committed. */
  in = 0
  /** Records written, by topic. */
  readonly out = new Map<string, number>()
  deadLetters = 0
  /** Tasks that had to start again: errors of transactions, fences. */
  restarts = 0
  /** Time from being sent to Kafka to being committed by us, in milliseconds, since {@link drainLatency}. */
  #latency: RecordableHistogram = createHistogram()
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

  done(record: RawRecord, outcome: Outcome, latencyMs: number): void {
    this.in++
    if (outcome instanceof DeadLetter) this.deadLetters++
    else for (const { topic } of outcome) this.out.set(topic, (this.out.get(topic) ?? 0) + 1)
    // The histogram starts at 1; clocks of two machines may differ.
    this.#latency.record(Math.max(1, Math.round(latencyMs)))
    this.#onDone?.(record, outcome)
  }

  outage(message: string): void {
    this.#onOutage(message)
  }

  /** The latencies since the last call, in milliseconds. */
  drainLatency(): { p50: number; p99: number } {
    const latency = { p50: this.#latency.percentile(50), p99: this.#latency.percentile(99) }
    this.#latency = createHistogram()
    return latency
  }
}
