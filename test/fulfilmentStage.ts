/** Plays everybody but fulfilment: what the tests of the decision share. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated } from '../lib/events.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import type { JudgeName } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { formatPosition, headerText } from '../lib/record.ts'
import { readAll, testEnvironment } from './harness.ts'

const NOW = '2026-11-21T09:00:00.000Z'
export const TIMEOUT_MS = 3_000

interface Placed {
  id: string
  postcode?: string
  shippingAddress?: undefined
}

function validated({ id: orderId, postcode = '12345', ...rest }: Placed): OrderValidated {
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
    ...('shippingAddress' in rest
      ? {}
      : { shippingAddress: { name: 'Ann', street: 'Way 1', city: 'Town', postcode, country: 'Germany' } }),
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: NOW,
    customer: { id: 'c-1', name: 'Ann', email: 'ann@example.com', tier: 'gold', country: 'Germany' },
  }
}

/** What each judge says; `isBad` where it says no, or for fraud that it is odd. */
export const SAYS: Record<JudgeName, (orderId: string, isBad: boolean) => object> = {
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
export async function prepareStage(t: TestContext) {
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
    async place(...orders: Placed[]) {
      for (const order of orders) {
        positions.set(order.id, await send(ordersValidated.name, order.id, validated(order)))
      }
    },
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

export function lagOf(config: Config): Promise<number> {
  const groups = workingGroups(config.topicPrefix, config.topics)
  const working = groups.filter(({ group }) => group === `${config.topicPrefix}fulfilment`)
  return fetchLag(createKafka(config, 'lag', createLogger('test', config.log)), working)
}

/** What was decided, by order: the event with its reasons or warnings. */
export function summary(events: OrderCompleted[]): Record<string, string[]> {
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
