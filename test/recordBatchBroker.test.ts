import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { CompressionTypes, type IHeaders, type Kafka, type Message } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import { installRecordBatches } from '../lib/kafkajsRecordBatches.ts'
import { readTopics, type TopicRecord } from '../lib/topicReader.ts'
import { until } from './harness.ts'
import { type TestGroup, testGroup } from './processorHarness.ts'

const replacement = createRequire(import.meta.url)('kafkajs/src/protocol/recordBatch/replacement.js') as {
  encode?: unknown
  decode?: unknown
}

/** Has kafkajs read and write by its own code, as it does what we do not. */
async function byKafkajs<Result>(work: () => Promise<Result>): Promise<Result> {
  delete replacement.encode
  delete replacement.decode
  try {
    return await work()
  } finally {
    installRecordBatches()
  }
}

const MESSAGES: Message[] = [
  { key: 'plain', value: 'value' },
  { key: null, value: 'without a key' },
  { key: 'tombstone', value: null },
  { key: '', value: Buffer.alloc(0) },
  { key: 'ключ', value: '漢字 ä 😀', headers: { empty: '', zwölf: 'ß', repeated: ['one', 'two'] } },
  { key: Buffer.from([0, 0, 0, 0]), value: Buffer.from([0xff, 0xfe]), timestamp: '1600000000000' },
  { key: 'large', value: 'x'.repeat(900_000), headers: { large: 'y'.repeat(10_000) } },
]

const bytesOf = (value: Buffer | string | null) => (value === null ? null : Buffer.from(value))
const headersOf = (headers: IHeaders = {}) =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.map((one) => bytesOf(one)) : bytesOf(value!),
    ]),
  )
const written = MESSAGES.map(({ key, value, headers }) => ({
  key: bytesOf(key!),
  value: bytesOf(value),
  headers: headersOf(headers),
}))

/** Writes all in one transaction, between two that are aborted. */
async function write(kafka: Kafka, topic: string, compression = CompressionTypes.None): Promise<void> {
  const producer = kafka.producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    for (const [messages, end] of [
      [[{ key: 'aborted', value: 'before' }], 'abort'],
      [MESSAGES, 'commit'],
      [[{ key: 'aborted', value: 'after' }], 'abort'],
    ] as const) {
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: [...messages], compression })
      await transaction[end]()
    }
  } finally {
    await producer.disconnect()
  }
}

async function read(kafka: Kafka, topic: string, log: TestGroup['log']): Promise<TopicRecord[]> {
  const records: TopicRecord[] = []
  const onRecords = (_topic: string, _partition: number, some: TopicRecord[]) => void records.push(...some)
  await readTopics({ kafka, topics: [topic], from: 'beginning', until: 'end', log, onRecords })
  return records
}

test('what the broker stores is the same, whoever of us and kafkajs has written it and whoever reads it', async (t) => {
  const { config, log, name } = await testGroup(t, { PARTITIONS: '1' })
  const kafka = createKafka(config, name, log)
  const admin = kafka.admin()
  await admin.connect()
  const topics = ['ours', 'kafkajs', 'compressed'].map((writer) => `${name}-${writer}`) as [
    string,
    string,
    string,
  ]
  // With the settings of the broker: ours have it store what comes compressed as if it were not.
  await admin.createTopics({
    // kafkajs gives up when the broker does not know of one yet.
    waitForLeaders: false,
    topics: topics.map((topic) => ({ topic, numPartitions: 1 })),
  })
  t.after(() => admin.deleteTopics({ topics }).finally(() => admin.disconnect()))
  const haveLeaders = async () => {
    for (const topic of topics) await admin.fetchTopicOffsets(topic)
    return true
  }
  await until('the topics have leaders', () => haveLeaders().catch(() => false))

  await write(kafka, topics[0])
  await byKafkajs(() => write(kafka, topics[1]))
  await write(kafka, topics[2], CompressionTypes.GZIP)

  for (const topic of topics) {
    const readers = [await read(kafka, topic, log), await byKafkajs(() => read(kafka, topic, log))]
    for (const records of readers) {
      assert.deepEqual(
        records.map(({ key, value, headers }) => ({ key, value, headers: { ...headers } })),
        written,
        topic,
      )
      assert.equal(records[5]!.timestampMs, 1_600_000_000_000)
    }
  }
})
