/**
 * CRC-32C (Castagnoli, as in RFC 3720 appendix B.4), the checksum of record batches. Eight bytes a step, by a table for
 * each: "slicing-by-8", after Kounavis and Berry, "A Systematic Approach to Building High Performance Software-Based CRC
 * Generators" (2005). Three times as fast as one byte a step.
 */

const POLYNOMIAL = 0x82f63b78
const SLICES = 8

/** Table k, at 256 * k: what a byte does to the sum when k bytes of zero follow it. */
const TABLES = makeTables()

function makeTables(): Int32Array {
  const tables = new Int32Array(256 * SLICES)
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ POLYNOMIAL : sum >>> 1
    tables[byte] = sum
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256]!
    tables[at] = (before >>> 8) ^ tables[before & 0xff]!
  }
  return tables
}

/** The checksum of the bytes from `start` up to and without `end`, as an unsigned number of 32 bits. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const tables = TABLES
  const wholeSteps = start + ((end - start) & ~7)
  let sum = -1
  let at = start
  for (; at < wholeSteps; at += 8) {
    sum ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    sum =
      tables[1792 + (sum & 0xff)]! ^
      tables[1536 + ((sum >>> 8) & 0xff)]! ^
      tables[1280 + ((sum >>> 16) & 0xff)]! ^
      tables[1024 + (sum >>> 24)]! ^
      tables[768 + bytes[at + 4]!]! ^
      tables[512 + bytes[at + 5]!]! ^
      tables[256 + bytes[at + 6]!]! ^
      tables[bytes[at + 7]!]!
  }
  for (; at < end; at++) sum = (sum >>> 8) ^ tables[(sum ^ bytes[at]!) & 0xff]!
  return ~sum >>> 0
}
