import { PartitionCursor } from './partitionCursor.ts'
import type { BoundsByPartition, OffsetsByPartition } from './topicBounds.ts'

/** What has become of a partition since it was last looked at. */
export interface Loss {
  cursor: PartitionCursor
  /** Records that were deleted before they were read; 'log' when there is another log than the one that was read. */
  lost: number | 'log'
  /** Where the log begins now. */
  low: number
}

/** How far each partition of some topics has been read. */
export class ReadProgress {
  readonly #cursors = new Map<string, Map<number, PartitionCursor>>()
  /** Partitions that are not at the end that they had as the reading began. */
  readonly #behind = new Set<PartitionCursor>()
  #hasBegun = false

  get hasBegun(): boolean {
    return this.#hasBegun
  }

  get isCaughtUp(): boolean {
    return this.#hasBegun && this.#behind.size === 0
  }

  /** The partitions that are not at their end. */
  get behind(): Iterable<PartitionCursor> {
    return this.#behind
  }

  get positions(): OffsetsByPartition {
    const positions = [...this.#cursors].map(
      ([topic, cursors]) =>
        [topic, new Map([...cursors].map(([partition, { position }]) => [partition, position]))] as const,
    )
    return new Map(positions)
  }

  *cursors(): Iterable<PartitionCursor> {
    for (const cursors of this.#cursors.values()) yield* cursors.values()
  }

  find(topic: string, partition: number): PartitionCursor | undefined {
    return this.#cursors.get(topic)?.get(partition)
  }

  /** @param starts where to begin; a partition that is not in it begins with its oldest record */
  begin(bounds: BoundsByPartition, starts: OffsetsByPartition | undefined): void {
    for (const [topic, partitions] of bounds) {
      const cursors = new Map<number, PartitionCursor>()
      for (const [partition, { low, high }] of partitions) {
        const start = starts?.get(topic)?.get(partition) ?? low
        const cursor = new PartitionCursor(topic, partition, start, high)
        cursors.set(partition, cursor)
        if (!cursor.isAtEnd) this.#behind.add(cursor)
      }
      this.#cursors.set(topic, cursors)
    }
    this.#hasBegun = true
  }

  /** Compares with the logs as they are now, and moves past what is not there any more. */
  compare(bounds: BoundsByPartition): Loss[] {
    const losses: Loss[] = []
    for (const cursor of this.cursors()) {
      const found = bounds.get(cursor.topic)?.get(cursor.partition)
      const lost = found ? cursor.compare(found) : 'log'
      if (lost !== 0) losses.push({ cursor, lost, low: found?.low ?? 0 })
      this.noteEnd(cursor)
    }
    return losses
  }

  /** @returns whether the partition has reached its end, and had not before */
  noteEnd(cursor: PartitionCursor): boolean {
    return cursor.isAtEnd && this.#behind.delete(cursor)
  }
}
