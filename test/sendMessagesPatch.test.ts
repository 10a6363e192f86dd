/**
 * What `patches/` changes in how kafkajs sends to several brokers. Two brokers have to disagree at the right moment, so
 * they are played here; what sends, tries again and counts sequences is the kafkajs that is installed.
 */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

const NOT_LEADER_FOR_PARTITION = 6
const TOPIC = 'orders'
const RETRY_MS = 1
/** So long that tries are made meanwhile, were the answer not waited for. */
const SLOW_ANSWER_MS = 200

interface PartitionBatch {
  partition: number
  firstSequence: number
  messages: { value: string }[]
}
interface Produced {
  topicName: string
  partition: number
}
interface EosManager {
  initProducerId(): Promise<void>
}
type Send = (request: {
  acks: number
  timeout: number
  topicMessages: { topic: string; messages: { value: string; partition: number }[] }[]
}) => Promise<Produced[]>

const require = createRequire(import.meta.url)
const createSend = require('kafkajs/src/producer/sendMessages') as (options: object) => Send
const createEosManager = require('kafkajs/src/producer/eosManager') as (options: object) => EosManager
const createRetry = require('kafkajs/src/retry') as (options: object) => unknown
const { createErrorFromCode } = require('kafkajs/src/protocol/error') as {
  createErrorFromCode(code: number): Error
}

/** The node that leads each partition; the index is the partition. */
type Leaders = readonly number[]

/** Brokers that know who leads, and a client's view of them that may be out of date. */
class PlayedCluster {
  readonly targetTopics = new Set([TOPIC])
  /** The values in each partition. */
  readonly logs: string[][]
  readonly #leaders: Leaders
  readonly #slowNode: number | undefined
  readonly #brokers = new Map<number, object>()
  #knownLeaders: Leaders

  constructor(options: { known: Leaders; actual: Leaders; slowNode?: number }) {
    this.#knownLeaders = options.known
    this.#leaders = options.actual
    this.#slowNode = options.slowNode
    this.logs = options.actual.map(() => [])
    for (const nodeId of new Set([...options.known, ...options.actual])) {
      this.#brokers.set(nodeId, {
        nodeId,
        initProducerId: async () => ({ producerId: 1, producerEpoch: 0 }),
        produce: ({ topicData }: { topicData: { partitions: PartitionBatch[] }[] }) =>
          this.#produce(nodeId, topicData[0]!.partitions),
      })
    }
  }

  /** A batch is written at the place that its sequence names: sent again with the same one, it is there once. */
  async #produce(nodeId: number, batches: PartitionBatch[]): Promise<object> {
    if (nodeId === this.#slowNode) await sleep(SLOW_ANSWER_MS)
    if (batches.some(({ partition }) => this.#leaders[partition] !== nodeId)) {
      throw createErrorFromCode(NOT_LEADER_FOR_PARTITION)
    }
    for (const { partition, firstSequence, messages } of batches) {
      for (const [index, { value }] of messages.entries()) {
        this.logs[partition]![firstSequence + index] = value
      }
    }
    return { topics: [{ topicName: TOPIC, partitions: batches.map(({ partition }) => ({ partition })) }] }
  }

  // What the sender asks of its cluster, by the names that kafkajs gives it.

  async refreshMetadata(): Promise<void> {
    this.#knownLeaders = this.#leaders
  }

  async refreshMetadataIfNecessary(): Promise<void> {}

  async addMultipleTargetTopics(): Promise<void> {}

  isConnected(): boolean {
    return true
  }

  findTopicPartitionMetadata(): object[] {
    return this.#knownLeaders.map((leader, partitionId) => ({ partitionId, leader }))
  }

  findLeaderForPartitions(_topic: string, partitions: string[]): Record<number, number[]> {
    const byLeader: Record<number, number[]> = {}
    for (const partition of partitions.map(Number)) {
      const leader = this.#knownLeaders[partition]!
      byLeader[leader] = [...(byLeader[leader] ?? []), partition]
    }
    return byLeader
  }

  async findBroker({ nodeId }: { nodeId: string }): Promise<object> {
    return this.#brokers.get(Number(nodeId))!
  }

  async findControllerBroker(): Promise<object> {
    return [...this.#brokers.values()][0]!
  }
}

/** Sends 'a' to partition 0 and 'b' to partition 1, as an idempotent producer. @returns what was acknowledged */
async function sendBoth(cluster: PlayedCluster): Promise<Produced[]> {
  const logger = { debug: () => undefined, error: () => undefined }
  const eosManager = createEosManager({ logger, cluster, transactional: false })
  await eosManager.initProducerId()
  const send = createSend({
    logger,
    cluster,
    eosManager,
    partitioner: ({ message }: { message: { partition: number } }) => message.partition,
    retrier: createRetry({ initialRetryTime: RETRY_MS, retries: 3 }),
  })
  const messages = [
    { value: 'a', partition: 0 },
    { value: 'b', partition: 1 },
  ]
  const produced = await send({ acks: -1, timeout: 1_000, topicMessages: [{ topic: TOPIC, messages }] })
  return produced.sort((one, other) => one.partition - other.partition)
}

const BOTH_ACKNOWLEDGED = [
  { topicName: TOPIC, partition: 0 },
  { topicName: TOPIC, partition: 1 },
]

test('a partition that moves to a broker that has answered already is sent there', async () => {
  const cluster = new PlayedCluster({ known: [1, 2], actual: [1, 1] })
  const acknowledged = await sendBoth(cluster)
  assert.deepEqual(cluster.logs, [['a'], ['b']])
  assert.deepEqual(acknowledged, BOTH_ACKNOWLEDGED)
})

test('what is on its way to a slow broker when another fails is not sent a second time', async () => {
  const cluster = new PlayedCluster({ known: [1, 2], actual: [1, 3], slowNode: 1 })
  const acknowledged = await sendBoth(cluster)
  assert.deepEqual(cluster.logs, [['a'], ['b']])
  assert.deepEqual(acknowledged, BOTH_ACKNOWLEDGED)
})
