import type { IHeaders } from 'kafkajs'
import { UnusableRecordError } from './errors.ts'
import { headerText, type InputRecord, type RawRecord, SOURCE_HEADER } from './record.ts'
import type { Topic } from './topics.ts'
import type { TransactionRecord } from './transaction.ts'

const MAX_REASON_LENGTH = 1_000

/** The record as it came, with where it was and why it could not be used. */
export function toDeadLetter(topic: string, record: RawRecord, reason: string): TransactionRecord {
  const attempts = Number(headerText(record.headers, 'attempts') ?? 0) + 1
  return {
    topic,
    key: record.key,
    value: record.value,
    headers: {
      ...withoutNulls(record.headers),
      [SOURCE_HEADER]: record.source,
      topic: record.topic,
      partition: String(record.partition),
      offset: String(record.offset),
      reason: reason.slice(0, MAX_REASON_LENGTH),
      attempts: String(Number.isSafeInteger(attempts) ? attempts : 1),
    },
  }
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
  if (!topic) throw new UnusableRecordError(`comes from '${from}', which this group does not read`)
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
function withoutNulls(headers: IHeaders): IHeaders {
  const filled = Object.entries(headers).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.map((one) => one ?? '') : (value ?? ''),
  ])
  return Object.fromEntries(filled)
}
