import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import type { OrderPlaced, OrderRejected, OrderValidated } from '../lib/events.ts'
import { createLogger } from '../lib/log.ts'
import { headerText } from '../lib/record.ts'
import { READ_ALL_POLL_MS, readAll, runScript, testEnvironment, until } from './harness.ts'

let count = 0

function order(changes: Partial<OrderPlaced> = {}): OrderPlaced {
  const orderId = `ord-${++count}`
  return {
    type: 'OrderPlaced',
    eventId: `${orderId}/OrderPlaced`,
    occurredAt: '2026-11-21T10:00:00.000Z',
    orderId,
    customerId: 'c-1',
    placedAt: '2026-11-21T10:00:00.000Z',
    currency: 'EUR',
    items: [{ sku: 'sku-1', name: 'One', quantity: 2, unitPrice: 250 }],
    total: 500,
    ...changes,
  }
}

interface Sent {
  key: string | null
  value: string | Buffer | null
}

const asSent = (placed: OrderPlaced): Sent => ({ key: placed.orderId, value: JSON.stringify(placed) })

/** A validator over a catalogue of one product and two customers; all records go to partition 0. */
async function setUp(t: TestContext) {
  const env = await testEnvironment(t)
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 2, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  await database.query(`INSERT INTO customers VALUES ('c-1', 'One', 'one@example.com', 'gold', 'DE', false),
                                                    ('c-2', 'Two', 'two@example.com', 'gold', 'DE', true)`)
  const producer = createKafka(config, 'test', log).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  t.after(() => producer.disconnect())
  const { products, ordersRaw } = config.topics
  const product = {
    type: 'ProductCreated' as const,
    eventId: 'sku-1/ProductCreated',
    occurredAt: '2026-11-21T09:00:00.000Z',
    sku: 'sku-1',
    name: 'One',
    unitPrice: 250,
    currency: 'EUR',
  }
  await producer.send({ topic: products.name, messages: [{ key: 'sku-1', value: products.encode(product) }] })
  const place = (...records: Sent[]) =>
    producer.send({ topic: ordersRaw.name, messages: records.map((record) => ({ ...record, partition: 0 })) })
  return { config, env, database, producer, place }
}

/** Where each record of partition 0 of orders.raw ended, by its offset. */
async function ends(config: Config) {
  const { ordersValidated, ordersRejected, deadLetters } = config.topics
  const names = [ordersValidated.name, ordersRejected.name, deadLetters.validator.name]
  const found = new Map<string, { topic: string; value: Buffer | null; headers: Record<string, string> }>()
  for (const [topic, records] of await readAll(config, names)) {
    for (const { value, headers } of records) {
      const texts = Object.fromEntries(Object.keys(headers).map((name) => [name, headerText(headers, name)!]))
      assert.ok(!found.has(texts.source!), `${texts.source} ended twice`)
      found.set(texts.source!, { topic, value, headers: texts })
    }
  }
  return (offset: number) => {
    const end = found.get(`${config.topics.ordersRaw.name}/0/${offset}`)
    assert.ok(end, `record ${offset} has no end`)
    return {
      ...end,
      event:
        end.value && end.topic !== deadLetters.validator.name ? JSON.parse(end.value.toString()) : undefined,
    }
  }
}

async function untilEnded(config: Config, records: number): Promise<void> {
  const { ordersValidated, ordersRejected, deadLetters } = config.topics
  await until(
    `${records} records came to an end`,
    async () => {
      const topics = [ordersValidated.name, ordersRejected.name, deadLetters.validator.name]
      const found = await readAll(config, topics)
      return [...found.values()].reduce((sum, { length }) => sum + length, 0) >= records
    },
    60_000,
    READ_ALL_POLL_MS,
  )
}

describe('the validator', () => {
  it('sends every kind of bad record where it belongs, with its reason, and goes on', async (t) => {
    const { config, env, place } = await setUp(t)
    const good = order()
    const large = order({
      items: Array.from({ length: 9_000 }, () => ({
        sku: 'sku-1',
        name: 'x'.repeat(180),
        quantity: 1,
        unitPrice: 1,
      })),
    })
    const dead: [record: Sent, reason: RegExp][] = [
      [{ key: 'k', value: 'this is no JSON' }, /^not JSON/],
      [{ key: 'k', value: '{"hello":"world"}' }, /^wrong shape/],
      [{ key: 'k', value: '[]' }, /^wrong shape/],
      [{ key: null, value: JSON.stringify(order()) }, /^no key/],
      [{ key: 'another', value: JSON.stringify(order()) }, /^key 'another' is not 'ord-/],
      [asSent(order({ type: 'OrderShipped' as 'OrderPlaced' })), /^wrong shape \(type 'OrderShipped'\)/],
      [asSent(large), /^too large: \d{7} bytes/],
      [asSent(order({ placedAt: '2026-02-30T10:00:00.000Z' })), /placedAt/],
      [asSent(order({ placedAt: 'yesterday' })), /placedAt/],
      [asSent(order({ total: 12.5 })), /total must be integer/],
      [asSent(order({ items: [] })), /items/],
      [asSent(order({ total: 1e300 })), /total/],
      [{ key: 'k', value: null }, /^no value/],
      [{ key: 'k', value: Buffer.from('{"name":"Jos\u00e9"}', 'latin1') }, /^not UTF-8/],
    ]
    const refused: [record: Sent, codes: string[]][] = [
      [
        asSent(order({ items: [{ sku: 'sku-1', name: 'One', quantity: -2, unitPrice: 250 }], total: -500 })),
        ['quantity-not-positive', 'total-not-positive'],
      ],
      [
        asSent(
          order({ items: [{ sku: 'sku-1', name: 'One', quantity: 1e9, unitPrice: 1e15 }], total: 1e15 }),
        ),
        ['total-mismatch', 'total-over-limit'],
      ],
      [
        asSent(order({ items: [{ sku: 'sku-9', name: 'Nine', quantity: 1, unitPrice: 5 }], total: 5 })),
        ['unknown-product'],
      ],
      [asSent(order({ customerId: 'c-9' })), ['unknown-customer']],
      [asSent(order({ customerId: 'c-2' })), ['blocked-customer']],
      [asSent({ ...good, eventId: 'again' }), ['duplicate']],
      [asSent({ ...good, items: [{ ...good.items[0]!, quantity: 1 }], total: 250 }), ['conflict']],
    ]
    // Each bad one with a good one behind it.
    const records = [asSent(good), ...[...dead, ...refused].flatMap(([record]) => [record, asSent(order())])]
    for (const record of records) await place(record)
    runScript(t, 'validator', env)
    await untilEnded(config, records.length)

    const endOf = await ends(config)
    const { ordersValidated, ordersRejected, deadLetters } = config.topics
    for (let offset = 0; offset < records.length; offset += 2) {
      assert.equal(endOf(offset).topic, ordersValidated.name, `good record ${offset}`)
    }
    for (const [index, [record, reason]] of dead.entries()) {
      const end = endOf(1 + 2 * index)
      assert.equal(end.topic, deadLetters.validator.name)
      assert.match(end.headers.reason!, reason)
      assert.equal(end.headers.attempts, '1')
      assert.deepEqual(
        [end.headers.topic, end.headers.partition, end.headers.offset],
        [config.topics.ordersRaw.name, '0', String(1 + 2 * index)],
      )
      assert.deepEqual(
        end.value,
        record.value === null ? null : Buffer.from(record.value),
        'the bytes as they came',
      )
    }
    for (const [index, [, codes]] of refused.entries()) {
      const end = endOf(1 + 2 * (dead.length + index))
      assert.equal(end.topic, ordersRejected.name)
      assert.deepEqual(
        (end.event as OrderRejected).reasons.map(({ code }) => code),
        codes,
      )
    }
  })

  it('adds the customer and what it found, and keeps the order as it was', async (t) => {
    const { config, env, place } = await setUp(t)
    const placed = order()
    await place(asSent(placed))
    runScript(t, 'validator', env)
    await untilEnded(config, 1)
    const { event } = (await ends(config))(0) as { event: OrderValidated }
    assert.deepEqual(event.items, placed.items)
    assert.deepEqual(event.customer, {
      id: 'c-1',
      name: 'One',
      email: 'one@example.com',
      tier: 'gold',
      country: 'DE',
    })
    assert.deepEqual([event.status, event.validationStatus, event.total], ['PENDING', 'VALID', 500])
    assert.equal(event.eventId, `${placed.orderId}/OrderValidated`)
    assert.equal(event.placedAt, placed.placedAt)
  })

  it('knows a duplicate across a restart, by reading back', async (t) => {
    const { config, env, place } = await setUp(t)
    const placed = order()
    await place(asSent(placed))
    const first = runScript(t, 'validator', env)
    await untilEnded(config, 1)
    first.child.kill('SIGKILL')
    await place(asSent(placed), asSent(order()))
    runScript(t, 'validator', env)
    await untilEnded(config, 3)
    const endOf = await ends(config)
    assert.deepEqual(
      (endOf(1).event as OrderRejected).reasons.map(({ code }) => code),
      ['duplicate'],
    )
    assert.equal(endOf(2).topic, config.topics.ordersValidated.name)
  })

  it('takes an order for a product that came a moment before, and refuses one for a product withdrawn', async (t) => {
    const { config, env, place, producer } = await setUp(t)
    const { products } = config.topics
    await place(asSent(order()))
    runScript(t, 'validator', env)
    await untilEnded(config, 1)
    const item = { sku: 'sku-2', name: 'Two', quantity: 1, unitPrice: 5 }
    const product = {
      type: 'ProductCreated' as const,
      eventId: 'sku-2/ProductCreated',
      occurredAt: '2026-11-21T09:00:00.000Z',
      sku: 'sku-2',
      name: 'Two',
      unitPrice: 5,
      currency: 'EUR',
    }
    await producer.send({
      topic: products.name,
      messages: [{ key: 'sku-2', value: products.encode(product) }],
    })
    await place(asSent(order({ items: [item], total: 5 })))
    await untilEnded(config, 2)
    await producer.send({ topic: products.name, messages: [{ key: 'sku-2', value: null }] })
    // A product that was known may be taken until the news has come; a fresh one shows that it has.
    await until('the withdrawal is known', async () => {
      const { length } = (await readAll(config, [config.topics.ordersRejected.name])).get(
        config.topics.ordersRejected.name,
      )!
      if (length > 0) return true
      const ended = (await readAll(config, [config.topics.ordersValidated.name])).get(
        config.topics.ordersValidated.name,
      )!
      await place(asSent(order({ items: [item], total: 5 })))
      await untilEnded(config, ended.length + 1)
      return false
    })
    const [rejected] = (await readAll(config, [config.topics.ordersRejected.name])).get(
      config.topics.ordersRejected.name,
    )!
    const { reasons } = JSON.parse(rejected!.value!.toString()) as OrderRejected
    assert.deepEqual(
      reasons.map(({ code }) => code),
      ['withdrawn-product'],
    )
  })
})
