import type { Logger } from './log.ts'
import type { Processor } from './processor.ts'

/** More lines for the status, by name. */
export type Details = () => Record<string, string | number>

/** Tells what a processor does, in one line a second and only while there is something to say. */
export class StatusLine {
  readonly #processor: Pick<Processor<never, never>, 'counters' | 'status'>
  readonly #log: Logger
  readonly #details: Details
  #before = { in: 0, out: new Map<string, number>(), deadLetters: 0 }

  constructor(
    processor: Pick<Processor<never, never>, 'counters' | 'status'>,
    log: Logger,
    details: Details = () => ({}),
  ) {
    this.#processor = processor
    this.#log = log
    this.#details = details
  }

  /** To be called once a second. */
  report(): void {
    const { counters, status } = this.#processor
    const before = this.#before
    if (counters.in === before.in && counters.deadLetters === before.deadLetters) return
    const parts = [`in ${counters.in - before.in}/s`]
    for (const [topic, count] of counters.out) {
      parts.push(`${topic} ${count - (before.out.get(topic) ?? 0)}/s`)
    }
    if (counters.deadLetters > 0) parts.push(`dead letters ${counters.deadLetters}`)
    parts.push(`lag ${status.lag}`)
    if (counters.latency) parts.push(`p99 ${counters.latency.p99Ms} ms`)
    for (const [name, value] of Object.entries(this.#details())) parts.push(`${name} ${value}`)
    this.#log.info(parts.join('  '))
    this.#before = { in: counters.in, out: new Map(counters.out), deadLetters: counters.deadLetters }
  }
}
