import type { RawRecord } from './record.ts'
import type { TaskInput } from './taskInput.ts'

/** The end of a log that others write to in transactions is ahead of what can be read: that is not being behind. */
const BEHIND_RECORDS = 200

/** All inputs of a task together. */
export class TaskInputs implements Iterable<TaskInput> {
  readonly #byTopic: ReadonlyMap<string, TaskInput>

  constructor(inputs: readonly TaskInput[]) {
    this.#byTopic = new Map(inputs.map((input) => [input.topic, input]))
  }

  [Symbol.iterator](): Iterator<TaskInput> {
    return this.#byTopic.values()
  }

  get(topic: string): TaskInput | undefined {
    return this.#byTopic.get(topic)
  }

  get topics(): string[] {
    return [...this.#byTopic.keys()]
  }

  /** Records not yet committed. */
  get lag(): number {
    let lag = 0
    for (const input of this) lag += input.lag
    return lag
  }

  /** Records fetched and not taken out yet. */
  get queued(): number {
    let queued = 0
    for (const input of this) queued += input.queued
    return queued
  }

  /** Records that {@link shift} would take out, or more. */
  get ready(): number {
    if (!this.isRemembering) return this.queued
    let ready = 0
    for (const { hasRemembered, queued } of this) if (hasRemembered) ready += queued
    return ready
  }

  /** Whether much more lies at the broker than has been fetched, and there is room for it. */
  get isBehind(): boolean {
    for (const { position, endOffset, paused } of this) {
      if (!paused && endOffset - position > BEHIND_RECORDS) return true
    }
    return false
  }

  /** Whether some records were worked on already and are still to be remembered. */
  get isRemembering(): boolean {
    for (const { isRemembering } of this) if (isRemembering) return true
    return false
  }

  /**
   * Takes out what comes next, in the order in which it was sent: so an answer seldom comes before what it answers, and
   * a backlog of one input does not keep another waiting for longer than it lasts. Nothing new comes before all that is
   * to be remembered: it may stand on that.
   */
  shift(most: number): RawRecord[] {
    const isRemembering = this.isRemembering
    const records: RawRecord[] = []
    while (records.length < most) {
      const { oldest, nextMs } = this.#findOldest(isRemembering)
      if (!oldest) break
      // Not spread into the call: a batch can be larger than what a call takes.
      for (const record of oldest.shift(most - records.length, nextMs)) records.push(record)
    }
    return records
  }

  /** The input whose next record was sent first, and when that of the next input was. */
  #findOldest(isRemembering: boolean): { oldest: TaskInput | undefined; nextMs: number } {
    let oldest: TaskInput | undefined
    let oldestMs = Number.POSITIVE_INFINITY
    let nextMs = Number.POSITIVE_INFINITY
    for (const input of this) {
      const { nextTimestampMs } = input
      if (nextTimestampMs === undefined || (isRemembering && !input.hasRemembered)) continue
      if (!oldest || nextTimestampMs < oldestMs) {
        nextMs = oldestMs
        oldestMs = nextTimestampMs
        oldest = input
      } else {
        nextMs = Math.min(nextMs, nextTimestampMs)
      }
    }
    return { oldest, nextMs }
  }

  /** By input, the offset up to which all was taken out. */
  get handled(): Map<string, number> {
    return new Map([...this].map(({ topic, nextToCommit }) => [topic, nextToCommit]))
  }

  /** The same where it is not committed. */
  get uncommitted(): Map<string, number> {
    const offsets = new Map<string, number>()
    for (const { topic, nextToCommit, committed } of this) {
      if (nextToCommit > committed) offsets.set(topic, nextToCommit)
    }
    return offsets
  }
}
