import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { stopScript } from '../lib/childProcesses.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import type { OrderPlaced, OrderRejected, ProductEvent } from '../lib/events.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { ProductPublisher } from '../lib/productPublisher.ts'
import {
  createProduct,
  findProduct,
  type NewProduct,
  updateProduct,
  withdrawProduct,
} from '../lib/products.ts'
import { deleteGroups } from '../lib/readerGroups.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readAll,
  runScript,
  testEnvironment,
  until,
} from './harness.ts'

const AT = '2026-11-21T10:00:00.000Z'

const product = (sku: string, stock: NewProduct['stock']): NewProduct => ({
  ...{ sku, name: sku, unitPriceMinor: 10, currency: 'EUR' },
  stock,
})

function order(orderId: string, sku: string, quantity: number): OrderPlaced {
  return {
    ...{ type: 'OrderPlaced', eventId: `${orderId}/OrderPlaced`, occurredAt: AT, orderId, customerId: 'c-1' },
    ...{ placedAt: AT, currency: 'EUR', total: 10 * quantity },
    items: [{ sku, name: sku, quantity, unitPrice: 10 }],
  }
}

interface Answer {
  status: number
  body: { count: number; products: ProductEvent[]; next?: string; error?: string; unitPrice?: number }
}

/** Asks a service on its health port, which it says when it has one. */
async function ask({ lines }: RunningScript, path: string, method = 'GET'): Promise<Answer> {
  const address = () => lines.map((line) => /health at (\S+)\/health/.exec(line)?.[1]).find(Boolean)
  await until('it says where it can be asked', () => address() !== undefined)
  const response = await fetch(address() + path, { method })
  return { status: response.status, body: (await response.json()) as Answer['body'] }
}

test('each instance has the whole catalogue and follows it; what is withdrawn is refused and not restocked', async (t) => {
  const environment = await testEnvironment(t, { PARTITIONS: '1' })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const log = createLogger('test', config.log)
  const { signal } = new AbortController()
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  await database.query(`INSERT INTO customers VALUES ('c-1', 'One', 'one@example.com', 'gold', 'DE', false)`)
  const { products, ordersRaw, ordersValidated, ordersRejected, inventoryEvents } = config.topics
  const sender = new OrderSender({
    createKafka: () => createKafka(config, 'test', log),
    ...{ brokers: config.kafka.brokers, log, signal },
    topics: [products.name, ordersRaw.name, ordersValidated.name],
  })
  t.after(() => sender.close())
  const context = {
    database,
    publisher: new ProductPublisher({ database, sender, topic: products, log, signal }),
  }
  const place = (placed: OrderPlaced) =>
    sender.send(ordersRaw.name, [{ key: placed.orderId, value: Buffer.from(JSON.stringify(placed)) }])
  const read = async (topic: string) => (await readAll(config, [topic])).get(topic)!
  const untilSaid = async (topic: string, count: number) => {
    const hasAll = async () => (await read(topic)).length >= count
    await until(`${count} records on ${topic}`, hasAll, 60_000, READ_ALL_POLL_MS)
    return read(topic)
  }

  await createProduct(context, product('plenty', { quantity: 100, lowLevel: 50, restockQuantity: 30 }))
  await createProduct(context, product('gone', { quantity: 100, lowLevel: 90, restockQuantity: 30 }))
  const inventories = [1, 2].map(() => runScript(t, 'inventoryService', environment))
  const instances = [runScript(t, 'validator', environment), ...inventories]
  const untilEach = (what: string, path: string, isSo: (answer: Answer) => boolean) =>
    Promise.all(instances.map((each) => until(what, async () => isSo(await ask(each, path)))))

  for (const instance of instances) {
    const { body } = await ask(instance, '/products')
    assert.equal(body.count, 2, 'complete as soon as it can be asked')
    assert.deepEqual(
      body.products.map(({ sku }) => sku),
      ['gone', 'plenty'],
    )
  }
  await updateProduct(context, 'plenty', { name: 'Plenty & more' })
  await createProduct(context, product('späť/1', { quantity: 0, lowLevel: 0 }))
  await withdrawProduct(context, 'gone')
  await untilEach('the withdrawal is known', '/products/gone', ({ status }) => status === 404)
  await untilEach('the new product is known', '/products', ({ body }) => body.count === 2)
  const [validator] = instances
  const first = await ask(validator!, '/products?limit=1')
  assert.deepEqual(first.body.products[0]!.name, 'Plenty & more')
  const second = await ask(validator!, first.body.next!)
  assert.deepEqual([second.body.products[0]!.sku, second.body.next], ['späť/1', undefined])
  assert.equal((await ask(validator!, `/products/${encodeURIComponent('späť/1')}`)).body.unitPrice, 10)
  assert.match((await ask(validator!, '/products/gone')).body.error!, /withdrawn/)
  assert.match((await ask(validator!, '/products/nothing')).body.error!, /unknown/)
  const refusals = ['/products?limit=0', '/products?limit=1001', '/products/%E0', '/constructor']
  assert.deepEqual(
    await Promise.all(refusals.map(async (path) => (await ask(validator!, path)).status)),
    [400, 400, 400, 404],
  )
  assert.equal((await ask(validator!, '/products', 'DELETE')).status, 405)

  await place(order('o-withdrawn', 'gone', 1))
  await place(order('o-low', 'plenty', 60))
  const [refused] = await untilSaid(ordersRejected.name, 1)
  const { reasons } = JSON.parse(refused!.value!.toString()) as OrderRejected
  assert.deepEqual(
    reasons.map(({ code }) => code),
    ['withdrawn-product'],
  )
  await untilSaid(inventoryEvents.name, 1)
  // Validated a moment before the product was withdrawn.
  const [validated] = await read(ordersValidated.name)
  const sameForGone = ordersValidated.decode(validated!.value!)
  const late = { ...sameForGone, orderId: 'o-late', items: order('o-late', 'gone', 20).items }
  await sender.send(ordersValidated.name, [
    { key: late.orderId, value: Buffer.from(ordersValidated.encode(late)) },
    // The same order from another position.
    { key: 'o-low', value: validated!.value },
  ])
  await place(order('o-after', 'plenty', 1))
  await untilSaid(inventoryEvents.name, 3)

  const books = async () => {
    const [plenty, gone] = await Promise.all(['plenty', 'gone'].map((sku) => findProduct(database, sku)))
    const receipts = await database.query(
      `SELECT cause, sku, quantity FROM stock_receipts WHERE cause <> 'initial'`,
    )
    return { plenty: plenty!.stock, gone: gone!.stock, receipts: receipts.rows }
  }
  const expected = await books()
  assert.deepEqual(expected.receipts, [{ cause: 'restock:o-low', sku: 'plenty', quantity: 30 }])
  assert.deepEqual(
    [expected.plenty.received, expected.plenty.available, expected.plenty.reserved],
    [130, 69, 61],
  )
  assert.deepEqual([expected.gone.received, expected.gone.available, expected.gone.reserved], [100, 80, 20])

  // All of it is given to them once more, from the beginning.
  await Promise.all(inventories.map(({ child }) => stopScript(child)))
  await deleteGroups(createKafka(config, 'test', log), [`${config.topicPrefix}inventory`], log)
  runScript(t, 'inventoryService', environment)
  await untilSaid(inventoryEvents.name, 6)
  assert.deepEqual(await books(), expected)
})
