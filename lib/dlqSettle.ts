import type { Message } from 'kafkajs'
import type { DeadLetterSummary, QueueContext } from './deadLetterQueue.ts'
import { withoutNulls } from './deadLetters.ts'
import { describe, PipelineError } from './errors.ts'
import { DEAD_LETTER_HEADER, DROPPED_HEADER, REDRIVES_HEADER } from './record.ts'
import { type OffsetsByPartition, readTopics, type TopicRecord } from './topicReader.ts'
import { splitIntoSends, type TransactionRecord } from './transaction.ts'

/** Kafka did not take some of it. What it has taken is settled. */
export class SettlingFailedError extends PipelineError {
  readonly code = 'SETTLING_FAILED'
  readonly canRetry = true
}

/** Bodies that are held at a time; a fetch may bring a few more. */
const CHUNK_BYTES = 16 * 1024 * 1024

/** How one letter is settled: the record for the retry topic of its group. */
export type ToSettlement = (
  letter: DeadLetterSummary,
  record: TopicRecord,
) => Omit<TransactionRecord, 'topic'>

/** The dead letter as it is, one time more. What others may have put under our names is not taken along. */
export const redrive: ToSettlement = ({ position, redrives }, { key, value, headers }) => {
  const kept = withoutNulls(headers)
  delete kept[DROPPED_HEADER]
  return {
    key,
    value,
    headers: { ...kept, [DEAD_LETTER_HEADER]: position, [REDRIVES_HEADER]: String(redrives + 1) },
  }
}

/** Settles a letter without another try. */
export function drop(why: string): ToSettlement {
  return ({ position }, { key }) => ({
    key,
    value: null,
    headers: { [DEAD_LETTER_HEADER]: position, [DROPPED_HEADER]: why },
  })
}

/**
 * Writes a settlement for each of these letters to the retry topic of its group, to the partition of the letter.
 *
 * Each letter is settled at least once: when a send fails, nobody knows whether it was written, and whoever runs the
 * tool again, or beside this one, may write it a second time. Its effect comes once all the same, as long as both lie
 * within LEDGER_READ_BACK records of the retry topic's partition: the first record that names a letter counts, and the
 * task of the partition passes over the others (`SettledLetters`). Whoever runs it again later finds the letter settled.
 *
 * @param ends the positions that the letters were read to: partitions without any of them are not read again
 * @returns how many were written; fewer than given when the signal came or letters were deleted meanwhile
 * @throws SettlingFailedError
 */
export async function settleLetters(
  context: QueueContext,
  letters: readonly DeadLetterSummary[],
  ends: OffsetsByPartition,
  toSettlement: ToSettlement,
  onWritten: (total: number) => void,
): Promise<number> {
  if (letters.length === 0) return 0
  const { config, kafka } = context
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false })
  let written = 0
  await producer.connect()
  try {
    for await (const chunk of readInChunks(context, letters, ends)) {
      for (const records of groupByPartition(chunk)) {
        const [{ group, partition }] = records[0]!
        const { name: topic } = config.topics.retries[group]
        const settlements = records.map(([letter, record]) => ({ topic, ...toSettlement(letter, record) }))
        for (const topicMessages of splitIntoSends(settlements)) {
          const messages = topicMessages.flatMap((send) => send.messages)
          await producer.send({
            topic,
            acks: -1,
            messages: messages.map((message) => toPartition(message, partition)),
          })
          written += messages.length
          onWritten(written)
        }
      }
    }
  } catch (error) {
    const soFar = `${written} of ${letters.length} were written, then it failed (${describe(error)})`
    throw new SettlingFailedError(`${soFar}: run it again, it passes over what is settled`, { cause: error })
  } finally {
    await producer.disconnect()
  }
  return written
}

function toPartition(message: Message, partition: number): Message {
  return { ...message, partition }
}

type Read = [letter: DeadLetterSummary, record: TopicRecord]

function groupByPartition(chunk: readonly Read[]): Read[][] {
  const byPartition = new Map<string, Read[]>()
  for (const read of chunk) {
    const name = `${read[0].topic}/${read[0].partition}`
    const reads = byPartition.get(name)
    if (reads) reads.push(read)
    else byPartition.set(name, [read])
  }
  return [...byPartition.values()]
}

/** The letters with their bodies, so many at a time as fit: reading stops in between and goes on where it was. */
async function* readInChunks(
  { config, kafka, log, signal }: QueueContext,
  letters: readonly DeadLetterSummary[],
  ends: OffsetsByPartition,
): AsyncGenerator<Read[]> {
  const wanted = new Map(letters.map((letter) => [letter.position, letter]))
  const from = firstOffsets(letters, ends)
  const topics = [...from.keys()]
  for (let offsets: OffsetsByPartition = from; wanted.size > 0; ) {
    const chunk: Read[] = []
    let bytes = 0
    const enough = new AbortController()
    offsets = await readTopics({
      kafka,
      topics,
      from: { offsets },
      until: 'end',
      groupPrefix: `${config.topicPrefix}dlq`,
      signal: AbortSignal.any([signal, enough.signal]),
      log,
      onRecords(topic, partition, records) {
        for (const record of records) {
          const position = `${topic}/${partition}/${record.offset}`
          const letter = wanted.get(position)
          if (!letter) continue
          wanted.delete(position)
          chunk.push([letter, record])
          bytes += letter.bytes
        }
        if (bytes >= CHUNK_BYTES || wanted.size === 0) enough.abort()
      },
    })
    if (signal.aborted || chunk.length === 0) return
    yield chunk
  }
}

/** Where to begin in each partition of the topics that hold these letters. */
function firstOffsets(
  letters: readonly DeadLetterSummary[],
  ends: OffsetsByPartition,
): Map<string, Map<number, number>> {
  const first = new Map<string, Map<number, number>>()
  for (const { topic, partition, offset } of letters) {
    const partitions = first.get(topic) ?? new Map(ends.get(topic))
    first.set(topic, partitions.set(partition, Math.min(partitions.get(partition) ?? offset, offset)))
  }
  return first
}
