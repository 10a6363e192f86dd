// One order's way: what its records tell, and how they are found in a pipeline that runs.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import Fastify from 'fastify'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { runScript as runToEnd } from '../lib/childProcesses.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import { eventIdOf } from '../lib/events.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { describeWay } from '../lib/orderWay.ts'
import type { PlacedRecord } from '../lib/orderWayReader.ts'
import { addOrderWayRoutes, type OrderWayAnswer } from '../lib/orderWayRoutes.ts'
import { problemAnswerer } from '../lib/problem.ts'
import { createSealer } from '../lib/sealing.ts'
import { defineTopics } from '../lib/topics.ts'
import { runScript, testConfig, testEnvironment, until } from './harness.ts'

const HOSTILE = '<img src=x onerror=alert(1)>'
const topics = defineTopics('p.')
const START_MS = Date.parse('2026-11-21T07:36:00.000Z')
const OPTIONS = { topics, topicPrefix: 'p.', isFromApi: true }
const ITEMS = [{ sku: 'sku-1', name: HOSTILE, quantity: 2, unitPrice: 250 }]
const PLACED = {
  ...{ orderId: 'ord-1', customerId: 'c-1', placedAt: '2026-11-21T07:36:00.000Z' },
  ...{ currency: 'EUR', total: 500, items: ITEMS },
}
const CUSTOMER = { id: 'c-1', name: 'One', email: 'one@example.com', tier: 'gold', country: 'DE' }

/** A record of the order so many milliseconds after its first. */
function record(
  topic: { name: string },
  offset: number,
  afterMs: number,
  event: object | string | null,
  headers = {},
) {
  const value = typeof event === 'object' && event !== null ? JSON.stringify(event) : event
  return {
    ...{
      topic: topic.name,
      partition: 1,
      offset,
      key: Buffer.from('ord-1'),
      timestampMs: START_MS + afterMs,
    },
    ...{ value: value === null ? null : Buffer.from(value), headers },
  } satisfies PlacedRecord
}

function event(type: string, fields: object, occurrence?: string) {
  const eventId = eventIdOf('ord-1', type, occurrence)
  return { type, eventId, occurredAt: '2026-11-21T07:36:00.000Z', orderId: 'ord-1', ...fields }
}

const from = (topic: string, offset: number) => ({ source: `p.${topic}/1/${offset}` })
const TRACE = { traceparent: `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01` }
const PLACED_RECORD = record(topics.ordersRaw, 7, 0, event('OrderPlaced', PLACED), TRACE)
const VALIDATED = record(
  topics.ordersValidated,
  5,
  40,
  event('OrderValidated', {
    ...{ ...PLACED, status: 'PENDING', validationStatus: 'VALID', processedBy: 'v', customer: CUSTOMER },
    validatedAt: '2026-11-21T07:36:00.000Z',
  }),
  from('orders.raw', 7),
)
const stockSays = (status: string) =>
  event('InventoryUpdated', { status, availability: 'available', shortages: [] }, status)
const moneySays = (type: string) => event(type, { amount: 500, currency: 'EUR', authorisationId: 'auth' })
const VERDICTS = [
  record(topics.inventoryEvents, 3, 60, stockSays('RESERVED'), from('orders.validated', 5)),
  record(topics.paymentEvents, 4, 90, moneySays('PaymentProcessed'), from('orders.validated', 5)),
  record(
    topics.fraudEvents,
    2,
    70,
    event('FraudAssessed', { riskScore: 0, verdict: 'pass', rules: [] }),
    from('orders.validated', 5),
  ),
  record(
    topics.pricingEvents,
    2,
    65,
    event('OrderPriced', {
      ...{ currency: 'EUR', subtotal: 500, discounts: [], total: 500, net: 420, tax: 80 },
      ...{ taxRate: 1_900, taxCountry: 'DE' },
    }),
    from('orders.validated', 5),
  ),
]
const { placedAt, ...decidedFields } = { ...PLACED, items: [{ sku: 'sku-1', quantity: 2 }] }
const CONFIRMED = record(
  topics.ordersCompleted,
  1,
  120,
  event('OrderConfirmed', {
    ...decidedFields,
    placedAt,
    customer: CUSTOMER,
    shipmentNumber: 'S-1',
    warnings: [],
  }),
  from('orders.validated', 5),
)
const COMMITTED = record(topics.inventoryEvents, 9, 150, stockSays('COMMITTED'), from('orders.completed', 1))
const CAPTURED = record(
  topics.paymentEvents,
  9,
  180,
  moneySays('PaymentCaptured'),
  from('orders.completed', 1),
)
const WHOLE = [PLACED_RECORD, VALIDATED, ...VERDICTS, CONFIRMED, COMMITTED, CAPTURED]

test('a way is told in order of time, each hop from when its cause was sent, with its trace', () => {
  const traceUrlTemplate = 'http://127.0.0.1:16686/trace/{traceId}'
  const way = describeWay(WHOLE.toReversed(), { ...OPTIONS, traceUrlTemplate })
  assert.deepEqual(
    way.steps.map(({ by, label, hopMs, attempts }) => [by, label, hopMs, attempts]),
    [
      ['api', 'OrderPlaced', undefined, 1],
      ['validator', 'OrderValidated', 40, 1],
      ['inventory', 'InventoryUpdated RESERVED', 20, 1],
      ['pricing', 'OrderPriced', 25, 1],
      ['fraud', 'FraudAssessed pass', 30, 1],
      ['payment', 'PaymentProcessed', 50, 1],
      ['fulfilment', 'OrderConfirmed', 80, 1],
      ['inventory', 'InventoryUpdated COMMITTED', 30, 1],
      ['payment', 'PaymentCaptured', 60, 1],
    ],
  )
  assert.deepEqual([way.isComplete, way.end, way.lastAtMs - way.startedAtMs], [true, 'CONFIRMED', 180])
  assert.deepEqual(way.trace, {
    traceId: 'ab'.repeat(16),
    url: `http://127.0.0.1:16686/trace/${'ab'.repeat(16)}`,
  })
  const [placed] = way.steps
  assert.deepEqual([placed!.topic, placed!.position], ['orders.raw', 'p.orders.raw/1/7'])
  // As it was written: whoever shows it shows text.
  assert.deepEqual((placed!.event as typeof PLACED).items, ITEMS)
})

test('what is still to come is named, until everybody has carried out what was decided', () => {
  const waitingFor = (...records: PlacedRecord[]) => describeWay(records, OPTIONS).waitingFor
  assert.deepEqual(waitingFor(PLACED_RECORD), ['validation'])
  assert.deepEqual(waitingFor(PLACED_RECORD, VALIDATED, ...VERDICTS.slice(0, 2)), [
    'the verdict of fraud',
    'the verdict of pricing',
    'the decision',
  ])
  assert.deepEqual(waitingFor(PLACED_RECORD, VALIDATED, ...VERDICTS, CONFIRMED, COMMITTED), [
    'payment, to carry the decision out',
  ])
  const reasons = [{ code: 'x', message: 'x' }]
  const rejected = event('OrderRejected', { ...decidedFields, placedAt, reasons })
  const refused = describeWay([PLACED_RECORD, record(topics.ordersRejected, 1, 9, rejected)], OPTIONS)
  assert.deepEqual([refused.isComplete, refused.end], [true, 'REJECTED'])

  // What was declined has nothing to give back.
  const declined = event('PaymentFailed', { amount: 500, currency: 'EUR', reason: 'no' })
  const cancelled = event('OrderCancelled', { ...decidedFields, placedAt, reasons })
  const [stock, , ...others] = VERDICTS
  const told = [PLACED_RECORD, VALIDATED, stock!, ...others, record(topics.paymentEvents, 4, 90, declined)]
  const decided = [...told, record(topics.ordersCompleted, 1, 120, cancelled)]
  assert.deepEqual(waitingFor(...decided), ['inventory, to carry the decision out'])
  assert.deepEqual(waitingFor(...decided, record(topics.inventoryEvents, 9, 150, stockSays('RELEASED'))), [])
})

test('dead letters are told with why and what became of them, and their redrives count as attempts', () => {
  const letter = { ...from('orders.raw', 7), reason: 'not yet', attempts: '1' }
  const { deadLetters, retries } = topics
  const settle = (offset: number) => ({ 'dead-letter': `p.validator.dlq/1/${offset}` })
  const records = [
    PLACED_RECORD,
    record(deadLetters.validator, 0, 10, 'as it came', letter),
    record(retries.validator, 3, 500, 'as it came', { ...settle(0), redrives: '1' }),
    record(retries.validator, 4, 600, null, { ...settle(0), dropped: 'too late to count' }),
    { ...VALIDATED, timestampMs: START_MS + 900 },
  ]
  const { steps } = describeWay(records, OPTIONS)
  assert.deepEqual(
    steps.map(({ kind, by, hopMs, attempts, state, reason }) => [kind, by, hopMs, attempts, state, reason]),
    [
      ['event', 'api', undefined, 1, undefined, undefined],
      ['dead-letter', 'validator', 10, 1, 'redriven', 'not yet'],
      ['redriven', 'operator', 490, 1, undefined, undefined],
      ['dropped', 'operator', 590, 1, undefined, 'too late to count'],
      ['event', 'validator', 900, 2, undefined, undefined],
    ],
  )
  assert.equal(steps[1]!.text, 'as it came')
})

test('what is sealed is opened with its key, and without one told as sealed and nothing of it', () => {
  const keyed = (key: string) => {
    const { topics, keys } = parseConfig({ SEALED_TOPICS: 'orders.raw', ...(key && { ENCRYPTION_KEY: key }) })
    return { topics, keys, topicPrefix: '', isFromApi: true }
  }
  const ours = keyed(randomBytes(32).toString('base64'))
  const seal = createSealer({ ...ours, sender: 'test' })
  const sealed = { ...seal({ ...PLACED_RECORD, topic: 'orders.raw' }), offset: 7 }
  const asRead = { ...sealed, value: Buffer.from(sealed.value as unknown as string) }
  const [opened] = describeWay([asRead], ours).steps
  assert.equal((opened!.event as typeof PLACED).customerId, 'c-1')
  const [closed] = describeWay([asRead], keyed(randomBytes(32).toString('base64'))).steps
  assert.deepEqual([closed!.isSealed, closed!.event, closed!.text], [true, undefined, undefined])
  assert.match(closed!.problem!, /sealed with key/)
})

/** The routes as analytics has them, in this process; see lib/dashboardServer.ts. */
async function startWays(t: TestContext, config: Config) {
  const log = createLogger('test', config.log)
  const server = Fastify()
  const answerProblem = problemAnswerer(log)
  server.setErrorHandler((error, _request, reply) => answerProblem(error, reply))
  addOrderWayRoutes(server, {
    config,
    createKafka: (clientId, limits) => createKafka(config, clientId, log, limits),
    log,
    signal: new AbortController().signal,
  })
  t.after(() => server.close())
  return async (orderId: string, query = '') => {
    const { statusCode: status, body } = await server.inject(`/orders/${orderId}/way${query}`)
    return { status, way: JSON.parse(body) as OrderWayAnswer & { detail?: string }, body }
  }
}

test('without the read side it is found by searching its partition, as its records come', async (t) => {
  const config = await testConfig(t)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 1, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  const kafka = createKafka(config, 'test', log)
  const producer = kafka.producer({ transactionalId: `${config.topicPrefix}test`, idempotent: true })
  await producer.connect()
  t.after(() => producer.disconnect())
  /** Among others of the same partition. */
  const send = async (records: PlacedRecord[], end: 'commit' | 'abort' = 'commit') => {
    const transaction = await producer.transaction()
    for (const { topic, key, value, headers } of records) {
      const ours = { partition, value, headers }
      const messages = [
        { ...ours, key: 'ord-2' },
        { ...ours, key },
        { ...ours, key: null },
      ]
      await transaction.send({ topic: topic.replace('p.', config.topicPrefix), messages })
    }
    await transaction[end]()
  }
  const ask = await startWays(t, config)
  assert.equal((await ask('ord-1')).status, 404)
  /** What was committed is to be seen a moment later. */
  const untilTold = async (waitingFor: string, steps: number) => {
    let told = ''
    const isTold = async () => {
      const { way } = await ask('ord-1')
      told = `${way.waitingFor?.join()} after ${way.steps?.length}`
      return told === `${waitingFor} after ${steps}`
    }
    await until(`it waits for '${waitingFor}' after ${steps}`, isTold, 10_000).catch((error) => {
      throw new Error(`${error.message}: ${told}`)
    })
  }
  const { key, value } = PLACED_RECORD
  const first = await producer.transaction()
  const [sent] = await first.send({ topic: config.topics.ordersRaw.name, messages: [{ key, value }] })
  await first.commit()
  const { partition } = sent!
  await untilTold('validation', 1)
  await send([VALIDATED, ...VERDICTS])
  await untilTold('the decision', 6)
  await send([CONFIRMED], 'abort')
  await untilTold('the decision', 6)
  await send([CONFIRMED, COMMITTED, CAPTURED])
  await untilTold('', 9)

  // Another one, that has not seen it before.
  const askAnew = await startWays(t, config)
  const { way } = await askAnew('ord-1')
  assert.deepEqual([way.isComplete, way.steps.length, way.partition, way.notes], [true, 9, partition, []])
  const later = await askAnew('ord-3', '?at=2030-01-01T00:00:00Z')
  assert.equal(later.status, 404)
  assert.match(later.way.detail!, /searched partition \d of orders\.raw from 2030-01-01.*give another time/)
})

interface Running {
  env: Record<string, string>
  config: Config
  database: Database
  place(): Promise<string>
}

async function startPipeline(t: TestContext): Promise<Running> {
  const env = await testEnvironment(t, {
    ...{ SEALED_TOPICS: 'payment.events,orders.completed', GATEWAY_DECLINE_RATIO: '0' },
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
  })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const database = openDatabase(config.databaseUrl, 2, createLogger('test', config.log))
  t.after(() => database.end())
  await migrateDatabase(database, createLogger('test', config.log))
  await database.query(`INSERT INTO customers VALUES ('c-1', 'One', 'one@example.com', 'gold', 'DE', false)`)
  const judges = JUDGE_NAMES.map((name) => `${name}Service`)
  for (const name of ['validator', ...judges, 'fulfilmentService', 'orderView']) runScript(t, name, env)
  const api = runScript(t, 'api', env)
  const find = () => api.lines.map((line) => /listening on (\S+),/.exec(line)?.[1]).find(Boolean)
  await until('the API listens', () => find() !== undefined)
  const url = find()!
  await until('it is ready', async () => (await fetch(`${url}/health/ready`)).status === 200)
  const post = async (path: string, body: object) => {
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    assert.ok(response.ok, await response.clone().text())
    return (await response.json()) as { orderId: string }
  }
  await post('/products', {
    sku: 'sku-1',
    name: HOSTILE,
    unitPrice: 250,
    currency: 'EUR',
    stock: { quantity: 10 },
  })
  const order = { customerId: 'c-1', currency: 'EUR', items: [{ sku: 'sku-1', quantity: 2, unitPrice: 250 }] }
  return { env, config, database, place: async () => (await post('/orders', order)).orderId }
}

test('the way of an order, in a pipeline that runs', { timeout: 600_000 }, async (t) => {
  const { env, config, database, place } = await startPipeline(t)
  const ask = await startWays(t, config)
  const orderId = await place()

  await t.test('it is found, and has all that it passed', async () => {
    // Until everybody has a connection and a group.
    await until('its way is whole', async () => (await ask(orderId)).way.isComplete === true, 180_000, 50)
    const { way, body } = await ask(orderId)
    assert.deepEqual([way.end, way.waitingFor, way.notes], ['CONFIRMED', [], []])
    const labels = way.steps.map(({ label }) => label)
    assert.deepEqual(labels.slice(0, 2), ['OrderPlaced', 'OrderValidated'])
    for (const label of [
      'InventoryUpdated COMMITTED',
      'PaymentCaptured',
      'FraudAssessed pass',
      'OrderPriced',
    ]) {
      assert.ok(labels.includes(label), `${label} of ${labels}`)
    }
    // Each names its cause but the first, and payment and decisions are sealed and opened.
    assert.deepEqual(
      way.steps.filter(({ hopMs }) => hopMs === undefined).map(({ by }) => by),
      ['api'],
    )
    const captured = way.steps.find(({ label }) => label === 'PaymentCaptured')!
    assert.deepEqual([captured.isSealed, (captured.event as { orderId: string }).orderId], [true, orderId])
    assert.deepEqual(way.ledger.map(({ operation, status }) => [operation, status]).sort(), [
      ['authorise', 'authorised'],
      ['capture', 'captured'],
    ])
    assert.deepEqual(way.outcomes.map(({ service, operation }) => `${service} ${operation}`).sort(), [
      ...['fraud assess', 'fulfilment decide', 'inventory reserve', 'inventory settle'],
      ...['payment authorise', 'payment settle'],
    ])
    assert.deepEqual(
      way.stock.map(({ sku, received }) => [sku, received]),
      [['sku-1', 10]],
    )
    const placed = way.steps[0]!.event as typeof PLACED
    assert.equal(placed.items[0]!.name, 'sku-1')
    const validated = way.steps[1]!.event as typeof PLACED
    assert.equal(validated.orderId, orderId)
    assert.ok(!body.includes('<script'), 'what is in an event stays a string of JSON')
  })

  await t.test('by what the read side knows it is found, however long ago it was', async () => {
    const { partition } = (await ask(orderId)).way
    await until('the read side has all of it', async () => {
      const { rows } = await database.query('SELECT FROM order_view.events WHERE order_id = $1', [orderId])
      return rows.length === 8
    })
    // A time at which it is not.
    const { way } = await (await startWays(t, config))(orderId, '?at=2030-01-01T00:00:00Z')
    assert.deepEqual([way.isComplete, way.steps.length, way.partition], [true, 9, partition])
  })

  await t.test('one that is a dead letter is told with why, and with each redrive', async () => {
    const log = createLogger('test', config.log)
    const producer = createKafka(config, 'test', log).producer()
    await producer.connect()
    t.after(() => producer.disconnect())
    const value = `{"orderId":"ord-bad","name":"${HOSTILE}"`
    await producer.send({ topic: config.topics.ordersRaw.name, messages: [{ key: 'ord-bad', value }] })
    const letters = async () => (await ask('ord-bad')).way.steps?.filter(({ kind }) => kind === 'dead-letter')
    await until('it is a dead letter', async () => (await letters())?.length === 1)
    const before = await ask('ord-bad')
    const [placed, letter] = before.way.steps
    assert.deepEqual([placed!.text, letter!.text], [value, value])
    assert.match(placed!.problem!, /not JSON/)
    assert.deepEqual(
      [letter!.state, letter!.by, before.way.waitingFor],
      ['open', 'validator', ['validation']],
    )
    assert.match(letter!.reason!, /not JSON/)

    const redrive = {
      script: 'tools/dlq.ts',
      args: ['redrive', '--group', 'validator', '--order', 'ord-bad', '--yes'],
      print: () => undefined,
    }
    assert.equal((await runToEnd({ ...redrive, env: { ...process.env, ...env } })).status, 0)
    await until('it has failed again', async () => (await letters())?.length === 2)
    const { steps } = (await ask('ord-bad')).way
    assert.deepEqual(
      steps.map(({ kind, state, attempts }) => [kind, state, attempts]),
      [
        ['event', undefined, 1],
        ['dead-letter', 'redriven', 1],
        ['redriven', undefined, 1],
        ['dead-letter', 'open', 2],
      ],
    )
  })

  await t.test(
    'what cannot be told is said: no such order, no such id, Kafka or PostgreSQL away',
    async () => {
      const unknown = await ask('ord-unknown')
      assert.equal(unknown.status, 404)
      assert.match(
        unknown.way.detail!,
        /nothing of ord-unknown was found: partition \d holds no record of it/,
      )
      assert.equal((await ask('a%20b')).status, 400)
      assert.equal((await ask(orderId, '?at=tomorrow')).status, 400)
      const closed = '127.0.0.1:1'
      const withoutKafka = await startWays(t, { ...config, kafka: { ...config.kafka, brokers: [closed] } })
      const noKafka = await withoutKafka(orderId)
      assert.deepEqual([noKafka.status, noKafka.way.detail], [503, 'Kafka does not answer'])
      const withoutDatabase = await startWays(t, {
        ...config,
        databaseUrl: `postgres://u:p@${closed}/orders`,
      })
      const noDatabase = await withoutDatabase(orderId)
      assert.deepEqual([noDatabase.status, noDatabase.way.detail], [503, 'PostgreSQL does not answer'])
    },
  )
})
