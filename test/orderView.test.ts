import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended, stopScript } from '../lib/childProcesses.ts'
import { type Database, migrateDatabase, openDatabase, query } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import {
  mergeSummaries,
  type OrderSummary,
  summarise,
  type ViewEvent,
  type ViewRecord,
  viewedTopics,
} from '../lib/orderView.ts'
import { findOrder, listOrders } from '../lib/orderViewQueries.ts'
import { rebuildOrderView } from '../lib/orderViewRebuild.ts'
import { OrderViewStore } from '../lib/orderViewStore.ts'
import { runScript, testEnvironment, until } from './harness.ts'

/** Orders that are there before a rebuild. */
const OLD = 600
const AT = '2026-11-21T10:00:00.000Z'

/** Events of one order as services write them. */
function eventsOf(orderId: string, index = 0) {
  const placedAt = new Date(Date.parse(AT) + index * 1_000).toISOString()
  const common = { occurredAt: placedAt, orderId }
  const order = { ...common, customerId: `c-${index % 3}`, placedAt, currency: 'EUR' }
  const items = [{ sku: 's', name: 'S', quantity: 1, unitPrice: 1_000 }]
  const customer = { id: order.customerId, name: 'N', email: 'e', tier: 'gold' as const, country: 'DE' }
  const reason = { code: 'why', message: 'because\0of' }
  const id = (type: string, more = '') => ({ type, eventId: `${orderId}/${type}${more}` })
  return {
    validated: {
      ...id('OrderValidated'),
      ...{ ...order, items, total: 1_000, status: 'PENDING', validationStatus: 'VALID' },
      ...{ processedBy: 'v', validatedAt: placedAt, customer },
    },
    rejected: { ...id('OrderRejected'), ...order, total: 1_000, reasons: [reason] },
    reserved: {
      ...id('InventoryUpdated', '/reserve'),
      ...{ ...common, status: 'RESERVED', availability: 'available', shortages: [] },
    },
    paid: { ...id('PaymentProcessed'), ...common, amount: 1_000, currency: 'EUR', authorisationId: 'a' },
    assessed: { ...id('FraudAssessed'), ...common, riskScore: 1, verdict: 'pass', rules: [] },
    confirmed: {
      ...id('OrderConfirmed'),
      ...{ ...order, items, customer, total: 900, shipmentNumber: 'SHP-1', warnings: [] },
    },
    cancelled: { ...id('OrderCancelled'), ...order, items, total: 1_000, reasons: [reason] },
  }
}
type Kind = keyof ReturnType<typeof eventsOf>

test('an order stands where its events say, in whatever order, however often and however grouped they come', () => {
  const { validated, rejected, reserved, paid, confirmed, cancelled } = eventsOf('ord-1')
  const record = (event: ViewEvent, offset: number): ViewRecord => ({
    topic: 't',
    partition: 0,
    offset,
    event,
  })
  const again = { ...validated, customerId: 'c-9' }
  const lives: [records: ViewRecord[], status: string, total: number][] = [
    [[record(validated, 1)], 'PENDING', 1_000],
    [[record(rejected, 1)], 'REJECTED', 1_000],
    [[record(validated, 1), record(rejected, 5)], 'PENDING', 1_000],
    [[record(validated, 1), record(again, 7), record(reserved, 2), record(paid, 3)], 'PENDING', 1_000],
    [[record(validated, 1), record(rejected, 5), record(paid, 3), record(confirmed, 9)], 'CONFIRMED', 900],
    [[record(validated, 1), record(reserved, 5), record(cancelled, 9)], 'CANCELLED', 1_000],
  ]
  for (const [records, status, total] of lives) {
    const order = fc.shuffledSubarray([...records, ...records], { minLength: records.length * 2 })
    fc.assert(
      fc.property(order, fc.nat({ max: 5 }), (shuffled, cut) => {
        const parts = [shuffled.slice(0, cut), shuffled.slice(cut)].flatMap(summarise)
        const { customerId, ...found } = parts.reduce(mergeSummaries) as OrderSummary
        assert.deepEqual([found.status, found.totalMinor, customerId], [status, total, 'c-0'])
      }),
    )
  }
})

/** The tables alone. */
async function setUpTables(t: TestContext) {
  const env = await testEnvironment(t)
  const config = parseConfig(env)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  return { env, config, log, database }
}

/** Tables, topics, and a producer for what services would say; each event goes to the partition of its order. */
async function setUp(t: TestContext) {
  const tables = await setUpTables(t)
  const { config, log } = tables
  await ensureTopics(config, () => undefined)
  const producer = createKafka(config, 'test', log).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  t.after(() => producer.disconnect())
  const topicOf = {
    ...{ validated: config.topics.ordersValidated, rejected: config.topics.ordersRejected },
    ...{ reserved: config.topics.inventoryEvents, paid: config.topics.paymentEvents },
    ...{ assessed: config.topics.fraudEvents },
    ...{ confirmed: config.topics.ordersCompleted, cancelled: config.topics.ordersCompleted },
  }
  const say = async (from: number, to: number, kindsOf: (index: number) => Kind[]) => {
    const messages = new Map<string, { key: string; value: string; partition: number }[]>()
    for (let index = from; index < to; index++) {
      const orderId = `ord-${index}`
      const events = eventsOf(orderId, index)
      for (const kind of kindsOf(index)) {
        const { name } = topicOf[kind]
        const message = {
          key: orderId,
          value: JSON.stringify(events[kind]),
          partition: index % config.partitions,
        }
        messages.set(name, [...(messages.get(name) ?? []), message])
      }
    }
    await producer.sendBatch({
      topicMessages: [...messages].map(([topic, list]) => ({ topic, messages: list })),
    })
  }
  return { ...tables, say }
}

const dump = async (database: Database) => ({
  orders: await query(database, { text: 'SELECT * FROM order_view.orders ORDER BY order_id' }),
  events: await query(database, {
    text: 'SELECT * FROM order_view.events ORDER BY order_id, topic, partition, log_offset',
  }),
})
const countEvents = async (database: Database): Promise<number> =>
  (await query<{ n: number }>(database, { text: 'SELECT count(*) AS n FROM order_view.events' }))[0]!.n

test('written in any order and twice over the tables are the same, and tell what happened', async (t) => {
  const { database, config } = await setUpTables(t)
  const { validated, reserved, rejected, confirmed } = eventsOf('ord-1')
  const at = (topic: { name: string }, offset: number, event: ViewEvent): ViewRecord => ({
    ...{ topic: topic.name, partition: 0, offset, event },
  })
  const records = [
    at(config.topics.ordersValidated, 1, validated),
    at(config.topics.inventoryEvents, 1, { ...reserved, eventId: 'odd\0one' } as ViewEvent),
    at(config.topics.ordersRejected, 1, { ...rejected, eventId: 'ord-1/OrderRejected/raw/0/7' }),
    at(config.topics.ordersCompleted, 1, confirmed),
  ]
  const store = new OrderViewStore(database)
  await store.write(records)
  const before = await dump(database)
  for (const record of [...records].reverse()) await new OrderViewStore(database).write([record])
  assert.deepEqual(await dump(database), before)
  await database.query('TRUNCATE order_view.orders, order_view.events')
  for (const record of [...records].reverse()) await store.write([record])
  assert.deepEqual(await dump(database), before)

  // Two that write the same at the same time, one of them backwards, do not deadlock.
  const many = Array.from({ length: 500 }, (_, index) =>
    at(config.topics.ordersValidated, index, eventsOf(`ord-many-${index}`).validated),
  )
  for (let round = 0; round < 10; round++) {
    await database.query(`DELETE FROM order_view.orders WHERE order_id LIKE 'ord-many-%';
                          DELETE FROM order_view.events WHERE order_id LIKE 'ord-many-%'`)
    await Promise.all([store.write(many), new OrderViewStore(database).write([...many].reverse())])
  }

  const found = await findOrder(database, 'ord-1')
  assert.equal(found!.order!.status, 'CONFIRMED')
  assert.equal(found!.order!.shipmentNumber, 'SHP-1')
  const said = found!.events.map(({ type, outcome, eventId }) => [type, outcome, eventId].join())
  assert.deepEqual(said.sort(), [
    'InventoryUpdated,RESERVED,odd\uFFFDone',
    'OrderConfirmed,,ord-1/OrderConfirmed',
    'OrderRejected,,ord-1/OrderRejected/raw/0/7',
    'OrderValidated,,ord-1/OrderValidated',
  ])
  assert.equal(await findOrder(database, 'ord-2'), undefined)
})

test('pages follow each other without a gap or a repetition, also where many orders share one time', async (t) => {
  const { database, config } = await setUpTables(t)
  const records = Array.from({ length: 60 }, (_, index): ViewRecord => {
    const event = { ...eventsOf(`ord-${index}`, index % 7).validated }
    return { topic: config.topics.ordersValidated.name, partition: 0, offset: index, event }
  })
  await new OrderViewStore(database).write(records)
  for (const [filter, count] of [
    [{}, 60],
    [{ customerId: 'c-1' }, 17],
    [{ status: 'CONFIRMED' }, 0],
  ] as const) {
    const seen: string[] = []
    let after: Awaited<ReturnType<typeof listOrders>>['end']
    do {
      const page = await listOrders(database, filter, { after, limit: 7 })
      seen.push(...page.orders.map(({ placedAt, orderId }) => `${placedAt} ${orderId}`))
      after = page.end
    } while (after)
    assert.equal(seen.length, count)
    assert.deepEqual(seen, [...new Set(seen)].sort().reverse())
  }
})

test('a rebuild beside a running view loses nothing, mends what was wrong, and given up it changes nothing', async (t) => {
  const { env, database, log, say, config } = await setUp(t)
  const kafka = createKafka(config, 'test', log)
  const { signal } = new AbortController()
  const topics = viewedTopics(config.topics)
  const life = (index: number): Kind[] =>
    index % 5 === 0
      ? ['rejected']
      : ['validated', 'reserved', 'paid', 'assessed', index % 7 ? 'confirmed' : 'cancelled']
  const eventsIn = (orders: number) =>
    Array.from({ length: orders }, (_, index) => life(index).length).reduce((sum, count) => sum + count, 0)
  await say(0, OLD, life)
  const view = runScript(t, 'orderView', env)
  await until('all is in the view', async () => (await countEvents(database)) === eventsIn(OLD), 60_000)
  const before = await dump(database)

  // Given up in the middle, it leaves all as it was.
  const giveUp = new AbortController()
  const reading = rebuildOrderView({ database, kafka, topics, log, signal: giveUp.signal })
  await until('it has begun', async () => {
    const [row] = await query<{ is: boolean }>(database, {
      text: `SELECT to_regclass('order_view_next.events') IS NOT NULL AS is`,
    })
    return row!.is
  })
  await assert.rejects(
    rebuildOrderView({ database, kafka, topics, log, signal: giveUp.signal }),
    /another rebuild/,
  )
  giveUp.abort()
  assert.equal(await reading, undefined)
  assert.deepEqual(await dump(database), before)

  // Something is wrong and something is missing: a rebuild puts it right while more comes.
  await database.query(`DELETE FROM order_view.events WHERE order_id < 'ord-5';
                        UPDATE order_view.orders SET status = 4, total_minor = 1 WHERE order_id > 'ord-3'`)
  const rebuild = runScript(t, 'orderView', env, ['--rebuild'])
  let said = OLD
  let isOver = false
  const over = ended(rebuild.child).then((status) => {
    isOver = true
    assert.equal(status, 0, rebuild.lines.join('\n'))
  })
  const sayMore = async () => {
    await say(said, said + 20, life)
    said += 20
  }
  while (!isOver) await sayMore()
  await over
  await sayMore()
  await until('all is in the view', async () => (await countEvents(database)) === eventsIn(said))
  const after = await dump(database)
  assert.equal(after.orders.length, said)
  const isOld = ({ order_id }: { order_id?: string }) => Number(order_id!.slice(4)) < OLD
  assert.deepEqual({ orders: after.orders.filter(isOld), events: after.events.filter(isOld) }, before)
  assert.ok(!view.lines.some((line) => /dead letter/i.test(line)), 'nothing was dead-lettered')
  await stopScript(view.child)

  // Somebody holds a lock for longer than one waits: it tries again.
  const holder = await database.connect()
  await holder.query(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0;
                      LOCK TABLE order_view.events IN ROW EXCLUSIVE MODE`)
  const warnings: string[] = []
  const warn = (message: string) => void warnings.push(message)
  const watched = Object.assign(Object.create(log) as typeof log, { warn })
  const waiting = rebuildOrderView({ database, kafka, topics, log: watched, signal })
  await until('it tries again', () => warnings.some((warning) => /lock timeout/.test(warning)))
  await holder.query('COMMIT')
  holder.release()
  assert.ok((await waiting)! > 0)
  assert.deepEqual(await dump(database), after)

  // Dropped altogether, it is made again.
  await database.query('DROP SCHEMA order_view CASCADE')
  assert.ok((await rebuildOrderView({ database, kafka, topics, log, signal }))! > 0)
  assert.deepEqual(await dump(database), after)
  const { rows: indexes } = await database.query(`SELECT FROM pg_indexes WHERE schemaname = 'order_view'`)
  assert.equal(indexes.length, 5)
})
