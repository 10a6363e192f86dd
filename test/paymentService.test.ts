import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { logLevel, Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import type { OrderValidated, PaymentEvent } from '../lib/events.ts'
import { startGateway } from '../lib/gatewayServer.ts'
import { headerText, SOURCE_HEADER } from '../lib/record.ts'
import { testEnvironment, until } from './harness.ts'

const log = pino({ level: 'silent' })
const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface Pipeline {
  config: Config
  database: Database
  /** Starts `paymentService.ts`; ended with the test. */
  start(): RunningService
  place(orders: OrderValidated[]): Promise<void>
  /** What a read-committed consumer has seen on `payment.events` so far. */
  published: { source: string; bytes: string; event: PaymentEvent }[]
}

interface RunningService {
  child: ChildProcess
  /** What it wrote to standard error. */
  output(): string
  stop(): Promise<void>
}

async function openPipeline(t: TestContext, settings: Record<string, string>): Promise<Pipeline> {
  const environment = await testEnvironment(t, { LOG_LEVEL: 'info', LOG_FORMAT: 'json', ...settings })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const database = openDatabase(config.databaseUrl, 2, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)

  const kafka = createKafka(config, 'test', log)
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  t.after(() => producer.disconnect())
  return {
    config,
    database,
    start: () => startService(t, environment),
    async place(orders) {
      const { name } = config.topics.ordersValidated
      const messages = orders.map((order) => ({ key: order.orderId, value: JSON.stringify(order) }))
      await producer.send({ topic: name, acks: -1, messages })
    },
    published: await follow(t, config),
  }
}

async function follow(t: TestContext, config: Config): Promise<Pipeline['published']> {
  const { name, decode } = config.topics.paymentEvents
  const seen: Pipeline['published'] = []
  const groupId = `test-${randomBytes(5).toString('hex')}`
  const consumer = createKafka(config, 'test', log).consumer({ groupId, readUncommitted: false })
  consumer.logger().setLogLevel(logLevel.NOTHING)
  t.after(() => consumer.disconnect())
  await consumer.connect()
  await consumer.subscribe({ topics: [name], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => {
      seen.push({
        source: headerText(message.headers ?? {}, SOURCE_HEADER)!,
        bytes: message.value!.toString(),
        event: decode(message.value!),
      })
    },
  })
  return seen
}

function startService(t: TestContext, environment: Record<string, string>): RunningService {
  const child = spawn(process.execPath, ['--import', 'tsx', 'paymentService.ts'], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let output = ''
  child.stderr!.on('data', (chunk) => {
    output += chunk
  })
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
  t.after(stop)
  return { child, output: () => output, stop }
}

function orderOf(orderId: string, total = 1_999): OrderValidated {
  const at = '2026-11-21T07:36:03.000Z'
  return {
    type: 'OrderValidated',
    eventId: `${orderId}/OrderValidated`,
    occurredAt: at,
    orderId,
    customerId: 'cust-1',
    placedAt: at,
    currency: 'EUR',
    items: [{ sku: 'SKU-1', name: 'Lamp', quantity: 1, unitPrice: total }],
    total,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: at,
    customer: { id: 'cust-1', name: 'A', email: 'a@example.org', tier: 'standard', country: 'DE' },
  }
}

test('through charges whose answer is lost, each of 200 orders is authorised once and has one event', async (t) => {
  const pipeline = await openPipeline(t, {
    GATEWAY_DROP_RATIO: '0.3',
    GATEWAY_ERROR_RATIO: '0.1',
    GATEWAY_DECLINE_RATIO: '0.2',
    GATEWAY_LATENCY_MS: '2',
  })
  const orders = Array.from({ length: 200 }, (_, i) => orderOf(`ord-${i}`, 1_000 + i))
  pipeline.start()
  await pipeline.place(orders)
  // Below the ones that are counted, on each partition: what would be published twice is out when these are.
  const last = Array.from({ length: 30 }, (_, i) => orderOf(`last-${i}`))
  const isDone = ({ orderId }: OrderValidated) => pipeline.published.some((p) => p.event.orderId === orderId)
  await until('an event for each order', () => orders.every(isDone))
  await pipeline.place(last)
  await until('an event for each order after them', () => last.every(isDone))

  const { rows: ledger } = await pipeline.database.query('SELECT * FROM gateway.ledger')
  assert.equal(ledger.length, 230)
  assert.equal(pipeline.published.length, 230)
  for (const { orderId, total } of orders) {
    const entries = ledger.filter((row) => row.order_id === orderId)
    assert.equal(entries.length, 1)
    const events = pipeline.published.filter(({ event }) => event.orderId === orderId)
    assert.equal(events.length, 1)
    const { event } = events[0]!
    assert.equal(event.amount, total)
    assert.equal(entries[0].amount_minor, total)
    if (event.type === 'PaymentProcessed') {
      assert.equal(entries[0].status, 'authorised')
      assert.equal(event.authorisationId, entries[0].authorisation_id)
    } else {
      assert.equal(event.type, 'PaymentFailed')
      assert.equal(entries[0].status, 'declined')
    }
  }
  assert.ok(pipeline.published.some(({ event }) => event.type === 'PaymentFailed'))
})

test('the same record again publishes the same bytes; the same order elsewhere does nothing', async (t) => {
  const pipeline = await openPipeline(t, {
    GATEWAY_DECLINE_RATIO: '0',
    GATEWAY_LATENCY_MS: '0',
    PARTITIONS: '1',
  })
  const { config, database, published } = pipeline
  const first = pipeline.start()
  // The second is in the same batch or in one of its own, as it happens; both do nothing.
  await pipeline.place([orderOf('ord-1'), orderOf('ord-1', 5), orderOf('ord-2')])
  await until('both orders have an event', () => published.length >= 2)
  await first.stop()
  assert.deepEqual(
    published.map(({ event }) => event.orderId),
    ['ord-1', 'ord-2'],
  )

  const admin = createKafka(config, 'test', log).admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  await admin.setOffsets({
    groupId: `${config.topicPrefix}payment`,
    topic: config.topics.ordersValidated.name,
    partitions: [{ partition: 0, offset: '0' }],
  })
  await pipeline.place([orderOf('ord-1', 7), orderOf('ord-3')])
  pipeline.start()
  await until('the order behind them has its event', () =>
    published.some(({ event }) => event.orderId === 'ord-3'),
  )

  assert.equal(published.length, 5)
  assert.deepEqual(published.slice(2, 4), published.slice(0, 2))

  // In a batch without the position that was first.
  await pipeline.place([orderOf('ord-1', 9), orderOf('ord-4')])
  await until('the last order has its event', () => published.some(({ event }) => event.orderId === 'ord-4'))
  assert.equal(published.length, 6)
  const { rows } = await database.query('SELECT amount_minor FROM gateway.ledger ORDER BY order_id')
  assert.deepEqual(
    rows.map(({ amount_minor }) => amount_minor),
    [1_999, 1_999, 1_999, 1_999],
  )
})

test('orders wait for a gateway that is not there, in one line, and go on when it is', async (t) => {
  // A port that is free: taken, and given back.
  const database = openDatabase('postgres://nobody@127.0.0.1:1/none', 1, log)
  const settings = { latencyMs: 0, declineRatio: 0, errorRatio: 0, throttleRatio: 0, dropRatio: 0 }
  const taken = await startGateway({ database, settings, port: 0, metrics: new Registry(), log })
  await taken.close()
  await database.end()

  const pipeline = await openPipeline(t, { GATEWAY_URL: taken.url })
  const { config, published } = pipeline
  const service = pipeline.start()
  const orders = Array.from({ length: 50 }, (_, i) => orderOf(`ord-${i}`))
  await pipeline.place(orders)
  const complaints = () => service.output().match(/payment gateway is not available[^"]*/g) ?? []
  await until('it says what it waits for', () => complaints().length > 0)
  assert.match(complaints()[0]!, /ECONNREFUSED 127\.0\.0\.1:\d+ - waiting, nothing is lost/)
  assert.equal(published.length, 0)

  const port = Number(new URL(taken.url).port)
  const gateway = await startGateway({
    database: pipeline.database,
    settings,
    port,
    metrics: new Registry(),
    log,
  })
  t.after(() => gateway.close())
  await until('an event for each order', () => published.length >= 50)
  assert.equal(published.length, 50)
  assert.ok(complaints().length <= 2, complaints().join('\n'))
  assert.equal(await countDeadLetters(t, config), 0)
})

async function countDeadLetters(t: TestContext, config: Config): Promise<number> {
  const admin = createKafka(config, 'test', log).admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  const partitions = await admin.fetchTopicOffsets(config.topics.deadLetters.payment.name)
  return partitions.reduce((sum, { high }) => sum + Number(high), 0)
}
