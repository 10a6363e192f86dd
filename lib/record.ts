import type { IHeaders } from 'kafkajs'
import { UnusableRecordError } from './errors.ts'
import type { Topic } from './topics.ts'

/** A record as it came, with its event decoded. */
export interface InputRecord<Event> {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** When it was sent to Kafka, in milliseconds since 1970; a redriven one, when it was sent at first. */
  readonly timestampMs: number
  /**
   * The position that caused this record to be worked on, `topic/partition/offset`: its own, or for a redriven
   * dead letter the one that it had at first. Whatever is done for it is keyed by this.
   */
  readonly source: string
  readonly event: Event
  readonly headers: IHeaders
  /** The context of the trace that whatever it causes is to continue; see lib/tracing.ts. */
  readonly traceparent?: string | undefined
}

/** A record as it came, before it is known to be any good. Topic, partition and offset are those of `source`. */
export interface RawRecord extends Omit<InputRecord<never>, 'event' | 'traceparent'> {
  /** Its offset in the log that it was read from: another one than `offset` when it was redriven. */
  readonly readOffset: number
  /** When the record that was read was sent: later than `timestampMs` when it was redriven. */
  readonly readTimestampMs: number
  /** It was worked on by a committed transaction and is read again to be remembered. */
  readonly isDone: boolean
  /** For a record of the retry topic: the dead letter that it settles, by its offset in the same partition. */
  readonly settles?: number | undefined
  readonly key: Buffer | null
  readonly value: Buffer | null
}

/** The header that every record we write carries: the position of the record that caused it. */
export const SOURCE_HEADER = 'source'
/** The context of the trace that a record is part of, as W3C Trace Context writes it; where orders are traced. */
export const TRACEPARENT_HEADER = 'traceparent'
/** On what the Command Center has forwarded: the position that the message had in its inbox. */
export const HOP_HEADER = 'hop'
/**
 * On a record of a group's retry topic: the position of the dead letter that it settles, `topic/partition/offset` in
 * the group's dead-letter topic. A dead letter is settled once: the first record that names it counts.
 */
export const DEAD_LETTER_HEADER = 'dead-letter'
/** On a dead letter and its redrive: when the record was sent to Kafka at first, in milliseconds since 1970. */
export const TIMESTAMP_HEADER = 'timestamp'
/** On a dead letter and its redrive: the `source` that the record came with, which the letter's own takes the place of. */
export const CAUSE_HEADER = 'cause'
/** How often a record has been redriven, the present time included; carried on when it becomes a dead letter again. */
export const REDRIVES_HEADER = 'redrives'
/** On a record of a retry topic that settles a dead letter without working on it again: why it was given up. */
export const DROPPED_HEADER = 'dropped'

/** One record to be written, to the partition that its cause was read from. */
export interface Outgoing {
  readonly topic: string
  readonly key: string
  readonly value: string
  /** One line for a person who watches with --verbose. */
  readonly note: string
  /** The position that it is to name as its cause, where that is not the record that it is an outcome of. */
  readonly source?: string
  /** The context of the trace that it continues, where that is not its record's; null for that of none. */
  readonly traceparent?: string | null
}

/** A record to be passed on as it came: not sealed again, and with these headers and no others. */
export interface Forwarded extends Pick<RawRecord, 'key' | 'value' | 'headers'> {
  readonly topic: string
  readonly note: string
}

/** A record that could not be used, and why: it goes to the group's dead letters as it came. */
export class DeadLetter {
  readonly reason: string
  /** What else is to be written about it. */
  readonly also: readonly Outgoing[]

  constructor(reason: string, also: readonly Outgoing[] = []) {
    this.reason = reason
    this.also = also
  }
}

/** What becomes of one input record: the records to write (none is fine), or a dead letter. */
export type Outcome = readonly (Outgoing | Forwarded)[] | DeadLetter

/** What key, headers of ours and the batch around one record may take. */
export const BATCH_OVERHEAD_BYTES = 4_096
const MAX_BYTES_PER_CHARACTER = 3
/** Sealed, a value becomes base64, within an envelope that has to fit as well. */
const SEALED_SHARE = 3 / 4

/**
 * An event to be published on its topic.
 *
 * @throws UnusableRecordError when the broker would refuse it for its size, and with it for ever the whole transaction
 */
export function publish<Event>(topic: Topic<Event>, event: Event, note: string): Outgoing {
  const value = topic.encode(event)
  const plain = topic.maxMessageBytes - BATCH_OVERHEAD_BYTES
  const largest = topic.isSealed ? (plain - BATCH_OVERHEAD_BYTES) * SEALED_SHARE : plain
  if (value.length * MAX_BYTES_PER_CHARACTER > largest && Buffer.byteLength(value) > largest) {
    throw new UnusableRecordError(`its result is too large for ${topic.name}`)
  }
  return { topic: topic.name, key: topic.keyOf(event), value, note }
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
  traceparent?: string,
): InputRecord<Event> {
  const topic = inputs.get(record.topic)
  if (!topic) {
    throw new UnusableRecordError(
      `comes from '${record.topic}', which this group does not read, or names no dead letter`,
    )
  }
  return new DecodedRecord(record, topic.takeWhole?.(record) ?? decodeKeyed(topic, record), traceparent)
}

/** A record with its event. All else is asked of the record: most of it nobody wants to know. */
class DecodedRecord<Event> implements InputRecord<Event> {
  readonly event: Event
  readonly traceparent: string | undefined
  readonly #record: RawRecord

  constructor(record: RawRecord, event: Event, traceparent: string | undefined) {
    this.#record = record
    this.event = event
    this.traceparent = traceparent
  }

  get topic(): string {
    return this.#record.topic
  }

  get partition(): number {
    return this.#record.partition
  }

  get offset(): number {
    return this.#record.offset
  }

  get timestampMs(): number {
    return this.#record.timestampMs
  }

  get source(): string {
    return this.#record.source
  }

  get headers(): IHeaders {
    return this.#record.headers
  }
}

function decodeKeyed<Event>(topic: Topic<Event>, record: RawRecord): Event {
  if (record.value === null) throw new UnusableRecordError('no value')
  const event = topic.decode(record.value)
  if (record.key === null) throw new UnusableRecordError('no key')
  const wanted = topic.keyOf(event)
  if (record.key.toString() !== wanted) {
    throw new UnusableRecordError(`key '${record.key.toString().slice(0, 80)}' is not '${wanted}'`)
  }
  return event
}

/**
 * The position of the record that caused this one, by its own header; undefined when it names none. A redriven record
 * carries it beside the position that it had itself.
 */
export function causeOf({ headers }: { headers: IHeaders }): ReturnType<typeof parsePosition> {
  const name = headers[DEAD_LETTER_HEADER] === undefined ? SOURCE_HEADER : CAUSE_HEADER
  return parsePosition(headerText(headers, name) ?? '')
}

/** `topic/partition/offset`, the way a position is written wherever it is stored or sent. */
export function formatPosition(topic: string, partition: number, offset: number | string): string {
  return `${topic}/${partition}/${offset}`
}

/** The parts of a position, or undefined when the text is none. */
export function parsePosition(
  text: string,
): { topic: string; partition: number; offset: number } | undefined {
  const match = /^([A-Za-z0-9._-]{1,249})\/(\d{1,9})\/(\d{1,15})$/.exec(text)
  if (!match) return undefined
  return { topic: match[1]!, partition: Number(match[2]), offset: Number(match[3]) }
}

/** The text of a header, which kafkajs hands over as bytes and, where one was repeated, as a list. */
export function headerText(headers: IHeaders, name: string): string | undefined {
  const value = headers[name]
  const first = Array.isArray(value) ? value[0] : value
  // A header may be null, which the types of kafkajs do not say.
  return first == null ? undefined : first.toString()
}
