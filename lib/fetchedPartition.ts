import type { FetchedBatch, FetchedRecord } from './recordBatchDecoder.ts'

/** A transaction that was aborted, as the broker names it beside what was fetched. */
export interface AbortedTransaction {
  producerId: string
  firstOffset: string
}

export interface PartitionData {
  partition: number
  highWatermark: string
  /** Null or empty when there are none. Not in order. */
  abortedTransactions: readonly AbortedTransaction[] | null
}

/** The key of the control record that ends an aborted transaction begins with: version 0, type 0. */
const ABORT_MARKER_TYPE = 0

/**
 * What one fetch has brought of one partition: takes the place of the `Batch` of kafkajs, with the same questions and
 * answers, and differs from it in two things:
 *
 *   - Aborted records are left out by whole batches, as Kafka's own consumer does: all of a batch are of one producer and
 *     one transaction. They are not even decoded.
 *   - Its last offset is that of its last batch and not of the last record that compaction has left in it. The client
 *     asked for the rest of such a batch again, an offset at a time.
 */
export class FetchedPartition {
  readonly topic: string
  readonly partition: number
  readonly highWatermark: string
  /** The offset that was asked for. */
  readonly fetchedOffset: string
  /** Those to be handed over: from that offset on, without control records and aborted ones. */
  readonly messages: FetchedRecord[] = []
  readonly #hasBatches: boolean
  readonly #hasControlBatch: boolean
  readonly #firstOffset: number | undefined
  readonly #lastOffset: number

  /** @throws CorruptBatchError */
  constructor(topic: string, fetchedOffset: string, data: PartitionData, batches: readonly FetchedBatch[]) {
    const position = Number(fetchedOffset)
    this.topic = topic
    this.partition = data.partition
    this.highWatermark = data.highWatermark
    this.fetchedOffset = fetchedOffset
    // Compressed together, records may come that lie before what was asked for.
    const wanted = batches.filter(({ lastOffset }) => lastOffset >= position)
    this.#hasBatches = batches.length > 0
    this.#hasControlBatch = wanted.some(({ isControl }) => isControl)
    this.#firstOffset = wanted[0] && Math.max(wanted[0].baseOffset, position)
    this.#lastOffset =
      wanted.at(-1)?.lastOffset ?? (this.#hasBatches ? position : Number(this.highWatermark) - 1)
    for (const batch of withoutAborted(wanted, data.abortedTransactions ?? [])) {
      if (!batch.isControl) batch.appendTo(this.messages, position)
    }
  }

  isEmpty(): boolean {
    return this.messages.length === 0
  }

  isEmptyIncludingFiltered(): boolean {
    return this.#firstOffset === undefined
  }

  /** Something was there, and nothing is left of it to be handed over. */
  isEmptyDueToFiltering(): boolean {
    return this.isEmpty() && this.#hasBatches
  }

  isEmptyControlRecord(): boolean {
    return this.isEmpty() && this.#hasControlBatch
  }

  isEmptyDueToLogCompactedMessages(): boolean {
    return this.#hasBatches && this.isEmptyIncludingFiltered()
  }

  /** Of all that was wanted, whether it is handed over or not. */
  firstOffset(): string | null {
    return this.#firstOffset === undefined ? null : String(this.#firstOffset)
  }

  lastOffset(): string {
    return String(this.#lastOffset)
  }

  /** How many records follow the last one. */
  offsetLag(): string {
    return String(Number(this.highWatermark) - 1 - this.#lastOffset)
  }

  /** How many follow the first one. */
  offsetLagLow(): string {
    return this.#firstOffset === undefined ? '0' : String(Number(this.highWatermark) - 1 - this.#firstOffset)
  }
}

/**
 * The batches that are of no aborted transaction, as Kafka's documentation of the consumer has it: a producer's records
 * count as aborted from the first offset of one on, up to the control record that says so.
 */
function* withoutAborted(
  batches: readonly FetchedBatch[],
  aborted: readonly AbortedTransaction[],
): Generator<FetchedBatch> {
  if (aborted.length === 0) return yield* batches
  const upcoming = aborted
    .map(({ producerId, firstOffset }) => ({ producerId, firstOffset: Number(firstOffset) }))
    .sort((a, b) => a.firstOffset - b.firstOffset)
  const open = new Set<string>()
  for (const batch of batches) {
    while (upcoming.length > 0 && upcoming[0]!.firstOffset <= batch.lastOffset)
      open.add(upcoming.shift()!.producerId)
    if (batch.isControl) {
      if (isAbortMarker(batch)) open.delete(batch.producerId)
      yield batch
    } else if (!batch.isTransactional || !open.has(batch.producerId)) {
      yield batch
    }
  }
}

/** A control batch holds one record, whose key is its version and its type, of 16 bits each. */
function isAbortMarker(batch: FetchedBatch): boolean {
  const records: FetchedRecord[] = []
  batch.appendTo(records, 0)
  return records.some(
    ({ key }) => key !== null && key.length >= 4 && key.readInt16BE(2) === ABORT_MARKER_TYPE,
  )
}
