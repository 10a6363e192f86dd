import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Message } from 'kafkajs'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import {
  eventIdOf,
  type OrderCompleted,
  type OrderRejected,
  type OrderValidated,
  type PaymentEvent,
} from '../lib/events.ts'
import { createLogger } from '../lib/log.ts'
import type { Summary } from '../lib/orderStatistics.ts'
import { testEnvironment, until } from './harness.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SCRIPT = ['--import', 'tsx', 'analytics.ts']
const run = promisify(execFile)

interface Live {
  partitions: { shown: number; of: number }
  ordersPerSecond: number
  bookedRevenuePerMinuteMinor: Record<string, number>
  orders: number
  bookedRevenueMinor: Record<string, number>
  capturedRevenueMinor: Record<string, number>
  confirmed: number
  cancelled: { orders: number }
  rejected: { orders: number }
}

async function setUp(t: TestContext, settings: Record<string, string> = {}) {
  const settingsOfTest = await testEnvironment(t, settings)
  const config = parseConfig(settingsOfTest)
  await ensureTopics(config, () => undefined)
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const admin = kafka.admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  const groupsOfReplays = async () =>
    (await admin.listGroups()).groups
      .map(({ groupId }) => groupId)
      .filter((id) => id.startsWith(`${config.topicPrefix}analytics-replay`))
  return { config, kafka, groupsOfReplays, env: { ...process.env, ...settingsOfTest } }
}

/** `count` orders of 10.00 over three minutes; every tenth is rejected, the one after it cancelled, every 50th late. */
async function placeOrders(t: TestContext, config: Config, count: number, firstId = 0): Promise<void> {
  const { ordersValidated, ordersRejected, ordersCompleted, paymentEvents } = config.topics
  const producer = createKafka(config, 'test-producer', createLogger('test', config.log)).producer()
  await producer.connect()
  t.after(() => producer.disconnect())
  const startMs = Date.now() - 4 * 60_000
  const accepted: Message[] = []
  const rejected: Message[] = []
  const payments: Message[] = []
  const completed: Message[] = []
  for (let index = firstId; index < firstId + count; index++) {
    const orderId = `ord-${index}`
    const ageMs = index % 50 === 49 ? 3_600_000 : 0
    const placedAt = new Date(startMs + Math.floor((index * 180_000) / count) - ageMs).toISOString()
    const order = {
      orderId,
      customerId: 'cus-1',
      placedAt,
      currency: index % 2 === 0 ? 'EUR' : 'JPY',
      total: 1_000,
    }
    const occurredAt = new Date().toISOString()
    if (index % 10 === 0) {
      const reasons = [{ code: 'unknown-product', message: 'no such product' }]
      const event: OrderRejected = {
        type: 'OrderRejected',
        eventId: eventIdOf(orderId, 'OrderRejected'),
        occurredAt,
        ...order,
        reasons,
      }
      rejected.push({ key: orderId, value: ordersRejected.encode(event), partition: index % 3 })
    } else {
      const event: OrderValidated = {
        type: 'OrderValidated',
        eventId: eventIdOf(orderId, 'OrderValidated'),
        occurredAt,
        ...order,
        items: [{ sku: `sku-${index % 15}`, name: `Product ${index % 15}`, quantity: 2, unitPrice: 500 }],
        status: 'PENDING',
        validationStatus: 'VALID',
        processedBy: 'test',
        validatedAt: occurredAt,
        customer: { id: 'cus-1', name: 'A', email: 'a@example.com', tier: 'gold', country: 'DE' },
      }
      accepted.push({ key: orderId, value: ordersValidated.encode(event), partition: index % 3 })
      const end = settle(event, index % 10 === 1)
      for (const one of end.payments) {
        payments.push({ key: orderId, value: paymentEvents.encode(one), partition: index % 3 })
      }
      completed.push({ key: orderId, value: ordersCompleted.encode(end.decision), partition: index % 3 })
    }
  }
  await producer.send({ topic: ordersValidated.name, messages: accepted })
  await producer.send({ topic: ordersRejected.name, messages: rejected })
  await producer.send({ topic: paymentEvents.name, messages: payments })
  await producer.send({ topic: ordersCompleted.name, messages: completed })
}

/** How a validated order ends: at 9.00, or cancelled. */
function settle(
  { orderId, customerId, placedAt, currency, total, occurredAt, customer }: OrderValidated,
  isCancelled: boolean,
): { payments: PaymentEvent[]; decision: OrderCompleted } {
  const fields = { occurredAt, orderId, currency }
  const paid = (type: 'PaymentProcessed' | 'PaymentCaptured' | 'PaymentVoided', amount: number) =>
    ({ type, eventId: eventIdOf(orderId, type), ...fields, amount, authorisationId: 'auth' }) as PaymentEvent
  const decided = { ...fields, customerId, placedAt, items: [{ sku: 'sku-1', quantity: 2 }] }
  const authorised = paid('PaymentProcessed', total)
  if (isCancelled) {
    const type = 'OrderCancelled'
    const reasons = [{ code: 'fraud', message: 'too risky' }]
    return {
      payments: [authorised, paid('PaymentVoided', total)],
      decision: { type, eventId: eventIdOf(orderId, type), ...decided, total, reasons },
    }
  }
  const type = 'OrderConfirmed'
  const more = { total: 900, customer, shipmentNumber: 'SHP-1', warnings: [] }
  return {
    payments: [authorised, paid('PaymentCaptured', 900)],
    decision: { type, eventId: eventIdOf(orderId, type), ...decided, ...more },
  }
}

/** analytics.ts as a process that runs, and the latest line of JSON that it has printed. */
function startLive(t: TestContext, env: NodeJS.ProcessEnv, ...flags: string[]) {
  const child = spawn(process.execPath, [...SCRIPT, '--json', ...flags], {
    cwd: ROOT,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  let rest = ''
  const live: { child: ChildProcess; latest: Live | undefined } = { child, latest: undefined }
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    const last = lines.at(-1)
    if (last) live.latest = JSON.parse(last)
  })
  return live
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  assert.deepEqual(await exited, [0, null])
}

test('two replays print the same bytes and the right sums, and leave no group behind', async (t) => {
  const { config, env, groupsOfReplays } = await setUp(t)
  await placeOrders(t, config, 1_000)
  const replay = () =>
    run(process.execPath, [...SCRIPT, '--from-beginning', '--once', '--json'], { cwd: ROOT, env })
  const first = await replay()
  const second = await replay()
  assert.equal(first.stdout, second.stdout)

  const summary: Summary = JSON.parse(first.stdout)
  assert.equal(summary.orders, 900)
  assert.deepEqual(summary.bookedRevenueMinor, { EUR: 400_000, JPY: 500_000 })
  assert.deepEqual(summary.rejected, { orders: 100, share: 0.1, reasons: { 'unknown-product': 100 } })
  assert.deepEqual(summary.capturedRevenueMinor, { EUR: 360_000, JPY: 360_000 })
  assert.equal(summary.confirmed, 800)
  assert.deepEqual(summary.cancelled, { orders: 100, reasons: { fraud: 100 } })
  assert.equal(summary.unusableRecords, 0)
  assert.equal(summary.late.orders, 20)
  assert.equal(
    summary.minutes.reduce((orders, row) => orders + row.orders, 0),
    880,
  )
  assert.equal(summary.topProducts.byQuantity.length, 10)
  assert.deepEqual(await groupsOfReplays(), [])

  const { stdout } = await run(process.execPath, [...SCRIPT, '--once'], { cwd: ROOT, env })
  assert.match(stdout, /^orders +900 +booked 4,000\.00 EUR \+ 500,000 JPY$/m)
  assert.match(stdout, /^confirmed +800 +captured 3,600\.00 EUR \+ 360,000 JPY$/m)
  assert.match(stdout, /^rejected +100 +10\.0 % +unknown-product 100$/m)
})

test('a replay from a time leaves out what arrived before it, and refuses what is no time', async (t) => {
  const { config, env } = await setUp(t)
  await placeOrders(t, config, 100)
  const from = new Date(Date.now() + 60_000).toISOString()
  const { stdout } = await run(process.execPath, [...SCRIPT, '--from', from, '--once', '--json'], {
    cwd: ROOT,
    env,
  })
  assert.equal((JSON.parse(stdout) as Summary).orders, 0)
  await assert.rejects(
    run(process.execPath, [...SCRIPT, '--from', 'noon'], { cwd: ROOT, env }),
    (error: Error) => {
      assert.match((error as Error & { stderr: string }).stderr, /^analytics: --from noon is not usable/m)
      return true
    },
  )
})

test('a replay without --once goes on with what is written next, and leaves no group when it is ended', async (t) => {
  const { config, env, groupsOfReplays } = await setUp(t)
  await placeOrders(t, config, 100)
  const live = startLive(t, env, '--from-beginning')
  await until('the orders of the past', () => live.latest?.orders === 90)
  await placeOrders(t, config, 100, 100)
  await until('the orders placed since', () => live.latest?.orders === 180)
  assert.deepEqual(live.latest?.partitions, { shown: 3, of: 3 })
  await stop(live.child)
  assert.deepEqual(await groupsOfReplays(), [])
})

test('live figures are complete again after a kill, and two instances share the partitions', async (t) => {
  const { config, env } = await setUp(t)
  await placeOrders(t, config, 300)
  const first = startLive(t, env)
  const isComplete = ({ latest }: { latest: Live | undefined }) =>
    latest?.orders === 270 &&
    latest.rejected.orders === 30 &&
    latest.confirmed + latest.cancelled.orders === 270 &&
    latest.capturedRevenueMinor.EUR === 108_000 &&
    latest.partitions.shown === 3
  await until('all orders', () => isComplete(first))
  const before = first.latest!
  assert.deepEqual(before.bookedRevenueMinor, { EUR: 120_000, JPY: 150_000 })
  first.child.kill('SIGKILL')
  await once(first.child, 'exit')

  const second = startLive(t, env)
  await until('all orders again, read back', () => isComplete(second), 60_000)
  assert.deepEqual(second.latest!.bookedRevenueMinor, before.bookedRevenueMinor)

  const third = startLive(t, env)
  await until(
    'both have partitions, and together all orders',
    () =>
      (second.latest?.partitions.shown ?? 0) > 0 &&
      (third.latest?.partitions.shown ?? 0) > 0 &&
      second.latest!.partitions.shown + third.latest!.partitions.shown === 3 &&
      second.latest!.orders + third.latest!.orders === 270,
    60_000,
  )
  await stop(third.child)
  await stop(second.child)
})
