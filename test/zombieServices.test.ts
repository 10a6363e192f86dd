import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase, query } from '../lib/database.ts'
import type { OrderValidated } from '../lib/events.ts'
import { startGateway } from '../lib/gatewayServer.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import type { TopicRecord } from '../lib/topicReader.ts'
import { STOPPED, type StopOrder } from './fixtures/stopAtProbe.ts'
import {
  orderStop,
  type RunningScript,
  readAll,
  runStoppable,
  tasksOf,
  testEnvironment,
  until,
  wakeUp,
} from './harness.ts'
import { assertEachOnce } from './processorHarness.ts'

const PARTITIONS = [0, 1]
const IN_STOCK = 1_000
const log = pino({ level: 'silent' })

interface Setup {
  environment: Record<string, string>
  config: Config
  database: Database
}

/** Topics, tables, stock of one product, and one gateway for all, slow enough that a batch is seen in hand. */
async function setUp(t: TestContext): Promise<Setup> {
  const environment = await testEnvironment(t, { PARTITIONS: String(PARTITIONS.length) })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const database = openDatabase(config.databaseUrl, 4, log)
  await migrateDatabase(database, log)
  await query(database, {
    text: `INSERT INTO stock (sku, received, available) VALUES ('SKU-1', $1, $1)`,
    values: [IN_STOCK],
  })
  const settings = { latencyMs: 100, declineRatio: 0, errorRatio: 0, throttleRatio: 0, dropRatio: 0 }
  const gateway = await startGateway({ database, settings, port: 0, metrics: new Registry(), log })
  t.after(async () => {
    await gateway.close()
    await database.end()
  })
  return { environment: { ...environment, GATEWAY_URL: gateway.url }, config, database }
}

/** With --verbose a service prints a line for each order, once that is committed. */
const startInstance = (t: TestContext, name: string, environment: Record<string, string>) =>
  runStoppable(t, name, environment, ['--verbose'])

/** The orders whose outcome it has published, by what it says of each. */
const published = ({ lines }: RunningScript): string[] =>
  lines.flatMap((line) => /^(ord-\S+) (?:AUTHORISED|RESERVED)/.exec(line)?.[1] ?? [])

function orderOf(orderId: string): OrderValidated {
  const at = '2026-11-21T07:36:03.000Z'
  return {
    type: 'OrderValidated',
    eventId: `${orderId}/OrderValidated`,
    occurredAt: at,
    orderId,
    customerId: 'cust-1',
    placedAt: at,
    currency: 'EUR',
    items: [{ sku: 'SKU-1', name: 'Lamp', quantity: 1, unitPrice: 1_999 }],
    total: 1_999,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: at,
    customer: { id: 'cust-1', name: 'A', email: 'a@example.org', tier: 'standard', country: 'DE' },
  }
}

async function openPlacing(t: TestContext, config: Config) {
  const producer = createKafka(config, 'test', log).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  t.after(() => producer.disconnect())
  const placed: string[] = []
  /** So many orders in each partition. @returns their ids */
  const place = async (name: string, count: number): Promise<string[]> => {
    const orders = PARTITIONS.flatMap((partition) =>
      Array.from({ length: count }, (_, i) => ({ partition, orderId: `ord-${name}-${partition}-${i}` })),
    )
    const messages = orders.map(({ partition, orderId }) => {
      return { partition, key: orderId, value: JSON.stringify(orderOf(orderId)) }
    })
    await producer.send({ topic: config.topics.ordersValidated.name, acks: -1, messages })
    const ids = orders.map(({ orderId }) => orderId)
    placed.push(...ids)
    return ids
  }
  return { place, placed }
}

/**
 * Two instances share the work; one stops itself at the moment named, sleeps until the other has its task and has
 * worked it off, and wakes up to find that time has passed.
 *
 * @returns the orders and their events; each has one, and the sleeper wrote none that it had in hand or slept over
 */
async function wakeUpLate(
  t: TestContext,
  { environment, config }: Setup,
  name: 'paymentService' | 'inventoryService',
  stop: StopOrder,
): Promise<TopicRecord[]> {
  const { place, placed } = await openPlacing(t, config)
  const [zombie, other] = [startInstance(t, name, environment), startInstance(t, name, environment)]
  const isShared = () => [zombie, other].every((instance) => tasksOf(instance).length === 1)
  await until('each has a task', isShared)
  const [lost] = tasksOf(zombie)

  await orderStop(zombie, stop)
  const inHand = await place('before', 40)
  await until('it has stopped itself with a batch in hand', () => zombie.lines.includes(STOPPED))
  const sleptOver = await place('asleep', 20)
  await until('the other has both tasks', () => tasksOf(other).length === PARTITIONS.length)
  const isDoneByOther = () => {
    const done = new Set(published(other))
    return [...inHand, ...sleptOver].every((id) => done.has(id))
  }
  await until('and has published all that there is', isDoneByOther)
  await wakeUp(zombie)
  await place('awake', 20)
  await until('it is a member again', isShared)
  await place('after', 20)
  const group = workingGroups(config.topicPrefix, config.topics).filter(({ group }) =>
    name.startsWith(group.slice(config.topicPrefix.length)),
  )
  await until('all is done', async () => (await fetchLag(createKafka(config, 'test', log), group)) === 0)

  assert.equal(
    published(zombie).filter((id) => inHand.includes(id) || sleptOver.includes(id)).length,
    0,
    `it published nothing of what it had lost with task ${lost}`,
  )
  const { paymentEvents, inventoryEvents } = config.topics
  const topic = (name === 'paymentService' ? paymentEvents : inventoryEvents).name
  const events = (await readAll(config, [topic])).get(topic)!
  assertEachOnce(
    events.map(({ key }) => key?.toString()),
    placed,
  )
  return events
}

/** Each order was charged once, and its event tells of that charge. */
async function assertChargedOnce(database: Database, events: readonly TopicRecord[]): Promise<void> {
  const rows = await query<{ order_id: string; authorisation_id: string }>(database, {
    text: 'SELECT order_id, authorisation_id FROM gateway.ledger',
  })
  assertEachOnce(
    rows.map(({ order_id }) => order_id),
    events.map(({ key }) => key!.toString()),
  )
  const charges = new Map(rows.map((row) => [row.order_id, row.authorisation_id]))
  for (const { key, value } of events) {
    const { authorisationId } = JSON.parse(value!.toString())
    assert.equal(authorisationId, charges.get(key!.toString()))
  }
}

/** What the database says was decided is what was published, to the byte. */
async function assertPublishedAsStored(
  database: Database,
  table: 'payment_outcomes' | 'inventory_outcomes',
  events: readonly TopicRecord[],
): Promise<void> {
  const rows = await query<{ order_id: string; event: string }>(database, {
    text: `SELECT order_id, event FROM ${table}`,
  })
  const stored = new Map(rows.map(({ order_id, event }) => [order_id, event]))
  assert.equal(stored.size, events.length)
  for (const { key, value } of events) assert.equal(value!.toString(), stored.get(key!.toString()))
}

describe('a service that sleeps for longer than its session, and wakes up', { concurrency: true }, () => {
  it('after charging and before writing that down: nobody is charged twice', async (t) => {
    const setup = await setUp(t)
    const events = await wakeUpLate(t, setup, 'paymentService', { stopAt: 'charged', passes: 10 })
    await assertChargedOnce(setup.database, events)
    await assertPublishedAsStored(setup.database, 'payment_outcomes', events)
  })

  it('after writing down what it charged and before publishing it: published by the other alone', async (t) => {
    const setup = await setUp(t)
    const events = await wakeUpLate(t, setup, 'paymentService', { stopAt: 'effects-done', passes: 1 })
    await assertChargedOnce(setup.database, events)
    await assertPublishedAsStored(setup.database, 'payment_outcomes', events)
  })

  it('in the middle of a transaction, with stock reserved: reserved and published once', async (t) => {
    const setup = await setUp(t)
    const events = await wakeUpLate(t, setup, 'inventoryService', { stopAt: 'records-sent', passes: 1 })
    await assertPublishedAsStored(setup.database, 'inventory_outcomes', events)
    const stock = await query(setup.database, { text: 'SELECT available, reserved FROM stock' })
    assert.deepEqual(stock, [{ available: IN_STOCK - events.length, reserved: events.length }])
  })
})
