import type { Batch, IHeaders, KafkaMessage } from 'kafkajs'
import {
  DEAD_LETTER_HEADER,
  formatPosition,
  headerText,
  parsePosition,
  type RawRecord,
  SOURCE_HEADER,
  TIMESTAMP_HEADER,
} from './record.ts'
import { FetchedRecord } from './recordBatchDecoder.ts'
import { sizeOfHeaders } from './transaction.ts'

/**
 * What waits to be worked on, above which fetching its partition is paused, and below which it goes on. By bytes
 * too: a few thousand of the largest records would be gigabytes.
 */
export const PAUSE_ABOVE_RECORDS = 2_500
export const PAUSE_ABOVE_BYTES = 8 * 1024 * 1024
const RESUME_BELOW_RECORDS = 1_500
const RESUME_BELOW_BYTES = 5 * 1024 * 1024

/** What waits: as it was fetched, since most of what a record is made of is made only when it is worked on. */
type Waiting = Pick<FetchedRecord, 'position' | 'timestampMs' | 'key' | 'value' | 'headers' | 'size'>

/**
 * What a task knows of one input topic: where it reads, what waits, and how far it has got.
 *
 * The invariant: `position` is the next offset to be taken in, every offset below it is in the queue or done
 * with, and a batch that begins beyond it is never taken. So whatever the client does (a stale fetch that arrives
 * after a seek, a position reset by itself), nothing is skipped unnoticed.
 */
export class TaskInput {
  readonly topic: string
  readonly partition: number
  /** Records below were worked on by a transaction that is committed: they are only remembered, never redone. */
  floor = 0
  position = 0
  committed = 0
  /** End of the partition as the broker last told it. */
  endOffset = 0
  paused = false
  #queue: Waiting[] = []
  #head = 0
  #queuedBytes = 0
  /** What was taken out and is not committed: up to which offset, and when the oldest of it was sent. */
  #inHand: { end: number; sinceMs: number }[] = []

  readonly #deadLetterTopic: string | undefined

  /** @param deadLetterTopic for the retry topic of a group: the one whose letters its records settle */
  constructor(topic: string, partition: number, deadLetterTopic?: string) {
    this.topic = topic
    this.partition = partition
    this.#deadLetterTopic = deadLetterTopic
  }

  get queued(): number {
    return this.#queue.length - this.#head
  }

  get isFull(): boolean {
    return this.queued > PAUSE_ABOVE_RECORDS || this.#queuedBytes > PAUSE_ABOVE_BYTES
  }

  get hasRoom(): boolean {
    return this.queued <= RESUME_BELOW_RECORDS && this.#queuedBytes <= RESUME_BELOW_BYTES
  }

  /** Whether records come first that were worked on already, and are read again to be remembered. */
  get isRemembering(): boolean {
    return this.nextToRead < this.floor
  }

  /** Whether one of these is here. */
  get hasRemembered(): boolean {
    return this.queued > 0 && this.#isDone(this.#queue[this.#head]!)
  }

  /** When the record that comes next was sent; undefined while none is here. */
  get nextTimestampMs(): number | undefined {
    return this.#queue[this.#head]?.timestampMs
  }

  /** When the oldest record was sent of those that are here and not committed; undefined when none is. */
  get oldestTimestampMs(): number | undefined {
    return this.#inHand[0]?.sinceMs ?? (this.hasRemembered ? undefined : this.nextTimestampMs)
  }

  /** The offset of the record that comes next, or where it will be. */
  get nextToRead(): number {
    return this.queued > 0 ? this.#queue[this.#head]!.position : this.position
  }

  /** Records not yet committed, control records included, as far as known. */
  get lag(): number {
    return Math.max(0, this.endOffset - this.committed)
  }

  /** The next offset to be read once all that was taken out is done. */
  get nextToCommit(): number {
    return Math.max(this.nextToRead, this.floor)
  }

  /** Starts at `position`; what lies below `floor` is done. */
  reset(position: number, floor: number): void {
    this.floor = floor
    this.position = position
    this.committed = floor
    this.#queue = []
    this.#head = 0
    this.#queuedBytes = 0
    this.paused = false
    this.#inHand = []
  }

  /** All below this offset is committed. */
  commit(offset: number): void {
    this.committed = offset
    this.#inHand = this.#inHand.filter(({ end }) => end > offset)
  }

  /**
   * Takes a batch in.
   *
   * @returns false when it does not follow: it begins beyond `position`, or the log ends before `position` and thus
   *   is another one. The caller seeks back
   */
  take(batch: Batch): boolean {
    // The offset that was asked for. It is not in the types of kafkajs, and it is what tells a gap in the log
    // (control records, compaction: fine) from a batch that does not follow the one before.
    const { fetchedOffset } = batch as Batch & { fetchedOffset: string }
    if (Number(fetchedOffset) > this.position || Number(batch.highWatermark) < this.position) return false
    this.endOffset = Number(batch.highWatermark)
    for (const message of batch.messages) {
      const waiting = message instanceof FetchedRecord ? message : readMessage(message)
      if (waiting.position < this.position) continue
      this.#queuedBytes += waiting.size
      this.#queue.push(waiting)
    }
    this.position = Math.max(this.position, Number(batch.lastOffset()) + 1)
    return true
  }

  /**
   * Moves past records that never reach anybody: control records and aborted ones.
   *
   * @returns false when they do not follow, as with {@link take}
   */
  skip(firstOffset: number, lastOffset: number, endOffset: number): boolean {
    if (firstOffset > this.position || endOffset < this.position) return false
    this.position = Math.max(this.position, lastOffset + 1)
    this.endOffset = endOffset
    return true
  }

  #isDone({ position }: Waiting): boolean {
    return position < this.floor
  }

  #toRecord(waiting: Waiting): RawRecord {
    const settles = this.#deadLetterTopic === undefined ? undefined : this.#readSettled(waiting.headers)
    return settles === undefined
      ? new ReadRecord(this.topic, this.partition, waiting, this.#isDone(waiting))
      : this.#toRedriven(waiting, settles)
  }

  /** Only with the letter that it was is a record taken at its word: anybody can write to a topic. */
  #toRedriven(waiting: Waiting, settles: number): RawRecord {
    const { position: readOffset, timestampMs: readTimestampMs, key, value, headers } = waiting
    const isDone = this.#isDone(waiting)
    const origin = readOrigin(headers) ?? {
      topic: this.topic,
      partition: this.partition,
      offset: readOffset,
      source: formatPosition(this.topic, this.partition, readOffset),
      timestampMs: readTimestampMs,
    }
    // Not the time of the redrive: whoever goes by the age of records would think all that wait are long past.
    const timestampMs = Math.min(origin.timestampMs ?? readTimestampMs, readTimestampMs)
    return { ...origin, timestampMs, readOffset, readTimestampMs, isDone, settles, key, value, headers }
  }

  /** The offset of the dead letter that a record of the retry topic names, if it names one of this partition. */
  #readSettled(headers: IHeaders): number | undefined {
    const letter = parsePosition(headerText(headers, DEAD_LETTER_HEADER) ?? '')
    const isOurs = letter?.topic === this.#deadLetterTopic && letter?.partition === this.partition
    return isOurs ? letter?.offset : undefined
  }

  /**
   * Up to `most` records, oldest first: those sent until `untilMs`, and the first one in any case; while some are to be
   * remembered, those alone.
   */
  shift(most: number, untilMs = Number.POSITIVE_INFINITY): RawRecord[] {
    const records: RawRecord[] = []
    const last = Math.min(this.#head + most, this.#queue.length)
    const isRemembering = this.hasRemembered
    while (this.#head < last) {
      const waiting = this.#queue[this.#head]!
      const isDue = waiting.timestampMs <= untilMs && this.#isDone(waiting) === isRemembering
      if (records.length > 0 && !isDue) break
      records.push(this.#toRecord(waiting))
      this.#queuedBytes -= waiting.size
      this.#head++
    }
    if (this.#head === this.#queue.length) {
      this.#queue = []
      this.#head = 0
    } else if (this.#head > PAUSE_ABOVE_RECORDS) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
    const [oldest] = records
    if (oldest && !isRemembering) this.#inHand.push({ end: this.nextToRead, sinceMs: oldest.readTimestampMs })
    return records
  }
}

/** A record that counts where it was read. What it takes an object to say is made when it is asked for. */
class ReadRecord implements RawRecord {
  readonly topic: string
  readonly partition: number
  readonly isDone: boolean
  readonly #read: Waiting
  #source: string | undefined

  constructor(topic: string, partition: number, read: Waiting, isDone: boolean) {
    this.topic = topic
    this.partition = partition
    this.#read = read
    this.isDone = isDone
  }

  get settles(): undefined {
    return undefined
  }

  get offset(): number {
    return this.#read.position
  }

  get readOffset(): number {
    return this.#read.position
  }

  get timestampMs(): number {
    return this.#read.timestampMs
  }

  get readTimestampMs(): number {
    return this.#read.timestampMs
  }

  get source(): string {
    this.#source ??= formatPosition(this.topic, this.partition, this.#read.position)
    return this.#source
  }

  get key(): Buffer | null {
    return this.#read.key
  }

  get value(): Buffer | null {
    return this.#read.value
  }

  get headers(): IHeaders {
    return this.#read.headers
  }
}

/** A message of kafkajs, which decodes itself what is compressed. */
function readMessage({ offset, timestamp, key, value, headers = {} }: KafkaMessage): Waiting {
  return {
    position: Number(offset),
    timestampMs: Number(timestamp),
    key,
    value,
    headers,
    size: (key?.length ?? 0) + (value?.length ?? 0) + sizeOfHeaders(headers),
  }
}

/** The position that a redriven record had at first, and when it was sent then, as far as it says. */
function readOrigin(headers: IHeaders) {
  const source = headerText(headers, SOURCE_HEADER)
  const position = source === undefined ? undefined : parsePosition(source)
  if (source === undefined || position === undefined) return undefined
  const text = headerText(headers, TIMESTAMP_HEADER) ?? ''
  return { ...position, source, timestampMs: /^\d{1,15}$/.test(text) ? Number(text) : undefined }
}
