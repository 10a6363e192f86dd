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

/** How long the broker lets an abandoned transaction hold up the readers behind it. */
const TRANSACTION_TIMEOUT_MS = 10_000

/**
 * The one transactional producer of a task: results and consumed offsets in one transaction. Any error makes it
 * useless (kafkajs neither retries EndTxn nor can abort after it failed): close it and open another, which
 * completes or aborts what this one left behind.
 */
export class TransactionWriter {
  readonly #producer: Producer
  readonly #partition: number
  readonly #group: string
  /** Begun by the fence, used by the first commit. */
  #begun: Transaction | undefined

  private constructor(producer: Producer, partition: number, group: string, begun: Transaction) {
    this.#producer = producer
    this.#partition = partition
    this.#group = group
    this.#begun = begun
  }

  /**
   * Connects and fences: whoever held this transactional id before can commit nothing from here on, and a
   * transaction that it had begun is committed or aborted when this returns. `connect()` alone does not do that:
   * kafkajs sends InitProducerId with the first `transaction()`.
   */
  static async open(kafka: Kafka, group: string, partition: number): Promise<TransactionWriter> {
    const producer = kafka.producer({
      transactionalId: `${group}-${partition}`,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      idempotent: true,
      // More in flight, and a timeout reorders, loses and duplicates.
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: () => () => partition,
    })
    try {
      await producer.connect()
      return new TransactionWriter(producer, partition, group, await producer.transaction())
    } catch (error) {
      void producer.disconnect().catch(() => undefined)
      throw error
    }
  }

  /**
   * Writes records and offsets in one transaction.
   *
   * @param offsets the next offset to be read, by input
   * @param keepFrom what is to be read again by whoever takes over: stored with the offset of its topic, as metadata
   * @throws whatever kafkajs throws; the outcome is then unknown and the writer must be closed
   */
  async commit(
    records: readonly TransactionRecord[],
    offsets: Offsets,
    keepFrom: Offsets = new Map(),
  ): Promise<void> {
    const transaction = this.#begun ?? (await this.#producer.transaction())
    this.#begun = undefined
    for (const topicMessages of splitIntoSends(records)) {
      await transaction.sendBatch({ topicMessages, acks: -1 })
      passProbe('records-sent')
    }
    await this.#sendOffsets(transaction, offsets, keepFrom)
    passProbe('offsets-sent')
    await transaction.commit()
  }

  /**
   * kafkajs does not retry AddOffsetsToTxn, and the broker refuses it while the transaction before is being
   * completed: of 50 transactions of offsets alone, back to back, 12 failed.
   */
  async #sendOffsets(transaction: Transaction, offsets: Offsets, keepFrom: Offsets): Promise<void> {
    const topics = [...offsets].map(([topic, offset]) => ({
      topic,
      // The types of kafkajs leave out the metadata, which it does write.
      partitions: [
        { partition: this.#partition, offset: String(offset), metadata: keepFrom.get(topic)?.toString() },
      ],
    }))
    const deadline = Date.now() + TRANSACTION_TIMEOUT_MS
    for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
      try {
        return await transaction.sendOffsets({ consumerGroupId: this.#group, topics })
      } catch (error) {
        if (!isConcurrentTransaction(error) || Date.now() > deadline) throw error
        await new Promise((resolve) => setTimeout(resolve, waitMs))
      }
    }
  }

  /** Disconnects; an error of that is of no interest, since nothing depends on it. */
  async close(log: { debug(message: string): void }): Promise<void> {
    await this.#producer.disconnect().catch((error) => log.debug(`closing a producer: ${describe(error)}`))
  }
}

function isConcurrentTransaction(error: unknown): boolean {
  return (error as { type?: string }).type === 'CONCURRENT_TRANSACTIONS'
}

/** The records in sends of their own, each within {@link MAX_SEND_BYTES} (unless one alone is above) and in order. */
export function* splitIntoSends(records: readonly TransactionRecord[]): Generator<TopicMessages[]> {
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
    const messages = byTopic.get(topic)
    if (messages) messages.push({ key, value, headers })
    else byTopic.set(topic, [{ key, value, headers }])
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
