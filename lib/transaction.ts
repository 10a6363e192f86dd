import type { Kafka, Message, Producer, TopicMessages, Transaction } from 'kafkajs'
import { describe } from './errors.ts'
import { passProbe } from './probes.ts'
import type { Offsets } from './work.ts'

/** A record for one topic. It goes to the writer's own partition. */
export interface TransactionRecord {
  topic: string
  key: Buffer | string | null
  value: Buffer | string | null
  headers: NonNullable<Message['headers']>
}

/**
 * A send is one record batch per topic, and the broker refuses a batch above `max.message.bytes` for ever: 1 MiB
 * of input that grows by enrichment must be split. By number too, so that one is not encoded for too long.
 */
export const MAX_SEND_BYTES = 1024 * 1024
export const MAX_SEND_RECORDS = 1_000
/** What a record costs on the wire beside its key, value and headers; more than it is. */
const RECORD_OVERHEAD_BYTES = 100

/**
 * How long the broker lets an abandoned transaction hold up the readers behind it, and whoever takes over its partitions;
 * unless a successor ends it before.
 */
const TRANSACTION_TIMEOUT_MS = 10_000

/** Records and progress of one task, to be committed together with those of others. */
export interface TaskCommit {
  partition: number
  records: readonly TransactionRecord[]
  /** The next offset to be read, by input. Never empty: the offsets are what the group refuses a stranger. */
  offsets: Offsets
  /** What is to be read again by whoever takes over: stored with the offset of its topic. */
  keepFrom?: Offsets | undefined
}

/** Who commits: a member of the group, in the generation in which it was given its partitions. */
export interface Member {
  memberId: string
  generationId: number
}

/**
 * A transactional producer of one process: results and consumed offsets of all of its tasks in one transaction. Two things
 * keep it from committing for partitions that are not ours any more (KIP-447): the group refuses offsets of a member whose
 * generation is over, and whoever takes a partition over waits until no open transaction is about to move its offsets.
 *
 * Any error makes it useless (kafkajs neither retries EndTxn nor can abort after it failed): close it and open another of
 * the same id, which completes or aborts what this one left behind.
 */
export class TransactionWriter {
  readonly #producer: Producer
  readonly #id: string
  readonly #group: string
  /** Begun by the fence, used by the first commit. */
  #begun: Transaction | undefined

  private constructor(producer: Producer, id: string, group: string, begun: Transaction) {
    this.#producer = producer
    this.#id = id
    this.#group = group
    this.#begun = begun
  }

  /**
   * Connects and fences: whoever held this transactional id before can commit nothing from here on, and a
   * transaction that it had begun is committed or aborted when this returns. `connect()` alone does not do that:
   * kafkajs sends InitProducerId with the first `transaction()`.
   *
   * @param id the transactional id
   */
  static async open(kafka: Kafka, group: string, id: string): Promise<TransactionWriter> {
    const producer = kafka.producer({
      transactionalId: id,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      idempotent: true,
      // More in flight, and a timeout reorders, loses and duplicates.
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner:
        () =>
        ({ message }) =>
          message.partition!,
    })
    try {
      await producer.connect()
      return new TransactionWriter(producer, id, group, await producer.transaction())
    } catch (error) {
      void producer.disconnect().catch(() => undefined)
      throw error
    }
  }

  /**
   * Writes records and offsets of these tasks in one transaction.
   *
   * @param member whom the group refuses once its generation is over
   * @throws whatever kafkajs throws; the outcome is then unknown and the writer must be closed. With
   *   {@link isStaleMember} nothing was committed
   */
  async commit(commits: readonly TaskCommit[], member: Member): Promise<void> {
    const transaction = this.#begun ?? (await this.#producer.transaction())
    this.#begun = undefined
    for (const topicMessages of sendsOf(commits)) {
      await transaction.sendBatch({ topicMessages, acks: -1 })
      passProbe('records-sent')
    }
    await this.#sendOffsets(transaction, commits, member)
    passProbe('offsets-sent')
    await transaction.commit()
  }

  /**
   * kafkajs does not retry AddOffsetsToTxn, and the broker refuses it while the transaction before is being
   * completed: of 50 transactions of offsets alone, back to back, 12 failed.
   */
  async #sendOffsets(
    transaction: Transaction,
    commits: readonly TaskCommit[],
    member: Member,
  ): Promise<void> {
    const byTopic = new Map<string, { partition: number; offset: string; metadata: string }[]>()
    for (const { partition, offsets, keepFrom } of commits) {
      for (const [topic, offset] of offsets) {
        const metadata = formatMetadata({ writer: this.#id, keepFrom: keepFrom?.get(topic) })
        const entry = { partition, offset: String(offset), metadata }
        const partitions = byTopic.get(topic)
        if (partitions) partitions.push(entry)
        else byTopic.set(topic, [entry])
      }
    }
    const topics = [...byTopic].map(([topic, partitions]) => ({ topic, partitions }))
    // The types of kafkajs leave out the metadata, which it does write, and the member, which our patch does.
    const offsets = { consumerGroupId: this.#group, topics, ...member }
    const deadline = Date.now() + TRANSACTION_TIMEOUT_MS
    for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
      try {
        return await transaction.sendOffsets(offsets)
      } catch (error) {
        if (!hasType(error, 'CONCURRENT_TRANSACTIONS') || Date.now() > deadline) throw error
        await new Promise((resolve) => setTimeout(resolve, waitMs))
      }
    }
  }

  /** Disconnects; an error of that is of no interest, since nothing depends on it. */
  async close(log: { debug(message: string): void }): Promise<void> {
    await this.#producer.disconnect().catch((error) => log.debug(`closing a producer: ${describe(error)}`))
  }
}

/** Ends what a writer that is gone has left open: at once, instead of when its time is up. */
export async function fenceWriter(
  kafka: Kafka,
  group: string,
  id: string,
  log: { debug(message: string): void },
): Promise<void> {
  const writer = await TransactionWriter.open(kafka, group, id)
  await writer.close(log)
}

/** Whether the group refused a commit because its member's generation is over, or it is none. */
export function isStaleMember(error: unknown): boolean {
  return ['ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID', 'REBALANCE_IN_PROGRESS'].some((type) =>
    hasType(error, type),
  )
}

/** What is stored with a committed offset. */
export interface OffsetMetadata {
  /** The transactional id of who committed it. */
  writer?: string | undefined
  /** The lowest offset that is still needed. */
  keepFrom?: number | undefined
}

function formatMetadata({ writer, keepFrom }: OffsetMetadata): string {
  return `${keepFrom ?? ''}@${writer}`
}

/** Also what a version before ours stored, which named no writer. Whatever else is written there says nothing. */
export function parseMetadata(metadata: string | null): OffsetMetadata {
  const [, keepFrom, writer] = /^(\d{1,15})?(?:@(.+))?$/.exec(metadata ?? '') ?? []
  return { writer, keepFrom: keepFrom === undefined ? undefined : Number(keepFrom) }
}

function hasType(error: unknown, type: string): boolean {
  return (error as { type?: string }).type === type
}

/** What these tasks have to write, in sends that hold some of each: a batch for each topic and task. */
function* sendsOf(commits: readonly TaskCommit[]): Generator<TopicMessages[]> {
  const lefts = commits.map(({ records, partition }) => splitIntoSends(records, partition))
  for (;;) {
    const byTopic = new Map<string, Message[]>()
    for (const left of lefts) {
      for (const { topic, messages } of left.next().value ?? []) {
        const others = byTopic.get(topic)
        if (others) for (const message of messages) others.push(message)
        else byTopic.set(topic, messages)
      }
    }
    if (byTopic.size === 0) return
    yield [...byTopic].map(([topic, messages]) => ({ topic, messages }))
  }
}

/**
 * The records in sends of their own, each within {@link MAX_SEND_BYTES} (unless one alone is above) and in order.
 *
 * @param partition that they go to, where the producer's partitioner does not say so
 */
export function* splitIntoSends(
  records: readonly TransactionRecord[],
  partition?: number,
): Generator<TopicMessages[], undefined> {
  let byTopic = new Map<string, Message[]>()
  let bytes = 0
  let count = 0
  const flush = () => [...byTopic].map(([topic, messages]) => ({ topic, messages }))
  for (const { topic, key, value, headers } of records) {
    const size = sizeOf(key) + sizeOf(value) + sizeOfHeaders(headers) + RECORD_OVERHEAD_BYTES
    if (count > 0 && (bytes + size > MAX_SEND_BYTES || count >= MAX_SEND_RECORDS)) {
      yield flush()
      byTopic = new Map()
      bytes = 0
      count = 0
    }
    // One shape, whether it has a partition or not.
    const message = { key, value, headers, partition } as Message
    const messages = byTopic.get(topic)
    if (messages) messages.push(message)
    else byTopic.set(topic, [message])
    bytes += size
    count++
  }
  if (count > 0) yield flush()
}

function sizeOf(value: Buffer | string | null): number {
  return value === null ? 0 : Buffer.byteLength(value)
}

/** About what headers take on the wire, in bytes. */
export function sizeOfHeaders(headers: TransactionRecord['headers']): number {
  let size = 0
  for (const name in headers) {
    const value = headers[name]
    const values = Array.isArray(value) ? value : [value]
    for (const one of values) size += name.length + 8 + (one == null ? 0 : Buffer.byteLength(one))
  }
  return size
}
