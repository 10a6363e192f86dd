import { crc32 } from 'node:zlib'
import type { IHeaders } from 'kafkajs'
import type { Line } from './auditEvents.ts'

export interface Position {
  topic: string
  partition: number
  offset: number
}

const SLASH = 0x2f
const ZERO = 0x30
const NINE = 0x39
/** Offsets beyond this are none: they would not be exact. */
const MAX_DIGITS = 15

/**
 * The position in a header, `topic/partition/offset`, read from its end: a regular expression would take longer than all
 * else that is done with most records.
 *
 * @returns undefined when there is none, or it is no position
 */
export function readPosition(headers: IHeaders, name: string): Position | undefined {
  const header = headers[name]
  const value = Array.isArray(header) ? header[0] : header
  if (value == null) return undefined
  return readPositionBytes(typeof value === 'string' ? Buffer.from(value) : value)
}

export function readPositionBytes(bytes: Buffer): Position | undefined {
  const beforeOffset = bytes.lastIndexOf(SLASH)
  const beforePartition = beforeOffset > 0 ? bytes.lastIndexOf(SLASH, beforeOffset - 1) : -1
  if (beforePartition < 1) return undefined
  const partition = readNumber(bytes, beforePartition + 1, beforeOffset)
  const offset = readNumber(bytes, beforeOffset + 1, bytes.length)
  if (partition < 0 || offset < 0) return undefined
  return { topic: bytes.toString('latin1', 0, beforePartition), partition, offset }
}

function readNumber(bytes: Buffer, start: number, end: number): number {
  if (start === end || end - start > MAX_DIGITS) return -1
  let number = 0
  for (let index = start; index < end; index++) {
    const digit = bytes[index]!
    if (digit < ZERO || digit > NINE) return -1
    number = number * 10 + digit - ZERO
  }
  return number
}

/** Tells whether two texts are the same bytes: their length and CRC-32, and so never 0 for what has any. */
export function fingerprintOf(value: Buffer | string): number {
  const length = typeof value === 'string' ? Buffer.byteLength(value) : value.length
  return length * 2 ** 32 + crc32(value)
}

const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/** Tells whether two orders have the same lines: SKU, quantity and price of each, by FNV-1a over their characters. */
export function linesFingerprintOf(items: readonly Line[]): number {
  let code = FNV_OFFSET
  for (const { sku, quantity, unitPrice } of items) {
    for (let index = 0; index < sku.length; index++) code = Math.imul(code ^ sku.charCodeAt(index), FNV_PRIME)
    code = Math.imul(code ^ quantity, FNV_PRIME)
    // What is left out beyond 32 bits is seen in the total.
    code = Math.imul(code ^ unitPrice, FNV_PRIME)
  }
  return code >>> 0
}
