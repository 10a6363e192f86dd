// A cluster of three, of this test's own, whose brokers are killed one after another while orders flow.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Admin } from 'kafkajs'
import { kafkaClasspath } from '../../infra/kafka.ts'
import { type KafkaCluster, startKafkaCluster } from '../../infra/kafkaCluster.ts'
import { findJava } from '../../infra/kafkaJars.ts'
import { run } from '../../infra/serverProcess.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../../kafkaConfig.ts'
import { ended } from '../../lib/childProcesses.ts'
import { createLogger } from '../../lib/log.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readAll,
  readTally,
  runScript,
  testEnvironment,
  until,
} from '../harness.ts'

const POLL_MS = 100

async function startCluster(t: TestContext): Promise<KafkaCluster> {
  const dataDir = await mkdtemp(join(tmpdir(), 'three-brokers-'))
  const cluster = await startKafkaCluster({ dataDir, brokers: 3 })
  t.after(async () => {
    // Nothing here is worth a shutdown in order.
    await Promise.all(cluster.nodes.map((node) => node.kill()))
    await rm(dataDir, { recursive: true, force: true })
  })
  return cluster
}

/** Waits until so many more records are in a topic, whatever the brokers are busy with. */
async function untilItGrows(admin: Admin, { name }: { name: string }, what: string): Promise<void> {
  const count = async () => sum(await admin.fetchTopicOffsets(name))
  const before = await eventually(count)
  await until(what, async () => (await eventually(count)) > before + 50, 60_000, POLL_MS)
}

/** Asks until there is an answer: there is none while a partition or the client has to find another broker. */
async function eventually<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  let answer: Answer | undefined
  const isAnswered = async () => {
    answer = await ask().catch(() => undefined)
    return answer !== undefined
  }
  await until('a broker answers', isAnswered, 60_000, POLL_MS)
  return answer!
}

function sum(offsets: { high: string }[]): number {
  return offsets.reduce((total, { high }) => total + Number(high), 0)
}

/** The order ids of a topic, in no order. */
async function orderIds(config: Config, { name }: { name: string }): Promise<string[]> {
  const records = (await readAll(config, [name])).get(name)!
  return records.map(({ key }) => key!.toString())
}

/** How many orders the producer had acknowledged, as it says at its end. */
async function stopProducer({ child, lines }: RunningScript): Promise<number> {
  child.kill('SIGTERM')
  assert.equal(await ended(child), 0)
  await until('the producer has summed up', () => lines.some((line) => line.startsWith('{"placed"')))
  return JSON.parse(lines.find((line) => line.startsWith('{"placed"'))!).placed
}

/** All topics, also Kafka's own, by `kafka-topics --describe`: a line for each topic, and one for each partition. */
async function describeTopics(cluster: KafkaCluster): Promise<string[]> {
  const [java, classpath] = await Promise.all([findJava(), kafkaClasspath()])
  const options = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx128m', '-cp', classpath]
  const { status, stdout, stderr } = await run(
    java.command,
    [
      ...[...options, 'org.apache.kafka.tools.TopicCommand'],
      ...['--bootstrap-server', cluster.addresses.join(','), '--describe'],
    ],
    { timeoutMs: 60_000 },
  )
  assert.equal(status, 0, stderr)
  return stdout.split('\n').filter((line) => line.includes('Topic: '))
}

test('a cluster of three outlives any one of its brokers', async (t) => {
  const cluster = await startCluster(t)
  const env = await testEnvironment(t, {
    KAFKA_BROKERS: cluster.addresses.join(','),
    REPLICATION_FACTOR: '3',
    MIN_INSYNC_REPLICAS: '2',
    BAD_ORDER_RATIO: '0',
  })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const admin = kafka.admin()
  await admin.connect()
  t.after(() => admin.disconnect())

  await t.test('each is killed in turn under load, and no order is lost or done twice', async (t) => {
    const validator = runScript(t, 'validator', env)
    const producer = runScript(t, 'producer', env, ['--rate', '100', '--json'])
    const { ordersRaw, ordersValidated } = config.topics
    await untilItGrows(admin, ordersValidated, 'orders are validated')
    for (const node of cluster.nodes) {
      await node.kill()
      assert.equal(await cluster.isInSync(), false)
      await untilItGrows(admin, ordersValidated, `orders are validated without broker ${node.id}`)
      await node.start()
      await until('all copies are in sync again', () => cluster.isInSync(), 60_000, POLL_MS)
    }
    const acknowledged = await stopProducer(producer)
    const isEven = async () => (await readTally(config, [])).isEven
    await until('all are validated', isEven, 60_000, READ_ALL_POLL_MS)
    const raw = await orderIds(config, ordersRaw)
    const validated = await orderIds(config, ordersValidated)
    // An order may be placed twice: what the producer cannot know to be written it sends again.
    const placed = new Set(raw)
    assert.equal(placed.size, acknowledged)
    assert.deepEqual(validated.sort(), [...placed].sort())
    assert.equal(validator.child.exitCode, null)
  })

  await t.test('every topic has three copies, two of which acknowledge, also those of Kafka', async () => {
    const described = await describeTopics(cluster)
    const topics = described.filter((line) => line.includes('ReplicationFactor:'))
    for (const name of ['__consumer_offsets', '__transaction_state', config.topics.ordersRaw.name]) {
      assert.ok(
        topics.some((line) => line.includes(`Topic: ${name}\t`)),
        `${name} is not listed`,
      )
    }
    for (const line of topics) assert.match(line, /ReplicationFactor: 3\t.*min\.insync\.replicas=2/)
  })

  await t.test(
    'a send is written whole and once when a partition moves to a broker that has answered',
    async (t) => {
      const [first, second, third] = cluster.nodes
      const topic = `${config.topicPrefix}moves`
      const topicOfTwo = {
        topic,
        // The first can acknowledge its part without the second, and will lead the part of that one.
        replicaAssignment: [
          { partition: 0, replicas: [first!.id, third!.id] },
          { partition: 1, replicas: [second!.id, first!.id] },
        ],
        configEntries: [{ name: 'min.insync.replicas', value: '1' }],
      }
      await eventually(() => admin.createTopics({ topics: [topicOfTwo], waitForLeaders: true }))
      const retry = { initialRetryTime: 100, maxRetryTime: 500, retries: 100 }
      const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry })
      await eventually(() => producer.connect().then(() => true))
      t.after(() => producer.disconnect())
      const send = () => {
        const messages = [0, 1].map((partition) => ({ partition, value: 'one for each' }))
        return producer.send({ topic, messages, acks: -1 })
      }
      await send()
      let answers = 0
      producer.on(producer.events.REQUEST, ({ payload }) => {
        if (payload.apiName === 'Produce') answers++
      })
      // It takes its part and never answers.
      process.kill(second!.pid, 'SIGSTOP')
      const sent = send()
      await until('the first has answered', () => answers > 0)
      await second!.kill()
      await sent
      const offsets = await eventually(() => admin.fetchTopicOffsets(topic))
      const written = Object.fromEntries(offsets.map(({ partition, high }) => [partition, high]))
      assert.deepEqual(written, { 0: '2', 1: '2' })
    },
  )
})
