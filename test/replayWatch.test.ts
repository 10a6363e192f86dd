// A replay that somebody watches: the same table as the live one, and told apart where it is not.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import Fastify from 'fastify'
import { createKafka } from '../kafkaConfig.ts'
import { eventIdOf, type OrderValidated } from '../lib/events.ts'
import { createLogger } from '../lib/log.ts'
import { OrderReplay } from '../lib/orderReplay.ts'
import { type MinuteRow, OrderStatistics, sumMinutes } from '../lib/orderStatistics.ts'
import { problemAnswerer } from '../lib/problem.ts'
import type { ReplayStatus } from '../lib/replayWatch.ts'
import { compareTables, type LiveTable, type TablesToCompare } from '../lib/replayWatchComparison.ts'
import { addReplayRoutes } from '../lib/replayWatchRoutes.ts'
import { testConfig, until } from './harness.ts'

const MINUTE_MS = 60_000
const START_MS = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS - 60 * MINUTE_MS
const minuteOf = (index: number) => `${new Date(START_MS + index * MINUTE_MS).toISOString().slice(0, 16)}Z`
const row = (index: number, orders = 1): MinuteRow => ({
  minute: minuteOf(index),
  orders,
  bookedRevenueMinor: { EUR: orders * 1_000 },
})

/** Statistics that began at a time. */
function since(ms: number): OrderStatistics {
  const statistics = new OrderStatistics(MINUTE_MS)
  statistics.sinceMs = ms
  return statistics
}

function compare(change: Partial<Omit<TablesToCompare, 'live'>> & { live?: Partial<LiveTable> }) {
  const { live, ...rest } = change
  return compareTables({
    replayed: [row(0), row(1)],
    replayedSinceMs: [START_MS],
    watermarkMs: START_MS + 60 * MINUTE_MS,
    graceMs: MINUTE_MS,
    liveRows: [row(0), row(1)],
    ...rest,
    live: { statistics: [since(START_MS)], partitions: { shown: 1, of: 1 }, lag: 0, ...live },
  })
}

test('two tables agree when each row is the same to the byte, and what differs is told with why it may', () => {
  const same = compare({})
  assert.deepEqual([same.agreement, same.text], ['agree', 'Both tables agree in all 2 minutes.'])

  const wrong = compare({ liveRows: [row(0), row(1, 2)] })
  assert.deepEqual([wrong.agreement, wrong.rows[1]!.result], ['differ', 'differs'])
  assert.equal(wrong.text, 'The tables differ in 1 of 2 minutes and agree in 1.')
  const missing = compare({ liveRows: [row(1)] })
  assert.deepEqual([missing.agreement, missing.rows[0]!.result], ['differ', 'differs'])

  const behind = compare({ liveRows: [row(0)], live: { lag: 7 } })
  assert.deepEqual([behind.agreement, behind.rows[1]!.result], ['differ', 'behind'])
  assert.match(behind.rows[1]!.why!, /7 records to count/)

  // Closed a minute after its end: the second is not yet.
  const open = compare({ liveRows: [row(0), row(1, 2)], watermarkMs: START_MS + 3 * MINUTE_MS - 1 })
  assert.deepEqual([open.agreement, open.rows[1]!.result], ['agree', 'open'])
  assert.equal(open.text, 'Both tables agree in 1 of 2 minutes; of the others 1 still took orders.')

  // It began two minutes later, so what it lacks counts until five minutes after that.
  const began = { statistics: [since(START_MS + 2 * MINUTE_MS)] }
  const notHeld = compare({ replayed: [row(6), row(7)], liveRows: [row(6, 9), row(7)], live: began })
  assert.deepEqual([notHeld.agreement, notHeld.rows[0]!.result], ['agree', 'not-held'])
  assert.match(notHeld.text, /1 the live table does not hold whole/)
  const held = compare({ replayed: [row(6), row(7)], liveRows: [row(6), row(7, 9)], live: began })
  assert.deepEqual([held.agreement, held.rows[1]!.result], ['differ', 'differs'])

  const shared = compare({ live: { partitions: { shown: 1, of: 3 } } })
  assert.deepEqual([shared.agreement, shared.rows], ['not-comparable', []])
})

/** So many that they come in several fetches. */
const ORDERS = 12_000
const MINUTES = 40
const APART_MS = (MINUTES * MINUTE_MS) / ORDERS
const ORDERS_AT_ONCE = 2_000

/**
 * Orders that arrived over forty minutes. One of ten is late beyond the grace, one of fifty dated four
 * minutes ahead (it counts, and makes others late), one of seventy ten minutes ahead (it does not).
 */
function makeOrders(): { order: OrderValidated; arrivedMs: number }[] {
  return Array.from({ length: ORDERS }, (_, index) => {
    const arrivedMs = START_MS + index * APART_MS
    const aheadMs =
      index % 70 === 3
        ? 10 * MINUTE_MS
        : index % 50 === 7
          ? 4 * MINUTE_MS
          : index % 10 === 9
            ? -150_000
            : -(index % 20) * 1_000
    const orderId = `ord-${index}`
    const occurredAt = new Date(arrivedMs).toISOString()
    const order: OrderValidated = {
      ...{ type: 'OrderValidated', eventId: eventIdOf(orderId, 'OrderValidated'), occurredAt },
      ...{ orderId, customerId: 'c-1', placedAt: new Date(arrivedMs + aheadMs).toISOString() },
      ...{ currency: index % 3 === 0 ? 'JPY' : 'EUR', total: 1_000 + index },
      items: [{ sku: 'sku-1', name: 'One', quantity: 1, unitPrice: 1_000 + index }],
      ...{ status: 'PENDING', validationStatus: 'VALID', processedBy: 'test', validatedAt: occurredAt },
      customer: { id: 'c-1', name: 'A', email: 'a@example.com', tier: 'gold', country: 'DE' },
    }
    return { order, arrivedMs }
  })
}

async function setUp(t: TestContext) {
  const config = await testConfig(t)
  const log = createLogger('test', config.log)
  const { ordersValidated } = config.topics
  const producer = createKafka(config, 'test', log).producer()
  await producer.connect()
  const messages = makeOrders().map(({ order, arrivedMs }, index) => ({
    ...{ key: order.orderId, value: ordersValidated.encode(order) },
    ...{ partition: index % config.partitions, timestamp: String(arrivedMs) },
  }))
  for (let from = 0; from < ORDERS; from += ORDERS_AT_ONCE) {
    await producer.send({
      topic: ordersValidated.name,
      messages: messages.slice(from, from + ORDERS_AT_ONCE),
    })
  }
  await producer.disconnect()

  // What analytics has: all of it, counted as it came.
  const ending = new AbortController()
  const counting = new OrderReplay({
    kafka: createKafka(config, 'live', log),
    ...{ topics: [ordersValidated], from: 'beginning', until: 'forever' },
    ...{
      graceMs: config.analytics.graceMs,
      groupPrefix: `${config.topicPrefix}live`,
      signal: ending.signal,
      log,
    },
  })
  const counted = counting.run()
  t.after(async () => {
    ending.abort()
    await counted
  })
  const live: LiveTable = { statistics: [], partitions: { shown: 3, of: 3 }, lag: 0 }
  const orders = () => counting.statistics.reduce((sum, { accepted }) => sum + accepted.orders, 0)
  await until('the live table has all', () => orders() === ORDERS)
  live.statistics = counting.statistics

  const server = Fastify()
  const answerProblem = problemAnswerer(log)
  server.setErrorHandler((error, _request, reply) => answerProblem(error, reply))
  addReplayRoutes(server, {
    config,
    createKafka: (clientId) => createKafka(config, clientId, log),
    live: () => live,
    log,
    signal: new AbortController().signal,
  })
  t.after(() => server.close())
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  const admin = createKafka(config, 'test', log).admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  const groupsOfReplays = async () =>
    (await admin.listGroups()).groups
      .map(({ groupId }) => groupId)
      .filter((id) => id.startsWith(`${config.topicPrefix}analytics-replay`))
  return { live, groupsOfReplays, ...clientOf(url) }
}

function clientOf(url: string) {
  const start = async (range: object, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}/replays`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(range),
    })
    return { status: response.status, body: (await response.json()) as { id: string; detail?: string } }
  }
  /** All that is told of one, to its end. */
  const watch = async (id: string) => {
    const response = await fetch(`${url}/replays/${id}/events`)
    assert.equal(response.headers.get('content-type'), 'text/event-stream')
    const text = await response.text()
    return text
      .trim()
      .split('\n\n')
      .map((told) => {
        const [name, data] = told.split('\n')
        return { name: name!.slice('event: '.length), status: JSON.parse(data!.slice(6)) as ReplayStatus }
      })
  }
  const cancel = async (id: string) => fetch(`${url}/replays/${id}`, { method: 'DELETE' })
  return { start, watch, cancel }
}

const at = (minute: number) => new Date(START_MS + minute * MINUTE_MS).toISOString()

test('a replay of some minutes gives the rows of the live table, and leaves nothing behind', async (t) => {
  const { live, start, watch, cancel, groupsOfReplays } = await setUp(t)
  const rows = sumMinutes(live.statistics)

  await t.test(
    'of minutes in the middle: read from a little before until no order can count any more',
    async () => {
      const { status, body } = await start({ from: at(12), to: at(30) })
      assert.equal(status, 201)
      const told = await watch(body.id)
      const { name, status: end } = told.at(-1)!
      assert.deepEqual([name, end.state, end.problem], ['end', 'done', undefined])
      assert.deepEqual(
        [end.comparison!.agreement, end.comparison!.text],
        ['agree', 'Both tables agree in all 18 minutes.'],
      )
      assert.equal(
        JSON.stringify(end.replayed),
        JSON.stringify(rows.filter(({ minute }) => minute >= minuteOf(12) && minute < minuteOf(30))),
      )
      // From minute 7 on, and at least until every partition is past the end and the grace.
      const perMinute = ORDERS / MINUTES
      const { read, of } = end.records
      assert.equal(of, ORDERS - 7 * perMinute)
      assert.ok(read >= 24 * perMinute && read <= of, `${read} of ${of}`)
      assert.deepEqual(await groupsOfReplays(), [])
    },
  )

  await t.test('of all that the live table holds', async () => {
    const { body } = await start({})
    const end = (await watch(body.id)).at(-1)!.status
    assert.ok(end.replayed.length >= MINUTES)
    assert.equal(JSON.stringify(end.replayed), JSON.stringify(rows))
    assert.equal(end.comparison!.agreement, 'agree')
    assert.equal(end.records.read, ORDERS)
  })

  await t.test('what the live table has lost is found', async () => {
    const tally = live.statistics[0]!.table.minutes.get(START_MS + 20 * MINUTE_MS)!
    tally.orders--
    const { body } = await start({ from: at(10), to: at(30) })
    const end = (await watch(body.id)).at(-1)!.status
    tally.orders++
    assert.equal(end.comparison!.agreement, 'differ')
    const differing = end.comparison!.rows.filter(({ result }) => result !== 'equal')
    assert.deepEqual(
      differing.map(({ minute, result }) => [minute, result]),
      [[minuteOf(20), 'differs']],
    )
  })

  await t.test(
    'two at once and no more, each can be ended, and what cannot be is refused with why',
    async () => {
      const started = await Promise.all([start({}), start({}), start({})])
      const refused = started.filter(({ status }) => status === 409)
      assert.equal(refused.length, 1)
      assert.match(refused[0]!.body.detail!, /2 replays are under way: wait for one, or cancel it/)
      const replays = started.filter(({ status }) => status === 201)
      for (const { body } of replays) {
        const ended = (await (await cancel(body.id)).json()) as ReplayStatus
        assert.ok(['cancelled', 'done'].includes(ended.state))
      }
      assert.equal((await start({}, { origin: 'http://elsewhere.example' })).status, 403)
      assert.match((await start({ from: at(3), to: at(2) })).body.detail!, /'from' must be before 'to'/)
      assert.match((await start({ from: 'yesterday' })).body.detail!, /from yesterday is not usable/)
      assert.match(
        (await start({ from: '2020-01-01', to: '2021-01-01' })).body.detail!,
        /at most 1440 minutes/,
      )
      assert.equal((await cancel('unknown')).status, 404)
      assert.deepEqual(await groupsOfReplays(), [])
    },
  )
})
