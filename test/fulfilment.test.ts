import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated } from '../lib/events.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import { JUDGE_NAMES, type JudgeName } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { formatPosition, headerText } from '../lib/record.ts'
import { readAll, runScript, testEnvironment, until } from './harness.ts'

const NOW = '2026-11-21T09:00:00.000Z'
const TIMEOUT_MS = 3_000

function validated(orderId: string): OrderValidated {
  return {
    type: 'OrderValidated',
    eventId: eventIdOf(orderId, 'OrderValidated'),
    occurredAt: NOW,
    orderId,
    customerId: 'c-1',
    placedAt: NOW,
    currency: 'EUR',
    items: [{ sku: 'A', name: 'A', quantity: 2, unitPrice: 500 }],
    total: 1_000,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: NOW,
    customer: { id: 'c-1', name: 'Ann', email: 'ann@example.com', tier: 'gold', country: 'Germany' },
  }
}

/** What each judge says; `isBad` where it says no, or for fraud that it is odd. */
const SAYS: Record<JudgeName, (orderId: string, isBad: boolean) => object> = {
  inventory: (orderId, isBad) => ({
    type: 'InventoryUpdated',
    ...base(orderId),
    status: isBad ? 'REJECTED' : 'RESERVED',
    availability: isBad ? 'unavailable' : 'available',
    shortages: isBad ? [{ sku: 'A', requested: 2, available: 0 }] : [],
  }),
  payment: (orderId, isBad) => ({
    type: isBad ? 'PaymentFailed' : 'PaymentProcessed',
    ...base(orderId),
    amount: 1_000,
    currency: 'EUR',
    ...(isBad ? { reason: 'card expired' } : { authorisationId: 'a-1' }),
  }),
  fraud: (orderId, isBad) => ({
    type: 'FraudAssessed',
    ...base(orderId),
    riskScore: isBad ? 50 : 0,
    verdict: isBad ? 'warning' : 'pass',
    rules: isBad ? [{ rule: 'odd', points: 50, message: 'odd indeed' }] : [],
  }),
  pricing: (orderId) => ({
    type: 'OrderPriced',
    ...base(orderId),
    currency: 'EUR',
    subtotal: 1_000,
    discounts: [{ code: 'tier', message: 'gold', amount: 100 }],
    total: 900,
    net: 756,
    tax: 144,
    taxRate: 1_900,
    taxCountry: 'Germany',
  }),
}

function base(orderId: string) {
  return { eventId: `${orderId}/x`, occurredAt: NOW, orderId }
}

/** Plays validator and judges: one partition, each record sent by itself. */
async function stage(t: TestContext) {
  const env = await testEnvironment(t, { PARTITIONS: '1', DECISION_TIMEOUT_MS: String(TIMEOUT_MS) })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const producer = createKafka(config, 'test', createLogger('test', config.log)).producer()
  await producer.connect()
  t.after(() => producer.disconnect())
  const { ordersValidated, ordersCompleted } = config.topics
  const positions = new Map<string, string>()
  const send = async (topic: string, key: string, event: object, source?: string) => {
    const headers = source === undefined ? {} : { source }
    const [sent] = await producer.send({
      topic,
      acks: -1,
      messages: [{ key, value: JSON.stringify(event), partition: 0, headers }],
    })
    return formatPosition(topic, 0, sent!.baseOffset!)
  }
  return {
    env,
    config,
    send,
    async place(...orderIds: string[]) {
      for (const id of orderIds) positions.set(id, await send(ordersValidated.name, id, validated(id)))
    },
    /** @param source another cause than the order */
    async judge(orderId: string, judges: readonly JudgeName[], bad: readonly JudgeName[] = []) {
      for (const judge of judges) {
        const event = SAYS[judge](orderId, bad.includes(judge))
        await send(config.topics[`${judge}Events`].name, orderId, event, positions.get(orderId)!)
      }
    },
    async decisions() {
      const records = (await readAll(config, [ordersCompleted.name])).get(ordersCompleted.name)!
      return records.map(({ value, headers }) => {
        const event = JSON.parse(value!.toString()) as OrderCompleted
        const isOfOrder = headerText(headers, 'source') === positions.get(event.orderId)
        assert.ok(isOfOrder, `${event.orderId} names its OrderValidated as its cause`)
        return event
      })
    },
  }
}

function lagOf(config: Config): Promise<number> {
  const groups = workingGroups(config.topicPrefix, config.topics)
  const working = groups.filter(({ group }) => group === `${config.topicPrefix}fulfilment`)
  return fetchLag(createKafka(config, 'lag', createLogger('test', config.log)), working)
}

function summary(events: OrderCompleted[]): Record<string, string[]> {
  const of: Record<string, string[]> = {}
  for (const event of events) {
    const codes = event.type === 'OrderConfirmed' ? event.warnings : event.reasons
    of[event.orderId] = [
      ...(of[event.orderId] ?? []),
      event.type,
      ...codes.map(({ code, message }) => `${code}: ${message}`),
    ]
  }
  return of
}

test('orders are decided by their verdicts, and without them when their time is over; each once', async (t) => {
  const { env, config, place, judge, decisions, send } = await stage(t)
  const others = (...without: JudgeName[]) => JUDGE_NAMES.filter((name) => !without.includes(name))
  await place('good', 'warned', 'refused')
  const first = runScript(t, 'fulfilmentService', env)
  await judge('good', [...JUDGE_NAMES].reverse())
  await judge('good', JUDGE_NAMES)
  await judge('warned', JUDGE_NAMES, ['fraud'])
  await judge('refused', JUDGE_NAMES, ['inventory', 'payment'])
  await until('three are decided', async () => (await decisions()).length === 3)

  // Killed with an order half judged, and another one that nobody has judged yet.
  await place('half', 'late', 'silent')
  await judge('half', others('payment'))
  await judge('late', ['fraud'])
  const half = config.topics.fraudEvents.name
  await until('it has read them', () => lagOf(config).then((lag) => lag === 0))
  first.child.kill('SIGKILL')
  await ended(first.child)
  const second = runScript(t, 'fulfilmentService', env)
  await judge('half', ['payment'])
  await until('the half judged one is decided', async () => 'half' in summary(await decisions()))
  await until('the time of the others is over', async () => (await decisions()).length === 6)
  // Their verdicts come now, and change nothing; nor does one that is of no order.
  await judge('late', others('fraud'))
  await judge('silent', JUDGE_NAMES)
  await send(half, 'nobody', SAYS.fraud('nobody', false))
  await place('last')
  await judge('last', JUDGE_NAMES)
  await until('the last one is decided', async () => 'last' in summary(await decisions()))

  const said = await decisions()
  assert.deepEqual(summary(said), {
    good: ['OrderConfirmed'],
    warned: ['OrderConfirmed', 'fraud-warning: odd indeed'],
    refused: ['OrderCancelled', 'out-of-stock: not in stock: A', 'payment-declined: card expired'],
    half: ['OrderConfirmed'],
    late: [
      'OrderCancelled',
      ...others('fraud').map((name) => `decision-timeout: ${name} did not answer in time`),
    ],
    silent: [
      'OrderCancelled',
      ...JUDGE_NAMES.map((name) => `decision-timeout: ${name} did not answer in time`),
    ],
    last: ['OrderConfirmed'],
  })
  const confirmed = said.filter((event) => event.type === 'OrderConfirmed')
  assert.deepEqual(new Set(confirmed.map(({ total }) => total)), new Set([900]), 'at the priced total')
  assert.equal(new Set(confirmed.map(({ shipmentNumber }) => shipmentNumber)).size, confirmed.length)
  const letters = config.topics.deadLetters.fulfilment.name
  const [letter, ...more] = (await readAll(config, [letters])).get(letters)!
  assert.match(headerText(letter!.headers, 'reason')!, /its cause is no record of .*orders.validated/)
  assert.equal(more.length, 0)
  assert.equal(second.child.exitCode, null)
})
