import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type pg from 'pg'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { type Catalogue, registerAll } from '../lib/registration.ts'
import { createSimulatedCatalogue } from '../lib/simulatedCatalogue.ts'
import { readTopics } from '../lib/topicReader.ts'
import { testConfig } from './harness.ts'

async function setUp(t: TestContext) {
  const config = await testConfig(t)
  const log = createLogger('test', config.log)
  const { signal } = new AbortController()
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  const sender = new OrderSender({
    createKafka: () => createKafka(config, 'test', log),
    brokers: config.kafka.brokers,
    topics: [config.topics.products.name],
    log,
    signal,
  })
  t.after(() => sender.close())
  const register = (catalogue: Catalogue) => registerAll({ config, database, sender, log, signal }, catalogue)
  return { config, database, register }
}

async function rowsOf<Row extends pg.QueryResultRow>(database: Database, text: string): Promise<Row[]> {
  return (await database.query<Row>(text)).rows
}

/** What the compacted topic comes to: the last event of each product, none for one that is withdrawn. */
async function readProducts(config: Config) {
  const { products } = config.topics
  const latest = new Map<string, ReturnType<typeof products.decode>>()
  const log = createLogger('test', config.log)
  await readTopics({
    ...{
      kafka: createKafka(config, 'test', log),
      topics: [products.name],
      from: 'beginning',
      until: 'end',
      log,
    },
    onRecords(_topic, partition, records) {
      assert.equal(partition, 0)
      for (const { key, value } of records) {
        if (value === null) latest.delete(String(key))
        else latest.set(String(key), products.decode(value))
      }
    },
  })
  return latest
}

const catalogue = createSimulatedCatalogue()
const received = catalogue.products.reduce((sum, { stock }) => sum + stock.quantity, 0)
const STOCK = `SELECT count(*) AS products, sum(received) AS received, sum(available) AS available,
                      (SELECT count(*) FROM stock_receipts WHERE cause = 'initial') AS receipts FROM stock`

test('a catalogue is in the tables and on the topic, each product with its stock received once', async (t) => {
  const { config, database, register } = await setUp(t)
  await register(catalogue)
  const [stock] = await rowsOf(database, STOCK)
  assert.deepEqual(Object.values(stock!).map(Number), [200, received, received, 200])
  const customers = await rowsOf<{ id: string; blocked: boolean }>(
    database,
    'SELECT id, blocked FROM customers',
  )
  assert.equal(customers.length, 1_000)
  assert.equal(customers.filter(({ blocked }) => blocked).length, 10)
  const products = await readProducts(config)
  assert.equal(products.size, 200)
  for (const { sku, name, unitPriceMinor, currency } of catalogue.products) {
    const { occurredAt, ...event } = products.get(sku)!
    assert.match(occurredAt, /Z$/)
    assert.deepEqual(event, {
      ...{ type: 'ProductCreated', eventId: `${sku}/ProductCreated` },
      ...{ sku, name, unitPrice: unitPriceMinor, currency },
    })
  }
})

test('registering again, and by several producers at once, receives no stock twice', async (t) => {
  const { config, database, register } = await setUp(t)
  const backwards = { products: catalogue.products.toReversed(), customers: catalogue.customers.toReversed() }
  await Promise.all([register(catalogue), register(backwards), register(catalogue), register(backwards)])
  await register(catalogue)
  const [stock] = await rowsOf(database, STOCK)
  assert.deepEqual(Object.values(stock!).map(Number), [200, received, received, 200])
  assert.equal((await readProducts(config)).size, 200)
})

test('what has changed since is left as it is: stock, prices, a blocked customer, a withdrawn product', async (t) => {
  const { config, database, register } = await setUp(t)
  await register(catalogue)
  const [first, second, third] = catalogue.products.map(({ sku }) => sku)
  const buyer = catalogue.customers[0]!.id
  await database.query(`UPDATE stock SET available = available - 7, reserved = 7 WHERE sku = '${first}'`)
  await database.query(`UPDATE products SET unit_price_minor = 1234 WHERE sku = '${second}'`)
  await database.query(`UPDATE products SET withdrawn = true WHERE sku = '${third}'`)
  await database.query(`UPDATE customers SET blocked = true WHERE id = '${buyer}'`)
  await register(catalogue)

  const [stock] = await rowsOf(database, `SELECT reserved FROM stock WHERE sku = '${first}'`)
  assert.equal(stock!.reserved, 7)
  const [customer] = await rowsOf(database, `SELECT blocked FROM customers WHERE id = '${buyer}'`)
  assert.equal(customer!.blocked, true)
  const after = await readProducts(config)
  assert.equal(after.get(second!)!.unitPrice, 1_234)
  assert.equal(after.has(third!), false)
  assert.equal(after.size, 199)
})

test('a catalogue of thousands is registered whole', async (t) => {
  const { config, database, register } = await setUp(t)
  const products = Array.from({ length: 4_321 }, (_, index) => {
    const stock = { quantity: 1_000_000_000, lowLevel: 0 }
    return { sku: `p ${index}`, name: 'ö'.repeat(100), unitPriceMinor: index, currency: 'GBP', stock }
  })
  await register({ products, customers: [] })
  assert.equal((await rowsOf(database, 'SELECT sku FROM stock')).length, 4_321)
  assert.equal((await readProducts(config)).size, 4_321)
})
