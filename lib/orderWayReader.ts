/** Single records of one partition by their positions, and stretches of it, over a connection that is kept. */
import { createRequire } from 'node:module'
import { type IHeaders, type Kafka, Partitioners } from 'kafkajs'
import { type Cluster, createCluster } from './clusterClient.ts'
import { PipelineError, UnavailableError } from './errors.ts'
import type { PartitionData } from './fetchedPartition.ts'
import { FetchedBatches } from './kafkajsRecordBatches.ts'
import { requirePatchedKafkajs } from './kafkaPatchCheck.ts'
import type { TopicRecord } from './partitionCursor.ts'
import { missingTopicsError } from './topicBounds.ts'

/** A record, with the topic that it lies in. */
export interface PlacedRecord extends TopicRecord {
  topic: string
  partition: number
}

/** What was read of one topic, and where to go on. `next` has not moved where nothing is to be seen (yet). */
export interface Stretch {
  records: PlacedRecord[]
  next: number
}

/** A client's limits: somebody waits for the answer. */
export const READER_LIMITS = {
  connectionTimeout: 1_000,
  requestTimeout: 2_000,
  retry: { initialRetryTime: 100, maxRetryTime: 200, retries: 1 },
}

const READ_COMMITTED = 1
const MAX_FETCH_BYTES = 8 * 1024 * 1024
/** The broker gives the batch that holds a position whole, however large it is. */
const ONE_BATCH_BYTES = 1
const OUT_OF_RANGE = 'OFFSET_OUT_OF_RANGE'

interface RawMessage {
  offset: string
  timestamp: string
  key: Buffer | null
  value: Buffer | null
  headers?: IHeaders
}
interface Fetched extends PartitionData {
  /** What kafkajs has decoded, or, uncompressed and of the present version, what we do. */
  messages: RawMessage[] | FetchedBatches
}
interface FetchingBroker {
  fetch(request: {
    isolationLevel: number
    maxWaitTime: number
    minBytes: number
    maxBytes: number
    topics: {
      topic: string
      partitions: { partition: number; fetchOffset: string; maxBytes: number }[]
    }[]
  }): Promise<{ responses: { topicName: string; partitions: Fetched[] }[] }>
}
/** More of the client of kafkajs: what its consumers read with. */
interface ReadingCluster extends Cluster {
  findLeaderForPartitions(topic: string, partitions: number[]): Record<string, number[]>
  findBroker(wanted: { nodeId: string }): Promise<FetchingBroker>
}
/** Hides aborted records and control records, as for a consumer. */
type BatchOf = new (
  topic: string,
  fetchedOffset: string,
  partition: Fetched,
) => { messages: RawMessage[]; isEmptyIncludingFiltered(): boolean; lastOffset(): string }

/**
 * Reads as a read-committed reader that belongs to no group: each call is a request, and nothing is left behind.
 * Each throws UnavailableError when Kafka does not answer, also because topics are missing.
 */
export class OrderWayReader {
  readonly #createKafka: () => Kafka
  readonly #topics: readonly string[]
  readonly #Batch: BatchOf
  #cluster: Promise<ReadingCluster> | undefined
  #before: Promise<unknown> = Promise.resolve()

  /** @param topics all that will be read, co-partitioned */
  constructor(createKafka: () => Kafka, topics: readonly string[]) {
    requirePatchedKafkajs()
    this.#createKafka = createKafka
    this.#topics = topics
    this.#Batch = createRequire(import.meta.url)('kafkajs/src/consumer/batch.js') as BatchOf
  }

  /** The partition that the records of a key are in: whoever writes to a topic of orders asks the same function. */
  partitionOf(key: string): Promise<number> {
    return this.#ask(async (cluster) => {
      const topic = this.#topics[0]!
      const partitionMetadata = cluster.findTopicPartitionMetadata(topic)
      // The types of kafkajs ask for more of a partition than the function looks at.
      const choose = Partitioners.DefaultPartitioner() as unknown as (record: object) => number
      return choose({ topic, partitionMetadata, message: { key, value: null } })
    })
  }

  /**
   * By topic, of one partition: its beginning, its end, or the first offset that is not older than a time (the end when
   * there is none).
   */
  offsets(
    topics: readonly string[],
    partition: number,
    at: 'beginning' | 'end' | { timestampMs: number },
  ): Promise<Map<string, number>> {
    const point =
      typeof at === 'object' ? { fromTimestamp: at.timestampMs } : { fromBeginning: at === 'beginning' }
    return this.#ask(async (cluster) => {
      const ask = async (wanted: typeof point) =>
        cluster.fetchTopicsOffset(topics.map((topic) => ({ topic, partitions: [{ partition }], ...wanted })))
      const found = new Map<string, number>()
      for (const { topic, partitions } of await ask(point)) found.set(topic, Number(partitions[0]!.offset))
      if ([...found.values()].every((offset) => offset >= 0)) return found
      for (const { topic, partitions } of await ask({ fromBeginning: false })) {
        if (found.get(topic)! < 0) found.set(topic, Number(partitions[0]!.offset))
      }
      return found
    })
  }

  /** The record at a position; undefined when none is to be seen there: deleted, aborted, or not committed yet. */
  readAt(topic: string, partition: number, offset: number): Promise<PlacedRecord | undefined> {
    return this.#ask(async (cluster) => {
      try {
        const fetched = await this.#fetch(cluster, partition, new Map([[topic, offset]]), ONE_BATCH_BYTES)
        return fetched.get(topic)?.records.find((record) => record.offset === offset)
      } catch (error) {
        if ((error as { type?: unknown }).type === OUT_OF_RANGE) return undefined
        throw error
      }
    })
  }

  /** Goes on in several topics at once, from these offsets. @param maxBytes of each topic, about */
  readOn(
    partition: number,
    starts: ReadonlyMap<string, number>,
    maxBytes: number,
  ): Promise<Map<string, Stretch>> {
    return this.#ask((cluster) => this.#fetch(cluster, partition, starts, maxBytes))
  }

  async close(): Promise<void> {
    const cluster = await this.#cluster?.catch(() => undefined)
    this.#cluster = undefined
    await cluster?.disconnect()
  }

  async #fetch(
    cluster: ReadingCluster,
    partition: number,
    starts: ReadonlyMap<string, number>,
    maxBytes: number,
  ): Promise<Map<string, Stretch>> {
    const byLeader = new Map<string, string[]>()
    for (const topic of starts.keys()) {
      const [leader] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]))
      const isThere = cluster.findTopicPartitionMetadata(topic).some((one) => one.partitionId === partition)
      // A position can name any: a header is written by whoever writes to the topic.
      if (!isThere) continue
      if (leader === undefined) throw new Error(`${topic}/${partition} has no leader`)
      byLeader.set(leader, [...(byLeader.get(leader) ?? []), topic])
    }
    const stretches = new Map<string, Stretch>()
    const requests = [...byLeader].map(async ([nodeId, topics]) => {
      const broker = await cluster.findBroker({ nodeId })
      const request = {
        isolationLevel: READ_COMMITTED,
        // What is there, at once.
        maxWaitTime: 0,
        minBytes: 0,
        maxBytes: MAX_FETCH_BYTES,
        topics: topics.map((topic) => ({
          topic,
          partitions: [{ partition, fetchOffset: String(starts.get(topic)!), maxBytes }],
        })),
      }
      const { responses } = await this.#inTurn(() => broker.fetch(request))
      for (const { topicName, partitions } of responses) {
        for (const fetched of partitions) {
          stretches.set(topicName, this.#toStretch(topicName, starts.get(topicName)!, fetched))
        }
      }
    })
    await Promise.all(requests)
    return stretches
  }

  /**
   * One fetch after the other. Each that finds no connection for fetches opens one, and of several at a time the client
   * forgets all but the last: their sockets would stay open for ever.
   */
  #inTurn<Result>(fetch: () => Promise<Result>): Promise<Result> {
    const fetched = this.#before.then(fetch)
    this.#before = fetched.catch(() => undefined)
    return fetched
  }

  #toStretch(topic: string, start: number, fetched: Fetched): Stretch {
    const { partition } = fetched
    const { messages } = fetched
    const batch =
      messages instanceof FetchedBatches
        ? messages.toBatch(topic, String(start), fetched)
        : new this.#Batch(topic, String(start), fetched)
    const records = batch.messages.map(({ offset, timestamp, key, value, headers = {} }) => ({
      topic,
      partition,
      offset: Number(offset),
      key,
      value,
      headers,
      timestampMs: Number(timestamp),
    }))
    // The markers of transactions count, and tell that there is no more before them.
    const next = batch.isEmptyIncludingFiltered() ? start : Math.max(start, Number(batch.lastOffset()) + 1)
    return { records, next }
  }

  /** Once more over a new connection: the broker may have been started again, or a partition may have moved. */
  async #ask<Result>(question: (cluster: ReadingCluster) => Promise<Result>): Promise<Result> {
    try {
      return await this.#askOnce(question)
    } catch (error) {
      if (error instanceof PipelineError) throw error
      return await this.#askOnce(question).catch((again: unknown) => {
        throw new UnavailableError('Kafka', missingTopicsError(again, this.#topics) ?? again)
      })
    }
  }

  async #askOnce<Result>(question: (cluster: ReadingCluster) => Promise<Result>): Promise<Result> {
    this.#cluster ??= this.#connect()
    const connecting = this.#cluster
    try {
      return await question(await connecting)
    } catch (error) {
      if (this.#cluster === connecting) this.#cluster = undefined
      // Not awaited: a broker that hangs would hold us.
      void connecting.then((cluster) => cluster.disconnect()).catch(() => undefined)
      throw error
    }
  }

  async #connect(): Promise<ReadingCluster> {
    const cluster = createCluster(this.#createKafka()) as ReadingCluster
    await cluster.connect()
    await cluster.addMultipleTargetTopics([...this.#topics])
    return cluster
  }
}
