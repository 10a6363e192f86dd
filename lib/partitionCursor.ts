import type { Batch, IHeaders } from 'kafkajs'
import type { Bounds } from './topicBounds.ts'

/** A record of a topic as it lies there. */
export interface TopicRecord {
  offset: number
  key: Buffer | null
  /** Null for a tombstone. */
  value: Buffer | null
  headers: IHeaders
  timestampMs: number
}

/** What END_BATCH_PROCESS of kafkajs says of a batch in which nothing was left to be handed over. */
export interface EmptyBatch {
  /** Null when compaction has removed what was asked for. */
  firstOffset: string | null
  lastOffset: string
}

/**
 * How far one partition has been read.
 *
 * The invariant: everything below `position` has been handed over or never will be visible, and a batch that was
 * asked for beyond `position` is not taken. So whatever the client does (a stale answer after a seek, a reset by
 * itself), nothing is skipped unnoticed and nothing is handed over twice.
 */
export class PartitionCursor {
  readonly topic: string
  readonly partition: number
  /** The end as it was when the reading began. */
  readonly end: number
  position: number
  /** The client was told to go to `position`, and no batch has come since. */
  #isSought = false

  constructor(topic: string, partition: number, position: number, end: number) {
    this.topic = topic
    this.partition = partition
    this.position = position
    this.end = end
  }

  get isAtEnd(): boolean {
    return this.position >= this.end
  }

  /** To be told whenever the client is sent to `position`. */
  sought(): void {
    this.#isSought = true
  }

  /**
   * Takes a batch in.
   *
   * @param limit records at or above this offset are left out
   * @returns its records that are new, or undefined when it was asked for beyond `position`: seek
   */
  take(batch: Batch, limit: number): TopicRecord[] | undefined {
    // The offset that was asked for. It is not in the types of kafkajs, and it is what tells a gap in the log
    // (control records, compaction: fine) from a batch that does not follow the one before.
    const { fetchedOffset } = batch as Batch & { fetchedOffset: string }
    if (Number(fetchedOffset) > this.position) return undefined
    const records: TopicRecord[] = []
    for (const message of batch.messages) {
      const offset = Number(message.offset)
      if (offset < this.position || offset >= limit) continue
      records.push({
        offset,
        key: message.key,
        value: message.value,
        headers: (message.headers ?? {}) as IHeaders,
        timestampMs: Number(message.timestamp),
      })
    }
    // What was left out is still to come for whoever reads on from here.
    this.#moveTo(Math.min(Number(batch.lastOffset()) + 1, limit))
    return records
  }

  /**
   * Moves past a batch with nothing in it to be seen: control records, aborted ones, or what compaction left.
   *
   * Such a batch does not say where it was asked for. When it begins beyond `position`, that can be a gap in the
   * log or a batch that does not follow. The same batch as the answer to a seek must be a gap.
   *
   * @returns false when that is in doubt: seek
   */
  skip({ firstOffset, lastOffset }: EmptyBatch): boolean {
    const first = Number(firstOffset ?? lastOffset)
    if (first > this.position && !this.#isSought) return false
    this.#moveTo(Number(lastOffset) + 1)
    return true
  }

  /**
   * Compares with the log as it is now.
   *
   * @returns how many records are gone that were to be read, or 'log' when it is another one: it ends before our position
   */
  compare({ low, high }: Bounds): number | 'log' {
    if (this.position > high) return 'log'
    const gone = Math.max(0, low - this.position)
    this.position = Math.max(this.position, low)
    return gone
  }

  #moveTo(position: number): void {
    this.#isSought = false
    this.position = Math.max(this.position, position)
  }
}
