import { crc32c } from './crc32c.ts'
import {
  ATTRIBUTES_AT,
  BASE_SEQUENCE_AT,
  BASE_TIMESTAMP_AT,
  BEFORE_LENGTH_ENDS,
  CRC_AT,
  LAST_OFFSET_DELTA_AT,
  LEADER_EPOCH_AT,
  LENGTH_AT,
  MAGIC,
  MAGIC_AT,
  MAX_TIMESTAMP_AT,
  PRODUCER_EPOCH_AT,
  PRODUCER_ID_AT,
  RECORD_COUNT_AT,
  RECORDS_AT,
  TRANSACTIONAL,
} from './recordBatchLayout.ts'

/** What a key, a value or a header may be. Nothing is another value than an empty one. */
export type Content = Uint8Array | string | null | undefined

export interface RecordToEncode {
  key?: Content
  value?: Content
  /** A list is that header repeated. */
  headers?: { [name: string]: Content | Content[] } | undefined
  /** In milliseconds since 1970; that of the batch when it is left out. */
  timestamp?: string | number | undefined
}

export interface BatchToEncode {
  records: readonly RecordToEncode[]
  isTransactional: boolean
  /** Whole numbers of 64, 16 and 32 bits; -1, 0 and 0 for a producer that is not idempotent. */
  producerId: bigint
  producerEpoch: number
  baseSequence: number
  /** For records without a time of their own. */
  nowMs: number
}

/** All but what is in key, value and headers: the varints, at their longest. */
const MOST_RECORD_OVERHEAD = 40
const MOST_HEADER_OVERHEAD = 10
const MOST_BYTES_PER_CHARACTER = 3
/** Up to this length it is faster to copy a text character by character than to have it copied. */
const SHORT_TEXT = 24
const FIRST_CAPACITY = 64 * 1024
/** Above this the memory is given back after use: a batch is seldom larger. */
const KEPT_CAPACITY = 2 * 1024 * 1024

/** Where batches are written before they are copied out at their final size; encoding never waits, so one will do. */
let bytes = Buffer.allocUnsafeSlow(FIRST_CAPACITY)
let end = 0

/**
 * A record batch, uncompressed, as a producer sends it: its offsets begin at 0.
 *
 * @throws TypeError for content that is none of {@link Content}
 */
export function encodeRecordBatch(batch: BatchToEncode): Buffer {
  const { records, nowMs } = batch
  let baseTimestamp = nowMs
  let maxTimestamp = nowMs
  for (let index = 0; index < records.length; index++) {
    const timestamp = timestampOf(records[index]!, nowMs)
    if (index === 0) baseTimestamp = maxTimestamp = timestamp
    else if (timestamp > maxTimestamp) maxTimestamp = timestamp
  }
  end = RECORDS_AT
  for (let index = 0; index < records.length; index++) {
    const record = records[index]!
    writeRecord(record, index, timestampOf(record, nowMs) - baseTimestamp)
  }
  writeHead(batch, baseTimestamp, maxTimestamp)
  const encoded = Buffer.allocUnsafe(end)
  bytes.copy(encoded, 0, 0, end)
  if (bytes.length > KEPT_CAPACITY) bytes = Buffer.allocUnsafeSlow(FIRST_CAPACITY)
  return encoded
}

function timestampOf({ timestamp }: RecordToEncode, nowMs: number): number {
  if (timestamp == null) return nowMs
  const timestampMs = Number(timestamp)
  if (!Number.isSafeInteger(timestampMs)) throw new TypeError(`${timestamp} is no time of a record`)
  return timestampMs
}

function writeHead(batch: BatchToEncode, baseTimestamp: number, maxTimestamp: number): void {
  const { records, isTransactional, producerId, producerEpoch, baseSequence } = batch
  bytes.writeBigInt64BE(0n, 0)
  bytes.writeInt32BE(end - BEFORE_LENGTH_ENDS, LENGTH_AT)
  // The broker puts in its own.
  bytes.writeInt32BE(0, LEADER_EPOCH_AT)
  bytes.writeInt8(MAGIC, MAGIC_AT)
  bytes.writeInt16BE(isTransactional ? TRANSACTIONAL : 0, ATTRIBUTES_AT)
  bytes.writeInt32BE(records.length - 1, LAST_OFFSET_DELTA_AT)
  bytes.writeBigInt64BE(BigInt(baseTimestamp), BASE_TIMESTAMP_AT)
  bytes.writeBigInt64BE(BigInt(maxTimestamp), MAX_TIMESTAMP_AT)
  bytes.writeBigInt64BE(producerId, PRODUCER_ID_AT)
  bytes.writeInt16BE(producerEpoch, PRODUCER_EPOCH_AT)
  bytes.writeInt32BE(baseSequence, BASE_SEQUENCE_AT)
  bytes.writeInt32BE(records.length, RECORD_COUNT_AT)
  bytes.writeUInt32BE(crc32c(bytes, ATTRIBUTES_AT, end), CRC_AT)
}

/**
 * A record begins with its length, and that of a text in bytes is known only once it is written. Almost every text is
 * ASCII and has as many bytes as characters: so much is taken for granted, and where it turns out wrong the record is
 * written once more, with texts counted first.
 */
function writeRecord(record: RecordToEncode, offsetDelta: number, timestampDelta: number): void {
  const start = end
  if (tryRecord(record, offsetDelta, timestampDelta, lengthOfAscii)) return
  end = start
  if (tryRecord(record, offsetDelta, timestampDelta, lengthOf)) return
  throw new Error('a text is not as long as it was counted to be')
}

type Measure = (content: Content) => number

/** @returns false when a text is of another length than was measured: what was written is then of no use */
function tryRecord(
  { key, value, headers }: RecordToEncode,
  offsetDelta: number,
  timestampDelta: number,
  measure: Measure,
): boolean {
  const keyLength = measure(key)
  const valueLength = measure(value)
  let headerCount = 0
  let headerBytes = 0
  for (const name in headers) {
    const content = headers[name]
    const nameBytes = sizeWithLength(measure(name))
    if (Array.isArray(content)) {
      headerCount += content.length
      for (const one of content) headerBytes += nameBytes + sizeWithLength(measure(one))
    } else {
      headerCount++
      headerBytes += nameBytes + sizeWithLength(measure(content))
    }
  }
  const length =
    1 +
    sizeOfVarint(timestampDelta) +
    sizeOfVarint(offsetDelta) +
    sizeWithLength(keyLength) +
    sizeWithLength(valueLength) +
    sizeOfVarint(headerCount) +
    headerBytes
  // Of texts that are not ASCII more is written than was measured, before that is found out.
  reserve(MOST_RECORD_OVERHEAD + length * MOST_BYTES_PER_CHARACTER + headerCount * MOST_HEADER_OVERHEAD)
  writeVarint(length)
  // Attributes of a record: there are none as yet.
  bytes[end++] = 0
  writeVarint(timestampDelta)
  writeVarint(offsetDelta)
  if (!writeContent(key, keyLength) || !writeContent(value, valueLength)) return false
  writeVarint(headerCount)
  for (const name in headers) {
    const content = headers[name]
    if (Array.isArray(content)) {
      for (const one of content) if (!writeHeader(name, one, measure)) return false
    } else if (!writeHeader(name, content, measure)) return false
  }
  return true
}

function writeHeader(name: string, content: Content, measure: Measure): boolean {
  return writeContent(name, measure(name)) && writeContent(content, measure(content))
}

/** Its length in bytes if it is ASCII; -1 for nothing. */
function lengthOfAscii(content: Content): number {
  return typeof content === 'string' ? content.length : lengthOfBytes(content)
}

function lengthOf(content: Content): number {
  return typeof content === 'string' ? Buffer.byteLength(content) : lengthOfBytes(content)
}

function lengthOfBytes(content: Uint8Array | null | undefined): number {
  if (content == null) return -1
  if (content instanceof Uint8Array) return content.length
  throw new TypeError(`a ${typeof content} is nothing that a record can hold`)
}

function sizeWithLength(length: number): number {
  return length > 0 ? sizeOfVarint(length) + length : 1
}

function sizeOfVarint(value: number): number {
  let rest = zigzag(value)
  let size = 1
  for (; rest >= 0x80; size++) rest = Math.floor(rest / 0x80)
  return size
}

function writeVarint(value: number): void {
  let rest = zigzag(value)
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[end++] = (rest % 0x80) | 0x80
  bytes[end++] = rest
}

/** For whole numbers up to 2^52 either way: small ones stay small, whatever their sign. */
function zigzag(value: number): number {
  return value < 0 ? -value * 2 - 1 : value * 2
}

/** With its length in front. @returns false when that is not the one that was measured */
function writeContent(content: Content, length: number): boolean {
  writeVarint(length)
  if (content == null) return true
  const start = end
  if (typeof content === 'string') writeText(content)
  else writeBytes(content)
  return end - start === length
}

function writeText(text: string): void {
  if (text.length > SHORT_TEXT) {
    end += bytes.write(text, end)
    return
  }
  const start = end
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code >= 0x80) {
      end = start + bytes.write(text, start)
      return
    }
    bytes[end++] = code
  }
}

function writeBytes(content: Uint8Array): void {
  bytes.set(content, end)
  end += content.length
}

function reserve(count: number): void {
  if (end + count <= bytes.length) return
  const larger = Buffer.allocUnsafeSlow(Math.max(bytes.length * 2, end + count))
  bytes.copy(larger, 0, 0, end)
  bytes = larger
}
