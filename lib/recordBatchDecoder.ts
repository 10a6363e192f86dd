import type { IHeaders } from 'kafkajs'
import { crc32c } from './crc32c.ts'
import { PipelineError } from './errors.ts'
import {
  ATTRIBUTES_AT,
  BASE_TIMESTAMP_AT,
  BEFORE_LENGTH_ENDS,
  COMPRESSION_MASK,
  CONTROL,
  CRC_AT,
  LAST_OFFSET_DELTA_AT,
  LENGTH_AT,
  LOG_APPEND_TIME,
  MAGIC,
  MAGIC_AT,
  MAX_TIMESTAMP_AT,
  PRODUCER_ID_AT,
  RECORD_COUNT_AT,
  RECORDS_AT,
  TRANSACTIONAL,
} from './recordBatchLayout.ts'

/** What the broker sent is not what a producer wrote: damaged on its disk or on the way. */
export class CorruptBatchError extends PipelineError {
  readonly code = 'CORRUPT_BATCH'
  readonly canRetry = true
}

const NO_HEADERS: IHeaders = Object.freeze({})
/** A varint of 32 bits takes so many bytes at most, one of 64 bits twice as many. */
const MOST_VARINT_BYTES = 5
const MOST_VARLONG_BYTES = 10

/** Where {@link readVarint} and its neighbours read: parsing never waits, so one place will do. */
let source: Buffer = Buffer.alloc(0)
let at = 0
let limit = 0

/** The records of one send, of one producer and within one transaction or none. Holds on to the bytes it was read from. */
export class FetchedBatch {
  readonly bytes: Buffer
  readonly baseOffset: number
  /** That of its last record as it was written: compaction may have removed it, or all of them. */
  readonly lastOffset: number
  readonly recordCount: number
  readonly #attributes: number
  readonly #start: number
  readonly #end: number
  readonly #baseTimestampMs: number

  /** @param end where it ends. The caller has seen that it is whole, of {@link MAGIC}, and what its checksum says */
  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes
    this.#start = start
    this.#end = end
    this.#attributes = bytes.readInt16BE(start + ATTRIBUTES_AT)
    this.baseOffset = readInt64(bytes, start)
    this.lastOffset = this.baseOffset + bytes.readInt32BE(start + LAST_OFFSET_DELTA_AT)
    this.recordCount = bytes.readInt32BE(start + RECORD_COUNT_AT)
    this.#baseTimestampMs = readInt64(bytes, start + BASE_TIMESTAMP_AT)
  }

  get isCompressed(): boolean {
    return (this.#attributes & COMPRESSION_MASK) !== 0
  }

  get isControl(): boolean {
    return (this.#attributes & CONTROL) !== 0
  }

  get isTransactional(): boolean {
    return (this.#attributes & TRANSACTIONAL) !== 0
  }

  /** Of 64 bits, so as text. */
  get producerId(): string {
    return String(this.bytes.readBigInt64BE(this.#start + PRODUCER_ID_AT))
  }

  /**
   * Appends its records from `position` on.
   *
   * @throws CorruptBatchError when they are not where the batch says
   */
  appendTo(records: FetchedRecord[], position: number): void {
    source = this.bytes
    at = this.#start + RECORDS_AT
    limit = this.#end
    // Stamped by the broker, all have the one time.
    const appendedMs =
      this.#attributes & LOG_APPEND_TIME ? readInt64(source, this.#start + MAX_TIMESTAMP_AT) : undefined
    for (let count = 0; count < this.recordCount; count++) {
      const record = this.#readRecord(appendedMs)
      if (record.position >= position) records.push(record)
    }
    if (at !== limit) throw new CorruptBatchError(`${this}: ${limit - at} bytes follow its records`)
  }

  #readRecord(appendedMs: number | undefined): FetchedRecord {
    const length = readVarint(this)
    const end = at + length
    // At least its attributes.
    if (length < 1 || end > limit) throw new CorruptBatchError(`${this}: a record of ${length} bytes`)
    at++
    const timestampMs = this.#baseTimestampMs + readVarlong(this)
    const position = this.baseOffset + readVarint(this)
    const keyLength = readVarint(this)
    const keyAt = at
    skip(keyLength)
    const valueLength = readVarint(this)
    const valueAt = at
    skip(valueLength)
    const headersAt = at
    const headerCount = readVarint(this)
    if (headerCount < 0) throw new CorruptBatchError(`${this}: a record with ${headerCount} headers`)
    for (let header = 0; header < headerCount; header++) {
      const nameLength = readVarint(this)
      if (nameLength < 0) throw new CorruptBatchError(`${this}: a header without a name`)
      skip(nameLength)
      skip(readVarint(this))
    }
    if (at !== end) throw new CorruptBatchError(`${this}: a record that is not as long as it says`)
    const hasHeaders = headerCount > 0
    return new FetchedRecord(
      this,
      position,
      appendedMs ?? timestampMs,
      keyAt,
      keyLength,
      valueAt,
      valueLength,
      hasHeaders ? headersAt : 0,
      end,
    )
  }

  toString(): string {
    return `the record batch at offset ${this.baseOffset}`
  }
}

/**
 * A record as it lies in the bytes that were fetched. Has what kafkajs gives for a message, made when it is asked for:
 * whoever keeps a part of it keeps all of what was fetched.
 */
export class FetchedRecord {
  /** The offset, as a number. */
  readonly position: number
  readonly timestampMs: number
  readonly #batch: FetchedBatch
  readonly #keyAt: number
  readonly #keyLength: number
  readonly #valueAt: number
  readonly #valueLength: number
  /** 0 for none. */
  readonly #headersAt: number
  readonly #end: number

  constructor(
    batch: FetchedBatch,
    position: number,
    timestampMs: number,
    keyAt: number,
    keyLength: number,
    valueAt: number,
    valueLength: number,
    headersAt: number,
    end: number,
  ) {
    this.position = position
    this.timestampMs = timestampMs
    this.#batch = batch
    this.#keyAt = keyAt
    this.#keyLength = keyLength
    this.#valueAt = valueAt
    this.#valueLength = valueLength
    this.#headersAt = headersAt
    this.#end = end
  }

  get offset(): string {
    return String(this.position)
  }

  get timestamp(): string {
    return String(this.timestampMs)
  }

  get key(): Buffer | null {
    return this.#slice(this.#keyAt, this.#keyLength)
  }

  get value(): Buffer | null {
    return this.#slice(this.#valueAt, this.#valueLength)
  }

  /** By name; a list where one was repeated. */
  get headers(): IHeaders {
    return this.#headersAt === 0 ? NO_HEADERS : readHeaders(this.#batch, this.#headersAt, this.#end)
  }

  /** What it takes of the bytes that were fetched, about. */
  get size(): number {
    return this.#end - this.#keyAt
  }

  #slice(start: number, length: number): Buffer | null {
    return length < 0 ? null : this.#batch.bytes.subarray(start, start + length)
  }
}

/** @param headersAt where the number of them stands, which was read before without an error */
function readHeaders(batch: FetchedBatch, headersAt: number, end: number): IHeaders {
  source = batch.bytes
  at = headersAt
  limit = end
  const headers: IHeaders = {}
  for (let rest = readVarint(batch); rest > 0; rest--) {
    const nameLength = readVarint(batch)
    const name = source.toString('utf8', at, at + nameLength)
    at += nameLength
    const length = readVarint(batch)
    // The types of kafkajs do not say that a header may be null.
    const value = (length < 0 ? null : source.subarray(at, at + length)) as Buffer
    at += Math.max(length, 0)
    const before = Object.hasOwn(headers, name) ? headers[name] : undefined
    if (before === undefined) setHeader(headers, name, value)
    else if (Array.isArray(before)) before.push(value)
    else setHeader(headers, name, [before, value])
  }
  return headers
}

function setHeader(headers: IHeaders, name: string, value: Buffer | (Buffer | string)[]): void {
  // Assigned, it would be no header and change what the object inherits.
  if (name === '__proto__') {
    Object.defineProperty(headers, name, { value, enumerable: true, writable: true, configurable: true })
  } else {
    headers[name] = value
  }
}

/**
 * The batches in what a fetch has brought of one partition. The last one may be cut short, by the number of bytes that
 * were asked for: it is left out.
 *
 * @returns undefined when there are some that this does not read: compressed ones, or those of an earlier version
 * @throws CorruptBatchError
 */
export function readBatches(bytes: Buffer): FetchedBatch[] | undefined {
  const batches: FetchedBatch[] = []
  for (let start = 0; start + RECORDS_AT <= bytes.length; ) {
    const length = bytes.readInt32BE(start + LENGTH_AT)
    if (bytes[start + MAGIC_AT] !== MAGIC) return undefined
    if (length < RECORDS_AT - BEFORE_LENGTH_ENDS) {
      throw new CorruptBatchError(`a record batch of ${length} bytes`)
    }
    const end = start + BEFORE_LENGTH_ENDS + length
    if (end > bytes.length) break
    const batch = new FetchedBatch(bytes, start, end)
    const isWhole = crc32c(bytes, start + ATTRIBUTES_AT, end) === bytes.readUInt32BE(start + CRC_AT)
    if (!isWhole) throw new CorruptBatchError(`${batch} is damaged: its checksum is another one`)
    if (batch.isCompressed) return undefined
    batches.push(batch)
    start = end
  }
  return batches
}

function readInt64(bytes: Buffer, start: number): number {
  return bytes.readInt32BE(start) * 2 ** 32 + bytes.readUInt32BE(start + 4)
}

/** Past the end as well: whatever is read next, or the end of the record, finds that out. */
function skip(length: number): void {
  if (length > 0) at += length
}

function readVarint(batch: FetchedBatch): number {
  let value = 0
  for (let shift = 0; shift < MOST_VARINT_BYTES * 7; shift += 7) {
    if (at >= limit) break
    const byte = source[at++]!
    value |= (byte & 0x7f) << shift
    if (byte < 0x80) return (value >>> 1) ^ -(value & 1)
  }
  throw new CorruptBatchError(`${batch}: a number without an end`)
}

/** For times: exact up to 2^52. */
function readVarlong(batch: FetchedBatch): number {
  let value = 0
  let factor = 1
  for (let count = 0; count < MOST_VARLONG_BYTES; count++) {
    if (at >= limit) break
    const byte = source[at++]!
    value += (byte & 0x7f) * factor
    if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
    factor *= 0x80
  }
  throw new CorruptBatchError(`${batch}: a number without an end`)
}
