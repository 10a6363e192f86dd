/** What the tests of settling share: validated orders and decisions by hand, in one partition, and the gateway beside them. */
import type { TestContext } from 'node:test'
import { Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import type { InventoryUpdated, OrderCompleted, OrderValidated, PaymentEvent } from '../lib/events.ts'
import { type Gateway, startGateway } from '../lib/gatewayServer.ts'
import { fetchLag } from '../lib/groupLag.ts'
import { formatPosition, headerText, SOURCE_HEADER } from '../lib/record.ts'
import type { GroupName } from '../lib/topics.ts'
import { READ_ALL_POLL_MS, readAll, testEnvironment, until } from './harness.ts'

const AT = '2026-11-21T07:36:03.000Z'
const log = pino({ level: 'silent' })

export interface Said<Event> {
  source: string
  bytes: string
  event: Event
}

/** What was placed: the order, and the position that it has or will have. */
export interface PlacedOrder {
  order: OrderValidated
  source: string
}

export interface SettlingSetup {
  environment: Record<string, string>
  config: Config
  database: Database
  gateway: Gateway
  /** An order at the next position of orders.validated; it is sent by {@link SettlingSetup.place}. */
  announce(orderId: string, quantity?: number): PlacedOrder
  /** Has to be called in the order in which they were announced. */
  place(...orders: PlacedOrder[]): Promise<void>
  confirm(order: PlacedOrder, totalMinor?: number): Promise<void>
  cancel(order: PlacedOrder): Promise<void>
  /** Waits until the groups have worked through all that was sent. */
  untilIdle(...groups: GroupName[]): Promise<void>
  inventoryEvents(): Promise<Said<InventoryUpdated>[]>
  paymentEvents(): Promise<Said<PaymentEvent>[]>
}

export const UNIT_PRICE_MINOR = 1_000

export async function setUpSettling(t: TestContext, stock: number): Promise<SettlingSetup> {
  const environment = await testEnvironment(t, { PARTITIONS: '1' })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  await database.query(`INSERT INTO stock (sku, received, available) VALUES ('SKU-1', $1, $1)`, [stock])
  const settings = { latencyMs: 0, declineRatio: 0, errorRatio: 0, throttleRatio: 0, dropRatio: 0 }
  const gateway = await startGateway({ database, settings, port: 0, metrics: new Registry(), log })
  t.after(() => gateway.close())

  const kafka = createKafka(config, 'test', log)
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  t.after(() => producer.disconnect())
  const { ordersValidated, ordersCompleted, inventoryEvents, paymentEvents } = config.topics
  let announced = 0
  const decide = async ({ order, source }: PlacedOrder, event: Partial<OrderCompleted>) => {
    const { orderId, customerId, placedAt, currency, total } = order
    const items = order.items.map(({ sku, quantity }) => ({ sku, quantity }))
    const fields = { occurredAt: AT, orderId, customerId, placedAt, currency, total, items }
    const value = JSON.stringify({ eventId: `${orderId}/${event.type}`, ...fields, ...event })
    const messages = [{ partition: 0, key: orderId, value, headers: { [SOURCE_HEADER]: source } }]
    await producer.send({ topic: ordersCompleted.name, acks: -1, messages })
  }
  const read = async <Event>(topic: { name: string; decode(value: Buffer): Event }) =>
    (await readAll(config, [topic.name])).get(topic.name)!.map(({ value, headers }) => ({
      source: headerText(headers, SOURCE_HEADER)!,
      bytes: value!.toString(),
      event: topic.decode(value!),
    }))

  return {
    environment: { ...environment, GATEWAY_URL: gateway.url },
    config,
    database,
    gateway,
    announce: (orderId, quantity = 1) => ({
      order: orderOf(orderId, quantity),
      source: formatPosition(ordersValidated.name, 0, announced++),
    }),
    async place(...orders) {
      const messages = orders.map(({ order }) => {
        return { partition: 0, key: order.orderId, value: JSON.stringify(order) }
      })
      await producer.send({ topic: ordersValidated.name, acks: -1, messages })
    },
    confirm: (placed, total = placed.order.total) => {
      const { customer } = placed.order
      return decide(placed, { type: 'OrderConfirmed', total, customer, shipmentNumber: 'S-1', warnings: [] })
    },
    cancel: (placed) =>
      decide(placed, { type: 'OrderCancelled', reasons: [{ code: 'timeout', message: 'too late' }] }),
    untilIdle: (...groups) =>
      until(
        `${groups.join(' and ')} have nothing left`,
        async () =>
          (await fetchLag(
            kafka,
            groups.map((group) => ({
              group: config.topicPrefix + group,
              topics: [ordersValidated.name, ordersCompleted.name],
            })),
          )) === 0,
        60_000,
        READ_ALL_POLL_MS,
      ),
    inventoryEvents: () => read(inventoryEvents),
    paymentEvents: () => read(paymentEvents),
  }
}

function orderOf(orderId: string, quantity: number): OrderValidated {
  const total = quantity * UNIT_PRICE_MINOR
  return {
    type: 'OrderValidated',
    eventId: `${orderId}/OrderValidated`,
    occurredAt: AT,
    orderId,
    customerId: 'cust-1',
    placedAt: AT,
    currency: 'EUR',
    items: [{ sku: 'SKU-1', name: 'Lamp', quantity, unitPrice: UNIT_PRICE_MINOR }],
    total,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: AT,
    customer: { id: 'cust-1', name: 'A', email: 'a@example.org', tier: 'standard', country: 'DE' },
  }
}
