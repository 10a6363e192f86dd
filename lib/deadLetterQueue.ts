/** The dead letters of the groups, and what became of them, as their topics tell. */
import type { Kafka } from 'kafkajs'
import type { Config } from '../kafkaConfig.ts'
import { ATTEMPTS_HEADER, headerCount, REASON_HEADER } from './deadLetters.ts'
import { PipelineError } from './errors.ts'
import { fetchPositions, type WorkingGroup } from './groupLag.ts'
import type { Logger } from './log.ts'
import {
  DEAD_LETTER_HEADER,
  DROPPED_HEADER,
  formatPosition,
  headerText,
  parsePosition,
  REDRIVES_HEADER,
  SOURCE_HEADER,
} from './record.ts'
import { type OffsetsByPartition, readTopics, type TopicRecord } from './topicReader.ts'
import { type GroupName, MAX_ORDER_BYTES } from './topics.ts'

/**
 * - open: no record of the retry topic names it
 * - under way: one does, and the group has not come to it yet
 * - redriven: the group has worked on it again, with whatever result; a new failure is a new letter
 * - dropped: it was given up
 */
export type LetterState = 'open' | 'under way' | 'redriven' | 'dropped'

/** A dead letter without its body. */
export interface DeadLetterSummary {
  group: GroupName
  /** Where it lies, `topic/partition/offset`. */
  position: string
  topic: string
  partition: number
  offset: number
  /** The position that the record had at first. */
  source: string | undefined
  state: LetterState
  whenMs: number
  /** The key of the record, or the order id in its value where it has none. */
  order: string | undefined
  reason: string
  attempts: number
  redrives: number
  /** Of key and value. */
  bytes: number
}

export interface QueueContext {
  config: Config
  kafka: Kafka
  log: Logger
  signal: AbortSignal
  /** Told how many records were read. */
  onRead?: (records: number) => void
}

/** What was read so far says nothing: a letter may be settled further on. */
export class ReadingInterruptedError extends PipelineError {
  readonly code = 'READING_INTERRUPTED'
  readonly canRetry = true
}

/** Reads topics from their beginnings to their ends. @throws ReadingInterruptedError when the signal comes before */
async function readWhole(
  { config, kafka, log, signal, onRead }: QueueContext,
  topics: readonly string[],
  onRecords: (topic: string, partition: number, records: TopicRecord[]) => void,
): Promise<OffsetsByPartition> {
  const ends = await readTopics({
    kafka,
    topics,
    from: 'beginning',
    until: 'end',
    groupPrefix: `${config.topicPrefix}dlq`,
    signal,
    log,
    onRecords(topic, partition, records) {
      onRecords(topic, partition, records)
      onRead?.(records.length)
    },
  })
  if (signal.aborted)
    throw new ReadingInterruptedError('interrupted before all was read, nothing was changed')
  return ends
}

interface Settlement {
  /** Where the retry topic says so, in the partition of the letter. */
  offset: number
  isDropped: boolean
}

/** What became of the dead letters of some groups: the first record of a retry topic that names a letter counts. */
export class Ledger {
  /** By the position of the letter. */
  readonly #settlements = new Map<string, Settlement>()
  /** How far the groups have got, by retry topic and partition. */
  readonly #committed = new Map<string, number>()

  static async read(context: QueueContext, groups: readonly GroupName[]): Promise<Ledger> {
    const { config, kafka } = context
    const ledger = new Ledger()
    const letterTopics = new Map<string, string>()
    for (const group of groups) {
      letterTopics.set(config.topics.retries[group].name, config.topics.deadLetters[group].name)
    }
    await readWhole(context, [...letterTopics.keys()], (topic, partition, records) => {
      for (const record of records) ledger.#add(letterTopics.get(topic)!, partition, record)
    })
    // After the reading: what was worked on in between counts as worked on.
    const working = groups.map((group): WorkingGroup => {
      return { group: config.topicPrefix + group, topics: [config.topics.retries[group].name] }
    })
    for (const { topic, partition, committed } of await fetchPositions(kafka, working)) {
      ledger.#committed.set(`${letterTopics.get(topic)}/${partition}`, committed)
    }
    return ledger
  }

  #add(letterTopic: string, partition: number, { offset, headers }: TopicRecord): void {
    const position = headerText(headers, DEAD_LETTER_HEADER) ?? ''
    const letter = parsePosition(position)
    // What names no letter of this partition settles none; see TaskInput.
    if (letter?.topic !== letterTopic || letter.partition !== partition) return
    const key = formatPosition(letterTopic, partition, letter.offset)
    if (this.#settlements.has(key)) return
    this.#settlements.set(key, { offset, isDropped: headers[DROPPED_HEADER] !== undefined })
  }

  stateOf(topic: string, partition: number, offset: number): LetterState {
    const settlement = this.#settlements.get(formatPosition(topic, partition, offset))
    if (!settlement) return 'open'
    if (settlement.isDropped) return 'dropped'
    return settlement.offset < (this.#committed.get(`${topic}/${partition}`) ?? 0) ? 'redriven' : 'under way'
  }
}

/**
 * Reads all dead letters of some groups, those of a partition in order.
 *
 * Letters past the retention time are left out, also where the broker has not deleted them yet: what became of them
 * may be deleted already.
 *
 * @returns the position reached in each partition
 */
export function readLetters(
  context: QueueContext,
  groups: readonly GroupName[],
  ledger: Ledger,
  onLetter: (letter: DeadLetterSummary, record: TopicRecord) => void,
): Promise<OffsetsByPartition> {
  const { config } = context
  const byTopic = new Map(groups.map((group) => [config.topics.deadLetters[group].name, group]))
  const startedMs = Date.now()
  return readWhole(context, [...byTopic.keys()], (topic, partition, records) => {
    const group = byTopic.get(topic)!
    const oldestMs = startedMs - config.topics.deadLetters[group].retentionMs
    for (const record of records) {
      if (record.timestampMs < oldestMs) continue
      const state = ledger.stateOf(topic, partition, record.offset)
      onLetter(summarise(group, topic, partition, state, record), record)
    }
  })
}

function summarise(
  group: GroupName,
  topic: string,
  partition: number,
  state: LetterState,
  record: TopicRecord,
): DeadLetterSummary {
  const { offset, headers, timestampMs, key, value } = record
  return {
    group,
    position: formatPosition(topic, partition, offset),
    topic,
    partition,
    offset,
    source: headerText(headers, SOURCE_HEADER),
    state,
    whenMs: timestampMs,
    order: key?.toString().slice(0, 200) ?? orderIdIn(value),
    reason: headerText(headers, REASON_HEADER) ?? '',
    attempts: headerCount(headers, ATTEMPTS_HEADER),
    redrives: headerCount(headers, REDRIVES_HEADER),
    bytes: (key?.length ?? 0) + (value?.length ?? 0),
  }
}

/** The order id that a value speaks of, when it is JSON and no larger than an order can be. */
export function orderIdIn(value: Buffer | null): string | undefined {
  if (value === null || value.length > MAX_ORDER_BYTES) return undefined
  try {
    const event = JSON.parse(value.toString()) as { orderId?: unknown } | null
    return typeof event?.orderId === 'string' ? event.orderId.slice(0, 200) : undefined
  } catch {
    // What cannot be read has no order id: that is why it lies here.
    return undefined
  }
}
