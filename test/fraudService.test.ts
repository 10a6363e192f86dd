import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { stopScript } from '../lib/childProcesses.ts'
import { migrateDatabase, openDatabase, query } from '../lib/database.ts'
import type { OrderValidated } from '../lib/events.ts'
import { fetchLag } from '../lib/groupLag.ts'
import { headerText, SOURCE_HEADER } from '../lib/record.ts'
import { addressIn, orderOf } from './fraudHarness.ts'
import { READ_ALL_POLL_MS, readAll, runScript, testEnvironment, until } from './harness.ts'

const log = pino({ level: 'silent' })
const PARTITIONS = [0, 1, 2]

test('each order is assessed once, by what the ones before it taught, and the same record gives the same bytes', async (t) => {
  const environment = await testEnvironment(t)
  const config = parseConfig(environment)
  const { ordersValidated, fraudEvents } = config.topics
  await ensureTopics(config, () => undefined)
  const database = openDatabase(config.databaseUrl, 2, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  const kafka = createKafka(config, 'test', log)
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  const admin = kafka.admin()
  await Promise.all([producer.connect(), admin.connect()])
  t.after(() => Promise.all([producer.disconnect(), admin.disconnect()]))

  const place = (partition: number, orders: OrderValidated[]) =>
    producer.send({
      topic: ordersValidated.name,
      acks: -1,
      messages: orders.map((order) => ({
        partition,
        key: order.orderId,
        value: ordersValidated.encode(order),
      })),
    })
  const group = `${config.topicPrefix}fraud`
  const working = [{ group, topics: [ordersValidated.name] }]
  const untilWorkedOff = () =>
    until(
      'all orders are assessed',
      async () => (await fetchLag(kafka, working)) === 0,
      60_000,
      READ_ALL_POLL_MS,
    )
  const readEvents = async () => {
    const records = (await readAll(config, [fraudEvents.name])).get(fraudEvents.name)!
    return records.map(({ partition, value, headers }) => ({
      partition,
      source: headerText(headers ?? {}, SOURCE_HEADER)!,
      bytes: value!.toString(),
      event: fraudEvents.decode(value!),
    }))
  }
  const readHistory = () => query(database, { text: 'SELECT * FROM fraud_history ORDER BY subject' })

  // Two customers, their orders in all partitions, and in the last one an order id for the second time.
  const ordinary = PARTITIONS.map((partition) =>
    Array.from({ length: 100 }, (_, i) =>
      orderOf(`ord-${partition}-${i}`, { customerId: `cust-${i % 2}`, total: 1_000 + i }),
    ),
  )
  for (const partition of PARTITIONS) await place(partition, ordinary[partition]!)
  await place(2, [orderOf('ord-2-0', { customerId: 'cust-0', total: 999_999 })])
  const first = runScript(t, 'fraudService', environment)
  await untilWorkedOff()
  const theft = orderOf('theft', {
    customerId: 'cust-0',
    total: 500_000,
    items: [{ sku: 'SKU-1', name: 'Lamp', quantity: 50, unitPrice: 10_000 }],
    shippingAddress: addressIn('France'),
  })
  await place(0, [theft])
  await untilWorkedOff()
  await stopScript(first.child)

  const events = await readEvents()
  assert.equal(events.length, 301)
  assert.equal(new Set(events.map(({ event }) => event.orderId)).size, 301)
  for (const { event } of events) assert.equal(event.eventId, `${event.orderId}/FraudAssessed`)
  // However the partitions came to be worked on, each customer has one first order.
  const newcomers = events.filter(({ event }) => event.rules.some(({ rule }) => rule === 'first-order'))
  assert.equal(newcomers.length, 2)
  const { event } = events.find(({ event }) => event.orderId === 'theft')!
  assert.deepEqual([event.verdict, event.riskScore], ['fail', 80])
  assert.equal(event.rules[0]!.message, '5,000.00 EUR, 476.6 times what this customer usually spends')

  const history = await readHistory()
  const { orders, units, spent } = history[0]!
  // The even hundred totals of three partitions; the theft is not among them.
  assert.deepEqual(
    [orders, units, spent],
    [150, 150, { EUR: { orders: 150, sumMinor: 3 * (50_000 + 2_450) } }],
  )
  const counted = history.map(({ subject, window_orders }) => [subject, window_orders])
  assert.deepEqual(counted, [
    ['customer/cust-0', 151],
    ['customer/cust-1', 150],
    ['partition/0', 101],
    ['partition/1', 100],
    ['partition/2', 100],
  ])

  const partitions = PARTITIONS.map((partition) => ({ partition, offset: '0' }))
  await admin.setOffsets({ groupId: group, topic: ordersValidated.name, partitions })
  runScript(t, 'fraudService', environment)
  await untilWorkedOff()
  const again = await readEvents()
  assert.equal(again.length, 602)
  const bytesBySource = new Map(events.map(({ source, bytes }) => [source, bytes]))
  for (const { source, bytes } of again) assert.equal(bytes, bytesBySource.get(source))
  assert.deepEqual(await readHistory(), history)
})
