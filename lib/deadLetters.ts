import type { IHeaders } from 'kafkajs'
import {
  CAUSE_HEADER,
  DEAD_LETTER_HEADER,
  DROPPED_HEADER,
  headerText,
  type RawRecord,
  REDRIVES_HEADER,
  SOURCE_HEADER,
  TIMESTAMP_HEADER,
} from './record.ts'
import type { TransactionRecord } from './transaction.ts'

const MAX_REASON_LENGTH = 1_000

/** On a dead letter: how often a record was tried, by its own position and each time that it was redriven. */
export const ATTEMPTS_HEADER = 'attempts'
export const REASON_HEADER = 'reason'
const HEADERS_OF_LETTERS = [
  ...[DEAD_LETTER_HEADER, SOURCE_HEADER, CAUSE_HEADER, 'topic', 'partition', 'offset'],
  ...[TIMESTAMP_HEADER, REASON_HEADER, ATTEMPTS_HEADER, REDRIVES_HEADER],
]
/** What counts only where we have written it. */
const HEADERS_OF_OURS = [DEAD_LETTER_HEADER, DROPPED_HEADER, REDRIVES_HEADER, ATTEMPTS_HEADER]

/**
 * The record as it came, with where and when it was and why it could not be used. What says how often it was tried and
 * redriven is carried on from one letter to the next, and taken from nobody else.
 */
export function toDeadLetter(topic: string, record: RawRecord, reason: string): TransactionRecord {
  const headers = withoutNulls(record.headers)
  for (const name of HEADERS_OF_OURS) delete headers[name]
  const isRedriven = record.settles !== undefined
  if (!isRedriven) {
    delete headers[CAUSE_HEADER]
    if (headers[SOURCE_HEADER] !== undefined) headers[CAUSE_HEADER] = headers[SOURCE_HEADER]
  }
  return {
    topic,
    key: record.key,
    value: record.value,
    headers: {
      ...headers,
      [SOURCE_HEADER]: record.source,
      topic: record.topic,
      partition: String(record.partition),
      offset: String(record.offset),
      [TIMESTAMP_HEADER]: String(record.timestampMs),
      [REASON_HEADER]: reason.slice(0, MAX_REASON_LENGTH),
      [ATTEMPTS_HEADER]: String((isRedriven ? headerCount(record.headers, ATTEMPTS_HEADER) : 0) + 1),
      ...(isRedriven && { [REDRIVES_HEADER]: String(headerCount(record.headers, REDRIVES_HEADER)) }),
    },
  }
}

/** What {@link toDeadLetter} and a redrive have added, taken away again: the headers that the record came with at first. */
export function withoutLetterHeaders(headers: IHeaders): IHeaders {
  if (headers[DEAD_LETTER_HEADER] === undefined) return headers
  const left = { ...headers }
  for (const name of HEADERS_OF_LETTERS) delete left[name]
  return headers[CAUSE_HEADER] === undefined ? left : { ...left, [SOURCE_HEADER]: headers[CAUSE_HEADER] }
}

/** A count in a header; 0 where there is none, or something else. */
export function headerCount(headers: IHeaders, name: string): number {
  const text = headerText(headers, name) ?? ''
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}

/** kafkajs reads headers without a value and cannot write them: they come out empty. */
export function withoutNulls(headers: IHeaders): IHeaders {
  const filled = Object.entries(headers).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.map((one) => one ?? '') : (value ?? ''),
  ])
  return Object.fromEntries(filled)
}
