import type { InputRecord, Outcome, Outgoing } from './record.ts'
import type { Topic } from './topics.ts'

/** An offset for each topic, all of one partition. */
export type Offsets = ReadonlyMap<string, number>

/** What the work of a group consists of; see `Processor` for how it is run. */
export interface Work<Event, State> {
  readonly inputs: readonly Topic<Event>[]
  /**
   * State of one task, kept in memory and built anew whenever the task is taken over.
   *
   * @param starts where the task begins to read, by input
   */
  createState(starts: Offsets): State
  /**
   * How far behind the committed offset a task begins to read, so that its state is complete again: no more than
   * `orders` records and `ageMs` back. Those records are handed to `remember` and not to `handle`, all of them before
   * anything new.
   */
  readonly readBack?: { orders: number; ageMs: number }
  /**
   * In place of `readBack` for a state that can say so: by input, the lowest offset that it still needs. Committed in the
   * same transaction as results and offsets, so whoever takes the task over begins there.
   */
  keepFrom?(state: State): Offsets
  /**
   * Told of each record once, at the position that it had at first: what was redriven is not told again. Also of what was a
   * dead letter then, if it can be decoded now.
   */
  remember?(state: State, record: InputRecord<Event>): void
  /**
   * Decides what becomes of each record: one outcome for each, in the same order. Called again with the same
   * records after an error, also in smaller groups, so effects must be keyed by `record.source`.
   *
   * @throws an error with `canRetry` when a dependency is away: the records wait. Anything else is taken to be the
   * fault of one record, which is found and dead-lettered.
   */
  handle(records: InputRecord<Event>[], state: State): Promise<Outcome[]> | Outcome[]
  /**
   * What is to be said by now though no record asks for it; asked about once a second. Each names its `source`. Called
   * again when it was not committed.
   *
   * @param handled by input, the offset up to which all records were handed to `handle`
   * @throws an error with `canRetry` when a dependency is away: it is asked again
   */
  overdue?(state: State, handled: Offsets): Promise<Outgoing[]>
  /** Most records in one call of `handle`, and of one task in one transaction. */
  readonly maxBatchRecords: number
}
