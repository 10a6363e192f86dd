import { toDeadLetter, withoutNulls } from './deadLetters.ts'
import { canRetry, describe, UnusableRecordError } from './errors.ts'
import type { Logger } from './log.ts'
import type { ProcessorCounters } from './processorCounters.ts'
import {
  DeadLetter,
  DROPPED_HEADER,
  decodeRecord,
  type Forwarded,
  type InputRecord,
  type Outcome,
  type Outgoing,
  type RawRecord,
  SOURCE_HEADER,
} from './record.ts'
import type { Sealer } from './sealing.ts'
import { SettledLetters } from './settledLetters.ts'
import type { Topic } from './topics.ts'
import { type TraceSpan, traceparentOf, tracing, withTraceparent } from './tracing.ts'
import type { TransactionRecord } from './transaction.ts'
import type { Offsets, Work } from './work.ts'

export interface DecidingOptions<Event, State> {
  work: Work<Event, State>
  group: string
  retryTopic: string
  /** Where the task begins to read, by input. */
  starts: Offsets
  counters: ProcessorCounters
  log: Logger
  /**
   * Awaited before each call of `handle`; from the second `attempt` on, a dependency was away at the one before.
   *
   * @throws what ends the task
   */
  beforeAttempt(attempt: number): Promise<void>
}

/** With when its order was placed, where the event says so; and its span, to be ended with {@link endSpans}. */
export type Decision = readonly [
  record: RawRecord,
  outcome: Outcome,
  placedAtMs?: number | undefined,
  span?: TraceSpan | undefined,
]

/** Decides what becomes of each record of a task, and holds what it must know for that: built anew on each takeover. */
export class Deciding<Event, State> {
  readonly state: State
  readonly #options: DecidingOptions<Event, State>
  readonly #codecs: ReadonlyMap<string, Topic<Event>>
  readonly #settled = new SettledLetters()

  constructor(options: DecidingOptions<Event, State>) {
    this.#options = options
    this.#codecs = new Map(options.work.inputs.map((topic) => [topic.name, topic]))
    this.state = options.work.createState(options.starts)
  }

  /** One decision for each record that is not only to be remembered. */
  async decideAll(records: RawRecord[]): Promise<Decision[]> {
    const decisions: Decision[] = []
    // The three in step: what was decoded, what from, and its span.
    const decoded: InputRecord<Event>[] = []
    const usable: RawRecord[] = []
    const spans: (TraceSpan | undefined)[] = []
    for (const raw of records) {
      if (!this.#isDue(raw)) {
        if (!raw.isDone) decisions.push([raw, []])
        continue
      }
      const span = raw.isDone ? undefined : this.#startSpan(raw)
      const record = this.#decode(raw, span?.traceparent ?? traceparentOf(raw.headers))
      if (raw.isDone) {
        if (!(record instanceof DeadLetter)) this.#remember(record)
      } else if (record instanceof DeadLetter) {
        decisions.push([raw, record, undefined, span])
      } else {
        decoded.push(record)
        usable.push(raw)
        spans.push(span)
      }
    }
    const outcomes = decoded.length > 0 ? await this.#decideTraced(decoded, spans) : []
    for (let index = 0; index < usable.length; index++) {
      decisions.push([usable[index]!, outcomes[index]!, placedAtMsOf(decoded[index]!.event), spans[index]])
    }
    return decisions
  }

  /**
   * Whether a record is to be looked at. One that settles a dead letter is not, when
   *
   *   - the letter is settled already: two redrove it at the same time, or one twice
   *   - it only says that the letter is given up
   *   - it is read back: its order is remembered at the position that it had at first
   */
  #isDue({ settles, isDone, headers }: RawRecord): boolean {
    if (settles === undefined) return true
    return this.#settled.settle(settles) && !isDone && headers[DROPPED_HEADER] === undefined
  }

  #startSpan(raw: RawRecord): TraceSpan | undefined {
    if (!tracing) return undefined
    const { group, retryTopic } = this.#options
    const { partition, readOffset, key, headers, settles } = raw
    const topic = settles === undefined ? raw.topic : retryTopic
    return tracing.process({ topic, partition, readOffset, key, headers, group })
  }

  /** Whatever is thrown at this is the fault of the record: its bytes are all that a decoder knows. */
  #decode(raw: RawRecord, traceparent: string | undefined): InputRecord<Event> | DeadLetter {
    try {
      return decodeRecord(raw, this.#codecs, traceparent)
    } catch (error) {
      if (error instanceof UnusableRecordError) return new DeadLetter(error.message)
      return new DeadLetter(`cannot be decoded: ${describe(error)}`)
    }
  }

  /** What is thrown at this was thrown by `handle` as well, and must not stop the task on each of its beginnings. */
  #remember(record: InputRecord<Event>): void {
    const { work, log } = this.#options
    try {
      work.remember?.(this.state, record)
    } catch (error) {
      log.error({ source: record.source, error }, `cannot remember ${record.source}: ${describe(error)}`)
    }
  }

  async #decideTraced(
    records: InputRecord<Event>[],
    spans: readonly (TraceSpan | undefined)[],
  ): Promise<Outcome[]> {
    try {
      return await this.#decide(records)
    } catch (error) {
      for (const span of spans) span?.end('not-decided')
      throw error
    }
  }

  /**
   * Asks `handle`. When a dependency is away, waits and asks again for as long as it takes: the queue fills, its
   * partition pauses, nothing is dead-lettered. When it throws for another reason, halves the batch until the
   * record that it throws on stands alone.
   */
  async #decide(records: InputRecord<Event>[]): Promise<Outcome[]> {
    const { work, log, counters, beforeAttempt } = this.#options
    for (let attempt = 1; ; attempt++) {
      await beforeAttempt(attempt)
      try {
        const outcomes = await work.handle(records, this.state)
        if (outcomes.length === records.length) return outcomes
        throw new Error(`handle answered ${outcomes.length} outcomes for ${records.length} records`)
      } catch (error) {
        if (canRetry(error)) {
          counters.outage(describe(error))
        } else if (records.length === 1) {
          const [{ source }] = records as [InputRecord<Event>]
          log.error({ source, error }, `dead letter ${source}: ${describe(error)}`)
          return [new DeadLetter(`processing failed: ${describe(error)}`)]
        } else {
          const middle = records.length >> 1
          return [
            ...(await this.#decide(records.slice(0, middle))),
            ...(await this.#decide(records.slice(middle))),
          ]
        }
      }
    }
  }
}

function placedAtMsOf(event: unknown): number | undefined {
  const { placedAt } = event as { placedAt?: unknown }
  return typeof placedAt === 'string' ? Date.parse(placedAt) : undefined
}

/** What is to be written for these decisions: results with the position that caused them, and dead letters. */
export function toTransactionRecords(
  decisions: readonly Decision[],
  deadLetterTopic: string,
  seal: Sealer,
): TransactionRecord[] {
  const records: TransactionRecord[] = []
  for (const [raw, outcome, , span] of decisions) {
    const cause = { source: raw.source, traceparent: span?.traceparent ?? traceparentOf(raw.headers) }
    const isLetter = outcome instanceof DeadLetter
    if (isLetter) {
      const letter = toDeadLetter(deadLetterTopic, raw, outcome.reason)
      records.push(withTraceparent(letter, cause.traceparent))
    }
    for (const outgoing of isLetter ? outcome.also : outcome) {
      records.push(toTransactionRecord(outgoing, seal, cause))
    }
  }
  return records
}

/** @param cause what caused it, unless it says so itself */
export function toTransactionRecord(
  record: Outgoing | Forwarded,
  seal: Sealer,
  cause: { source?: string; traceparent?: string | undefined } = {},
): TransactionRecord {
  const { topic, key, value } = record
  if ('headers' in record) {
    return withTraceparent({ topic, key, value, headers: withoutNulls(record.headers) }, cause.traceparent)
  }
  const sealed = seal({ topic, key, value, headers: { [SOURCE_HEADER]: record.source ?? cause.source } })
  const { traceparent = cause.traceparent } = record
  return withTraceparent(sealed, traceparent ?? undefined)
}

/**
 * Ends the spans of these decisions: what came of them is committed, or not.
 *
 * @param error the kind of error for which it is not
 */
export function endSpans(decisions: readonly Decision[], error?: string): void {
  if (!tracing) return
  for (const [, outcome, , span] of decisions) {
    span?.end(error ?? (outcome instanceof DeadLetter ? 'dead-letter' : undefined))
  }
}
