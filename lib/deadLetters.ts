import type { IHeaders } from 'kafkajs'
import { UnusableRecordError } from './errors.ts'
import {
  DEAD_LETTER_HEADER,
  DROPPED_HEADER,
  headerText,
  type InputRecord,
  type RawRecord,
  REDRIVES_HEADER,
  SOURCE_HEADER,
} from './record.ts'
import type { Topic } from './topics.ts'
import type { TransactionRecord } from './transaction.ts'

const MAX_REASON_LENGTH = 1_000

/** On a dead letter: how often a record was tried, by its own position and each time that it was redriven. */
export const ATTEMPTS_HEADER = 'attempts'
export const REASON_HEADER = 'reason'

/**
 * The record as it came, with where it was and why it could not be used. What says how often it was tried and
 * redriven is carried on from one letter to the next, and taken from nobody else.
 */
export function toDeadLetter(topic: string, record: RawRecord, reason: string): TransactionRecord {
  const {
    [DEAD_LETTER_HEADER]: _letter,
    [DROPPED_HEADER]: _dropped,
    [REDRIVES_HEADER]: _redrives,
    [ATTEMPTS_HEADER]: _attempts,
    ...headers
  } = withoutNulls(record.headers)
  const isRedriven = record.settles !== undefined
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
      [REASON_HEADER]: reason.slice(0, MAX_REASON_LENGTH),
      [ATTEMPTS_HEADER]: String((isRedriven ? headerCount(record.headers, ATTEMPTS_HEADER) : 0) + 1),
      ...(isRedriven && { [REDRIVES_HEADER]: String(headerCount(record.headers, REDRIVES_HEADER)) }),
    },
  }
}

/** A count in a header; 0 where there is none, or something else. */
export function headerCount(headers: IHeaders, name: string): number {
  const text = headerText(headers, name) ?? ''
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}

/**
 * The event in a record, whichever of the inputs it came from. A record of the group's retry topic is one of
 * another input that was dead-lettered and redriven: it counts under the position that it had there.
 *
 * @throws UnusableRecordError
 */
export function decodeRecord<Event>(
  record: RawRecord,
  inputs: ReadonlyMap<string, Topic<Event>>,
): InputRecord<Event> {
  const { topic: from, partition, offset, timestampMs, source } = record
  const topic = inputs.get(from)
  if (!topic) {
    throw new UnusableRecordError(
      `comes from '${from}', which this group does not read, or names no dead letter`,
    )
  }
  if (record.value === null) throw new UnusableRecordError('no value')
  const event = topic.decode(record.value)
  if (record.key === null) throw new UnusableRecordError('no key')
  const wanted = topic.keyOf(event)
  if (record.key.toString() !== wanted) {
    throw new UnusableRecordError(`key '${record.key.toString().slice(0, 80)}' is not '${wanted}'`)
  }
  return { topic: from, partition, offset, timestampMs, source, event }
}

/** kafkajs reads headers without a value and cannot write them: they come out empty. */
export function withoutNulls(headers: IHeaders): IHeaders {
  const filled = Object.entries(headers).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.map((one) => one ?? '') : (value ?? ''),
  ])
  return Object.fromEntries(filled)
}
