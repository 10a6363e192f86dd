import type { InputRecord, Outcome } from './record.ts'
import type { Topic } from './topics.ts'

/** What the work of a group consists of; see `Processor` for how it is run. */
export interface Work<Event, State> {
  readonly inputs: readonly Topic<Event>[]
  /** State of one task, kept in memory and built anew whenever the task is taken over. */
  createState(): State
  /**
   * How far behind the committed offset a task begins to read, so that its state is complete again: no more than
   * `orders` records and `ageMs` back. Those records are handed to `remember` and not to `handle`.
   */
  readonly readBack?: { orders: number; ageMs: number }
  /** Told of each record once, at the position that it had at first: what was redriven is not told again. */
  remember?(state: State, record: InputRecord<Event>): void
  /**
   * Decides what becomes of each record: one outcome for each, in the same order. Called again with the same
   * records after an error, also in smaller groups, so effects must be keyed by `record.source`.
   *
   * @throws an error with `canRetry` when a dependency is away: the records wait. Anything else is taken to be the
   * fault of one record, which is found and dead-lettered.
   */
  handle(records: InputRecord<Event>[], state: State): Promise<Outcome[]> | Outcome[]
  /** Most records in one call of `handle` and one transaction. */
  readonly maxBatchRecords: number
}
