import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { ProductPublisher } from '../lib/productPublisher.ts'
import {
  createProduct,
  findProduct,
  listProducts,
  listStock,
  type NewProduct,
  type ProductContext,
  ProductExistsError,
  ProductWithdrawnError,
  receiveStock,
  UnknownProductError,
  updateProduct,
  withdrawProduct,
} from '../lib/products.ts'
import { registerAll } from '../lib/registration.ts'
import { readAll, testConfig, until } from './harness.ts'

interface Writer extends ProductContext {
  sender: OrderSender
  /** Ends its waiting for Kafka, as the end of its process would. */
  end(): void
}

/** What a process has that changes products: connections, a sender and a publisher of its own. */
async function openWriter(
  t: TestContext,
  config: Config,
  settings: { brokers?: string[]; beforeSend?: () => Promise<void>; afterSend?: () => Promise<void> } = {},
): Promise<Writer> {
  const { brokers = config.kafka.brokers, beforeSend, afterSend } = settings
  const log = createLogger('test', config.log)
  const ending = new AbortController()
  const { signal } = ending
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  const { products: topic } = config.topics
  const sender = new OrderSender({
    createKafka: () => createKafka({ ...config, kafka: { ...config.kafka, brokers } }, 'test', log),
    ...{ brokers, log, signal },
    topics: [topic.name],
  })
  t.after(() => sender.close())
  t.after(() => ending.abort())
  const held: Pick<OrderSender, 'send'> = {
    async send(name, records) {
      await beforeSend?.()
      const acknowledged = await sender.send(name, records)
      await afterSend?.()
      return acknowledged
    },
  }
  const publisher = new ProductPublisher({ ...{ database, topic, log, signal }, sender: held })
  return { database, sender, publisher, end: () => ending.abort() }
}

const product = (sku: string, changes: Partial<NewProduct> = {}): NewProduct => ({
  ...{ sku, name: `Name of ${sku}`, unitPriceMinor: 250, currency: 'EUR' },
  stock: { quantity: 100, lowLevel: 10, restockQuantity: 50 },
  ...changes,
})

/** The last record of each product on the topic, as name and price; null for a tombstone. */
async function readTopic(config: Config): Promise<Map<string, string | null>> {
  const { products } = config.topics
  const latest = new Map<string, string | null>()
  for (const { key, value } of (await readAll(config, [products.name])).get(products.name)!) {
    const event = value && products.decode(value)
    latest.set(String(key), event && `${event.name} ${event.unitPrice}`)
  }
  return latest
}

/** The same from the table. */
async function readTable(database: Database): Promise<Map<string, string | null>> {
  const { products } = await listProducts(database, { limit: 1_000 })
  return new Map(
    products.map(({ sku, name, unitPriceMinor, withdrawn }) => [
      sku,
      withdrawn ? null : `${name} ${unitPriceMinor}`,
    ]),
  )
}

async function countUnpublished(database: Database): Promise<number> {
  const { rows } = await database.query('SELECT sku FROM products WHERE published_version < version')
  return rows.length
}

test('a product is made, changed and withdrawn in the table and on the topic, and listed by pages', async (t) => {
  const config = await testConfig(t)
  const writer = await openWriter(t, config)
  const { database, publisher } = writer
  // A change does not wait for Kafka for long; here each is to be said before the next.
  assert.equal((await createProduct(writer, product('a'))).version, 1)
  await publisher.publish()
  await createProduct(writer, product('b'))
  await publisher.publish()
  await createProduct(writer, product('c', { stock: { quantity: 0, lowLevel: 0 } }))
  await publisher.publish()
  const changed = await updateProduct(writer, 'b', { unitPriceMinor: 300, lowLevel: 7, restockQuantity: 0 })
  assert.deepEqual(
    [changed.name, changed.unitPriceMinor, changed.version, changed.withdrawn],
    ['Name of b', 300, 2, false],
  )
  await publisher.publish()
  assert.equal((await updateProduct(writer, 'b', { unitPriceMinor: 300 })).version, 2, 'it was so before')
  assert.equal((await withdrawProduct(writer, 'c')).withdrawn, true)
  assert.equal((await withdrawProduct(writer, 'c')).version, 2, 'it was so before')
  await publisher.publish()

  const expected = new Map([
    ['a', 'Name of a 250'],
    ['b', 'Name of b 300'],
    ['c', null],
  ])
  assert.deepEqual(await readTopic(config), expected)
  assert.deepEqual(await readTable(database), expected)
  const records = (await readAll(config, [config.topics.products.name])).get(config.topics.products.name)!
  const events = records.map(({ value }) => value && JSON.parse(value.toString()))
  assert.deepEqual(
    events.map((event) => event?.eventId ?? null),
    ['a/ProductCreated', 'b/ProductCreated', 'c/ProductCreated', 'b/ProductUpdated/2', null],
  )

  await assert.rejects(createProduct(writer, product('a')), ProductExistsError)
  await assert.rejects(createProduct(writer, product('c')), ProductWithdrawnError)
  await assert.rejects(updateProduct(writer, 'c', { name: 'C' }), ProductWithdrawnError)
  await assert.rejects(updateProduct(writer, 'x', { name: 'X' }), UnknownProductError)
  await assert.rejects(withdrawProduct(writer, 'x'), UnknownProductError)
  assert.equal((await findProduct(database, 'b'))!.stock.lowLevel, 7)
  assert.equal(await findProduct(database, 'x'), undefined)

  const first = await listProducts(database, { limit: 2 })
  assert.deepEqual([first.products.map(({ sku }) => sku), first.next], [['a', 'b'], 'b'])
  const rest = await listStock(database, { after: first.next, limit: 2 })
  assert.deepEqual(
    [rest.stock.map(({ sku, received }) => [sku, received]), rest.next],
    [[['c', 0]], undefined],
  )
})

test('goods are received once for each cause, by however many at once', async (t) => {
  const config = await testConfig(t)
  const writer = await openWriter(t, config)
  const { database } = writer
  await createProduct(writer, product('a'))
  const delivery = { cause: 'delivery-1', sku: 'a', quantity: 5 }
  const receipts = await Promise.all(Array.from({ length: 8 }, () => receiveStock(database, delivery)))
  assert.equal(receipts.filter(({ isRepeated }) => !isRepeated).length, 1)
  const { isRepeated, quantity } = await receiveStock(database, { ...delivery, quantity: 6 })
  assert.deepEqual([isRepeated, quantity], [true, 5])
  await receiveStock(database, { ...delivery, cause: 'delivery-2' })
  assert.deepEqual((await findProduct(database, 'a'))!.stock, {
    ...{ sku: 'a', received: 110, available: 110, reserved: 0, committed: 0 },
    ...{ lowLevel: 10, restockQuantity: 50 },
  })
  await assert.rejects(receiveStock(database, { ...delivery, sku: 'x' }), UnknownProductError)
  await withdrawProduct(writer, 'a')
  assert.equal((await receiveStock(database, delivery)).isRepeated, true)
  await assert.rejects(receiveStock(database, { ...delivery, cause: 'delivery-3' }), ProductWithdrawnError)
})

test('what a process changed and died before it could say, the next one says', async (t) => {
  const config = await testConfig(t)
  const writer = await openWriter(t, config)
  await createProduct(writer, product('a'))
  await createProduct(writer, product('b'))
  await writer.publisher.publish()
  // Nobody listens there: it waits with its change committed, until its end.
  const cutOff = await openWriter(t, config, { brokers: ['127.0.0.1:1'] })
  await Promise.all([
    createProduct(cutOff, product('c')),
    updateProduct(cutOff, 'a', { name: 'A' }),
    withdrawProduct(cutOff, 'b'),
  ])
  cutOff.end()
  assert.equal(await countUnpublished(cutOff.database), 3)
  assert.deepEqual([...(await readTopic(config)).values()], ['Name of a 250', 'Name of b 250'])

  // Of something else altogether.
  await until('the lock is free again', async () => {
    await createProduct(writer, product('d')).catch((error) => assert.ok(error instanceof ProductExistsError))
    return (await countUnpublished(writer.database)) === 0
  })
  assert.deepEqual(await readTopic(config), await readTable(writer.database))
  assert.equal((await readTopic(config)).get('b'), null)
})

test('registration says its products again on a topic that has lost them, and what others left unsaid', async (t) => {
  const config = await testConfig(t)
  const writer = await openWriter(t, config)
  const { database, sender } = writer
  await database.query(`INSERT INTO products VALUES ('a', 'A', 1, 'EUR', false, 1, 1), ('b', 'B', 1, 'EUR', false, 4, 3),
                                                    ('c', 'C', 1, 'EUR', false, 1, 1)`)
  const log = createLogger('test', config.log)
  const options = { config, database, sender, log, signal: new AbortController().signal }
  await registerAll(options, { products: [product('a')], customers: [] })
  assert.deepEqual([...(await readTopic(config)).keys()].sort(), ['a', 'b'])

  // One that is there keeps its stock, also where it began with none.
  await createProduct(writer, product('d', { stock: { quantity: 0, lowLevel: 0 } }))
  await registerAll(options, { products: [product('d'), product('e')], customers: [] })
  const received = async (sku: string) => (await findProduct(database, sku))!.stock.received
  assert.deepEqual([await received('d'), await received('e')], [0, 100])
})

test('writers at once leave topic and table alike', async (t) => {
  const config = await testConfig(t)
  // The way to Kafka and back takes its time, now more, now less: whoever read first is not always first.
  const dawdle = () => sleep(Math.random() * 30)
  const slow = { beforeSend: dawdle, afterSend: dawdle }
  const writers = await Promise.all([1, 2, 3].map(() => openWriter(t, config, slow)))
  const products = Array.from({ length: 60 }, (_, number) => product(`p-${number}`))
  const { database, sender } = writers[0]!
  const log = createLogger('test', config.log)
  const options = { config, database, sender, log, signal: new AbortController().signal }
  await registerAll(options, { products, customers: [] })
  await Promise.all(
    writers.flatMap((writer, number) =>
      products.map(async ({ sku }, index) => {
        await sleep(index * 20 + Math.random() * 100)
        await updateProduct(writer, sku, { name: `by ${number}` })
      }),
    ),
  )
  await until('all is said', async () => (await countUnpublished(database)) === 0)
  const [onTopic, inTable] = [await readTopic(config), await readTable(database)]
  for (const [sku, state] of inTable) assert.equal(onTopic.get(sku), state, sku)
  assert.equal(onTopic.size, 60)
})

test('a writer that is held up while it sends has no last word, whether it keeps its lock or loses it', async (t) => {
  const config = await testConfig(t)
  const gate = { isHeld: false, hasCome: false, letGo() {} }
  const slow = await openWriter(t, config, {
    async beforeSend() {
      if (!gate.isHeld) return
      gate.isHeld = false
      gate.hasCome = true
      await new Promise<void>((resolve) => {
        gate.letGo = resolve
      })
    },
  })
  const quick = await openWriter(t, config)
  const { products } = config.topics
  const namesOnTopic = async () =>
    (await readAll(config, [products.name]))
      .get(products.name)!
      .map(({ value }) => products.decode(value!).name)
  const holdUp = (name: string) => {
    Object.assign(gate, { isHeld: true, hasCome: false })
    return updateProduct(slow, 'a', { name })
  }
  await createProduct(slow, product('a'))
  await slow.publisher.publish()

  const first = holdUp('old')
  await until('it has read and is about to send', () => gate.hasCome)
  await updateProduct(quick, 'a', { name: 'new' })
  gate.letGo()
  await first
  await until('both are said', async () => (await countUnpublished(quick.database)) === 0)
  assert.deepEqual(await namesOnTopic(), ['Name of a', 'old', 'new'])

  const second = holdUp('older')
  await until('it has read and is about to send', () => gate.hasCome)
  // As after a restart of the database: the lock is lost, and the process knows nothing of it.
  await quick.database.query(
    `SELECT pg_terminate_backend(pid) FROM pg_locks
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  )
  await updateProduct(quick, 'a', { name: 'newer' })
  await quick.publisher.publish()
  assert.equal((await namesOnTopic()).at(-1), 'newer')
  gate.letGo()
  await second
  await until('it has said the product again', async () => (await namesOnTopic()).length === 6)
  assert.deepEqual((await namesOnTopic()).slice(3), ['newer', 'older', 'newer'])
})
