import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Kafka, logLevel } from 'kafkajs'
import { pino } from 'pino'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { createSimulator } from '../lib/simulator.ts'
import { readTopics } from '../lib/topicReader.ts'
import { testConfig, testEnvironment, until } from './harness.ts'

function openSender(t: TestContext, config: Config, createClient?: () => Kafka) {
  const said: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void said.push(JSON.parse(line).msg) })
  const ending = new AbortController()
  const sender = new OrderSender({
    createKafka: createClient ?? (() => createKafka(config, 'test', log)),
    brokers: config.kafka.brokers,
    topics: [config.topics.ordersRaw.name],
    log,
    signal: ending.signal,
  })
  t.after(async () => {
    ending.abort()
    await sender.close()
  })
  return { sender, said, ending }
}

interface Read {
  partition: number
  key: string | null
  value: string
}

async function readOrders(config: Config): Promise<Read[]> {
  const read: Read[] = []
  const log = createLogger('test', config.log)
  await readTopics({
    ...{ kafka: createKafka(config, 'test', log), topics: [config.topics.ordersRaw.name], log },
    ...{ from: 'beginning', until: 'end' },
    onRecords(_topic, partition, records) {
      for (const { key, value } of records)
        read.push({ partition, key: key && String(key), value: String(value) })
    },
  })
  return read
}

const numbered = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ key: `key-${index}`, value: Buffer.from(`${index}`) }))

test('everything arrives once, a key always in its partition, and records without a key go round', async (t) => {
  const config = await testConfig(t)
  const { sender } = openSender(t, config)
  const simulator = createSimulator({ seed: 1, badRatio: 0.2, runId: 'run' })
  const orders = Array.from({ length: 5_000 }, () => simulator.next())
  assert.equal(await sender.send(config.topics.ordersRaw.name, orders), 5_000)

  const read = await readOrders(config)
  const text = ({ key, value }: { key: string | null; value: Buffer | string }) => `${key} ${value}`
  assert.deepEqual(read.map(text).sort(), orders.map(text).sort())
  const partitions = new Map<string | null, Set<number>>()
  for (const { key, partition } of read) {
    partitions.set(key, (partitions.get(key) ?? new Set()).add(partition))
  }
  assert.equal(partitions.get(null)!.size, 3)
  partitions.delete(null)
  assert.ok([...partitions.values()].every(({ size }) => size === 1))
})

test('what is larger than a batch may be goes in several, in order', async (t) => {
  const config = await testConfig(t)
  const { sender } = openSender(t, config)
  const large = Array.from({ length: 30 }, (_, index) => ({
    key: 'same',
    value: Buffer.from(`${index} ${'x'.repeat(400_000)}`),
  }))
  assert.equal(await sender.send(config.topics.ordersRaw.name, large), 30)
  assert.deepEqual(
    (await readOrders(config)).map(({ value }) => Number.parseInt(value, 10)),
    Array.from({ length: 30 }, (_, index) => index),
  )
})

test('missing topics are waited for, with one line, and not made', async (t) => {
  const config = parseConfig(await testEnvironment(t))
  const { sender, said } = openSender(t, config)
  const sending = sender.send(config.topics.ordersRaw.name, numbered(10))
  await until('it says so', () => said.length > 0)
  assert.match(said[0]!, /topics are missing.*orders\.raw.*ensureTopics/)
  const admin = createKafka(config, 'test', createLogger('test', config.log)).admin()
  await admin.connect()
  const topics = await admin.listTopics()
  await admin.disconnect()
  assert.ok(!topics.includes(config.topics.ordersRaw.name))
  await ensureTopics(config, () => undefined)
  assert.equal(await sending, 10)
  assert.equal(said.length, 2)
})

test('Kafka away at the start, and again in the middle: one line each, and nothing is lost', async (t) => {
  const config = await testConfig(t)
  const door = createDoor(config)
  const { sender, said } = openSender(t, config, door.createClient)
  door.shut()
  const opening = sender.open()
  await until('it says that it waits', () => said.length === 1)
  door.open()
  await opening
  assert.equal(await sender.send(config.topics.ordersRaw.name, numbered(2_500)), 2_500)

  door.shut()
  const sending = sender.send(config.topics.ordersRaw.name, numbered(5_000).slice(2_500))
  await until('it says that it waits again', () => said.length === 3)
  door.open()
  assert.equal(await sending, 2_500)
  const keys = new Set((await readOrders(config)).map(({ key }) => key))
  assert.equal(keys.size, 5_000)
  assert.deepEqual(
    said.map((line) => /does not answer|does not take|is back/.exec(line)?.[0]),
    ['does not answer', 'is back', 'does not take', 'is back'],
  )
})

test('asked to end while Kafka is away, it gives up within seconds and says how much was acknowledged', async (t) => {
  const config = await testConfig(t)
  const door = createDoor(config)
  const { sender, said, ending } = openSender(t, config, door.createClient)
  await sender.open()
  assert.equal(await sender.send(config.topics.ordersRaw.name, numbered(10)), 10)
  door.shut()
  const sending = sender.send(config.topics.ordersRaw.name, numbered(10))
  await until('it says that it waits', () => said.length === 1)
  ending.abort()
  assert.equal(await sending, 0)
})

/** A way to the broker that can be shut: sockets break, and new ones are refused. */
function createDoor(config: Config) {
  const sockets = new Set<Socket>()
  let isShut = false
  const createClient = () =>
    new Kafka({
      clientId: 'test',
      brokers: config.kafka.brokers,
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 10, maxRetryTime: 50, retries: 3 },
      socketFactory: ({ host, port, onConnect }) => {
        // Nobody listens on port 1.
        const socket = connect(isShut ? 1 : port, isShut ? '127.0.0.1' : host, onConnect)
        sockets.add(socket)
        socket.on('close', () => sockets.delete(socket))
        return socket
      },
    })
  return {
    createClient,
    shut() {
      isShut = true
      // With an error: kafkajs does not hear of an end without one.
      for (const socket of sockets) socket.destroy(new Error('shut by the test'))
    },
    open() {
      isShut = false
    },
  }
}
