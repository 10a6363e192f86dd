import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs'
import { Registry } from 'prom-client'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { OrderIntake } from '../lib/apiIntake.ts'
import { wasPlaced } from '../lib/apiPlacedOrders.ts'
import { ApiSender, kafkaLimits } from '../lib/apiSender.ts'
import { startApi } from '../lib/apiServer.ts'
import { ended } from '../lib/childProcesses.ts'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import { IdempotencyStore } from '../lib/idempotency.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { ProductPublisher } from '../lib/productPublisher.ts'
import { type RunningScript, readAll, runScript, testEnvironment, until } from './harness.ts'

const TOKENS = ['a-token-of-the-shop', 'another-token-of-it']
const ORDER = { customerId: 'c-1', currency: 'EUR', items: [{ sku: 'sku-1', quantity: 2, unitPrice: 250 }] }

const ADDRESS = { name: 'N', street: 'S', city: 'C', postcode: 'P', country: 'DE' }

interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: what is in an answer is what these tests are about
  body: any
}

/** A client of one API; writes carry the first token unless told otherwise. */
function clientOf(url: string) {
  return async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${TOKENS[0]}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    const isJson = /json/.test(response.headers.get('content-type') ?? '')
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
  }
}

async function setUp(t: TestContext) {
  const env = await testEnvironment(t, { API_PORT: '0', API_TOKENS: TOKENS.join() })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  await database.query(`INSERT INTO customers VALUES ('c-1', 'One', 'one@example.com', 'gold', 'DE', false)`)
  return { env, config, database }
}

async function urlOf(api: RunningScript): Promise<string> {
  const find = () => api.lines.map((line) => /listening on (\S+),/.exec(line)?.[1]).find(Boolean)
  await until('the API listens', () => find() !== undefined)
  const url = find()!
  await until('it is ready', async () => (await fetch(`${url}/health/ready`)).status === 200)
  return url
}

const rawOrders = async (config: Config) => {
  const { name } = config.topics.ordersRaw
  return (await readAll(config, [name])).get(name)!
}

test('the life of an order over HTTP', { timeout: 120_000 }, async (t) => {
  const { env, config, database } = await setUp(t)
  const api = runScript(t, 'api', env)
  const services = [runScript(t, 'validator', env), runScript(t, 'orderView', env)]
  const url = await urlOf(api)
  const request = clientOf(url)
  const product = { sku: 'sku-1', name: 'One', unitPrice: 250, currency: 'EUR', stock: { quantity: 10 } }
  assert.equal((await request('POST', '/products', product)).status, 201)

  await t.test('an accepted order is in Kafka, and its status follows what becomes of it', async () => {
    const placed = await request('POST', '/orders', ORDER)
    assert.equal(placed.status, 202)
    const { orderId, total, status, acceptedAt } = placed.body
    assert.equal(placed.headers.get('location'), `/orders/${orderId}`)
    assert.deepEqual([total, status], [500, 'ACCEPTED'])
    // At once, whoever is asked: at the latest the row that was written before the order was sent says so.
    const early = await request('GET', `/orders/${orderId}`)
    assert.ok(['ACCEPTED', 'PENDING'].includes(early.body.status))
    const [record] = await rawOrders(config)
    assert.equal(record!.key!.toString(), orderId)
    const event = config.topics.ordersRaw.decode(record!.value!)
    assert.deepEqual(
      [event.placedAt, event.total, event.items[0]!.name, event.eventId],
      [acceptedAt, 500, 'sku-1', `${orderId}/OrderPlaced`],
    )

    const get = () => request('GET', `/orders/${orderId}`)
    await until('it is validated', async () => (await get()).body.status === 'PENDING')
    const { producer, say } = await speaker(t, config, record!.partition)
    await say(config.topics.inventoryEvents.name, {
      ...{ type: 'InventoryUpdated', eventId: `${orderId}/InventoryUpdated/reserve`, occurredAt: acceptedAt },
      ...{ orderId, status: 'RESERVED', availability: 'available', shortages: [] },
    })
    await say(config.topics.ordersCompleted.name, {
      ...{
        type: 'OrderCancelled',
        eventId: `${orderId}/OrderCancelled`,
        occurredAt: new Date().toISOString(),
      },
      ...{ orderId, customerId: 'c-1', placedAt: acceptedAt, currency: 'EUR', total: 500 },
      ...{
        items: [{ sku: 'sku-1', quantity: 2 }],
        reasons: [{ code: 'timeout', message: 'no payment verdict' }],
      },
    })
    await producer.disconnect()
    await until('it is cancelled, with all events', async () => {
      const { body } = await get()
      return body.status === 'CANCELLED' && body.events.length === 3
    })
    const { body } = await get()
    assert.deepEqual(body.reasons, [{ code: 'timeout', message: 'no payment verdict' }])
    assert.equal(body.acceptedAt, acceptedAt)
    const validated = body.events.find(({ type }: { type: string }) => type === 'OrderValidated')
    assert.deepEqual(
      [validated.topic, validated.partition, validated.eventId],
      [config.topics.ordersValidated.name, record!.partition, `${orderId}/OrderValidated`],
    )
    const { orders } = (await request('GET', '/orders?customerId=c-1&status=CANCELLED')).body
    assert.deepEqual(
      orders.map((order: { orderId: string }) => order.orderId),
      [orderId],
    )
    assert.equal((await request('GET', '/orders?status=CONFIRMED')).body.orders.length, 0)
    assert.equal((await request('GET', '/orders/ord-nobody-knows')).status, 404)
  })

  await t.test(
    'a key stands for one order: same body, same answer; other body, 422; other caller, another order',
    async () => {
      const before = (await rawOrders(config)).length
      const post = (body: unknown, key: string, token = TOKENS[0]) =>
        request('POST', '/orders', body, { 'idempotency-key': key, authorization: `Bearer ${token}` })
      const first = await post(ORDER, 'key-1')
      assert.equal(first.status, 202)
      const { items, ...rest } = ORDER
      const again = await post({ items, ...rest }, 'key-1')
      assert.deepEqual(
        [again.status, again.body],
        [202, first.body],
        'also where the fields stand in another order',
      )
      const other = await post({ ...ORDER, customerId: 'c-2' }, 'key-1')
      assert.deepEqual([other.status, other.body.type], [422, 'urn:order-pipeline:problem:key-used'])
      const stranger = await post(ORDER, 'key-1', TOKENS[1])
      assert.equal(stranger.status, 202)
      assert.notEqual(stranger.body.orderId, first.body.orderId)

      // Many at once, on the same key: one order; whoever does not get it is told to ask again.
      const many = await Promise.all(Array.from({ length: 40 }, () => post(ORDER, 'key-2')))
      const orderIds = new Set(many.filter(({ status }) => status === 202).map(({ body }) => body.orderId))
      assert.equal(orderIds.size, 1)
      for (const { status, headers } of many) {
        assert.ok(status === 202 || (status === 409 && headers.has('retry-after')), `${status}`)
      }
      assert.equal((await rawOrders(config)).length, before + 3)

      // Past its time a key is free again.
      await database.query(`UPDATE api_batches SET begun_at = now() - interval '25 hours'`)
      const store = new IdempotencyStore(database)
      assert.equal(await store.removeOld(), false)
      const { rows } = await database.query('SELECT FROM api_orders')
      assert.equal(rows.length, 0)
      assert.notEqual((await post(ORDER, 'key-1')).body.orderId, first.body.orderId)
    },
  )

  await t.test(
    'a row without an end, left by a killed process: found out, and sent only if it is not there',
    async () => {
      const post = (key: string) => request('POST', '/orders', ORDER, { 'idempotency-key': key })
      const there = (await post('key-there')).body
      const missing = (await post('key-missing')).body
      // As if: the one was sent and not settled; the other was written down and never sent.
      const lost = `ord-${Date.now().toString(36)}-lost`
      await database.query(`UPDATE api_orders SET order_id = $1 WHERE order_id = $2`, [lost, missing.orderId])
      await database.query(`UPDATE api_batches SET state = 0, begun_at = now() WHERE id IN
                          (SELECT batch_id FROM api_orders WHERE idempotency_key IN ('key-there', 'key-missing'))`)
      assert.equal((await post('key-there')).status, 409, 'it may be under way')
      await database.query(`UPDATE api_batches SET begun_at = now() - interval '1 minute' WHERE state = 0`)
      const before = (await rawOrders(config)).length
      const [one, other] = await Promise.all([post('key-there'), post('key-missing')])
      assert.deepEqual([one.status, one.body.orderId], [202, there.orderId], JSON.stringify(one.body))
      assert.deepEqual([other.status, other.body.orderId], [202, lost], JSON.stringify(other.body))
      const keys = (await rawOrders(config)).slice().map(({ key }) => key!.toString())
      assert.equal(keys.length, before + 1)
      assert.equal(keys.filter((key) => key === lost).length, 1)
      assert.deepEqual((await post('key-missing')).body, other.body)
    },
  )

  await t.test('products and stock are made, changed, received and withdrawn', async () => {
    const found = (await request('GET', '/products/sku-1')).body
    assert.deepEqual([found.unitPrice, found.version, found.stock.available], [250, 1, 10])
    assert.equal((await request('POST', '/products', product)).status, 409)
    assert.equal((await request('PATCH', '/products/sku-1', { unitPrice: 300 })).body.unitPrice, 300)
    const receive = (quantity: number) =>
      request('POST', '/products/sku-1/stock', { cause: 'note-7', quantity })
    assert.deepEqual(
      [(await receive(5)).status, (await receive(5)).status, (await receive(6)).status],
      [201, 200, 422],
    )
    const { stock } = (await request('GET', '/stock')).body
    assert.deepEqual([stock[0].received, stock[0].available], [15, 15])
    assert.equal((await request('POST', '/products', { ...product, sku: 'sku-2' })).status, 201)
    const page = (await request('GET', '/products?limit=1')).body
    const next = (await request('GET', `/products?limit=1&cursor=${page.next}`)).body
    assert.deepEqual([page.products[0].sku, next.products[0].sku, next.next], ['sku-1', 'sku-2', undefined])
    assert.equal((await request('DELETE', '/products/sku-2')).body.withdrawn, true)
    assert.equal((await request('PATCH', '/products/sku-2', { name: 'x' })).status, 409)
    // Not made here, where a new sku takes no spaces.
    await database.query(`INSERT INTO products VALUES ('BANK CHARGES', 'B', 1, 'EUR', false, 1, 1);
                          INSERT INTO stock (sku, low_level) VALUES ('BANK CHARGES', 0)`)
    const spaced = await request('PATCH', '/products/BANK%20CHARGES', { unitPrice: 7 })
    assert.deepEqual([spaced.status, spaced.body.unitPrice], [200, 7])
    assert.equal((await request('DELETE', '/products/sku-9')).status, 404)
    const { name } = config.topics.products
    const said = (await readAll(config, [name])).get(name)!
    assert.deepEqual(
      said.filter(({ value }) => value === null).map(({ key }) => key!.toString()),
      ['sku-2'],
    )
  })

  await t.test('what is wrong is a problem document that names each field', async () => {
    const item = { sku: '', quantity: 0, unitPrice: 1.5, colour: 'red' }
    const wrong = await request('POST', '/orders', { customerId: 'no good', items: [item], 'a/b': 1 })
    assert.equal(wrong.status, 400)
    assert.match(wrong.headers.get('content-type')!, /^application\/problem\+json/)
    assert.deepEqual(wrong.body.errors.map(({ pointer }: { pointer: string }) => pointer).sort(), [
      ...['#/a~1b', '#/currency', '#/customerId'],
      ...['#/items/0/colour', '#/items/0/quantity', '#/items/0/sku', '#/items/0/unitPrice'],
    ])
    const cases: [expected: number, path: string, body?: unknown, headers?: Record<string, string>][] = [
      [400, '/orders', '{"customerId":'],
      [400, '/orders', { ...ORDER, items: [{ sku: 's', quantity: 1e9, unitPrice: 1e15 }] }],
      [400, '/orders', ORDER, { 'idempotency-key': 'with a space' }],
      [400, '/orders?limit=0'],
      [400, '/orders?limit=ten'],
      [400, '/orders?status=LOST'],
      [400, '/orders?status=ACCEPTED'],
      [400, '/orders', { ...ORDER, items: [{ ...ORDER.items[0], sku: 'a\0' }] }],
      [400, '/orders', { ...ORDER, items: [{ ...ORDER.items[0], name: 'a\0' }] }],
      [400, '/orders', { ...ORDER, shippingAddress: { ...ADDRESS, city: 'a\0' } }],
      [400, '/orders', { ...ORDER, shippingAddress: { ...ADDRESS, planet: 'a' } }],
      [400, '/orders/%zz'],
      [400, '/products/a%00b'],
      [400, `/orders?cursor=${Buffer.from('["a",1]').toString('base64url')}`],
      [400, '/orders?cursor=x'],
      [400, '/products/sku-1/stock', { cause: 'initial', quantity: 1 }],
      [404, '/nothing'],
      [413, '/orders', { ...ORDER, shippingAddress: 'x'.repeat(1_100_000) }],
      [415, '/orders', 'text', { 'content-type': 'text/plain' }],
    ]
    for (const [expected, path, body, headers] of cases) {
      const answer = await request(body === undefined ? 'GET' : 'POST', path, body, headers)
      assert.equal(answer.status, expected, `${path} ${JSON.stringify(answer.body)}`)
      assert.deepEqual([answer.body.status, typeof answer.body.title], [expected, 'string'])
      assert.match(answer.headers.get('content-type')!, /^application\/problem\+json/)
    }
    assert.equal((await request('GET', '/nothing')).body.detail, 'see /docs for what there is')
    await database.query('ALTER TABLE stock RENAME TO hidden')
    assert.equal((await request('GET', '/stock')).body.detail, 'PostgreSQL does not answer')
    await database.query('ALTER TABLE hidden RENAME TO stock')
    await until('whoever runs it is told why', () =>
      api.lines.some((line) => line.includes('relation "stock" does not exist')),
    )
  })

  await t.test('whoever writes shows a token, whoever reads need not', async () => {
    for (const authorization of ['', 'Bearer a-token-of-the-shoq', 'Basic YTpi', `Bearer ${TOKENS[0]}x`]) {
      const refused = await request('POST', '/orders', ORDER, { authorization })
      assert.equal(refused.status, 401)
      assert.match(refused.headers.get('www-authenticate')!, /^Bearer/)
    }
    assert.equal((await request('GET', '/orders', undefined, { authorization: '' })).status, 200)
    assert.equal((await request('DELETE', '/products/sku-1', undefined, { authorization: '' })).status, 401)
  })

  await t.test('the documents say what there is, and the page loads nothing from elsewhere', async () => {
    const { body: document } = await request('GET', '/docs/json')
    assert.equal(document.openapi, '3.1.0')
    for (const path of [
      '/orders',
      '/orders/{id}',
      '/products',
      '/products/{sku}',
      '/products/{sku}/stock',
      '/stock',
    ]) {
      assert.ok(document.paths[path], path)
    }
    const { post } = document.paths['/orders']
    const content = post.requestBody.content['application/json'].schema
    assert.equal(content.properties.items.items.properties.quantity.minimum, 1)
    for (const status of ['415', '429', '503']) {
      assert.ok(post.responses[status].content['application/problem+json'], status)
    }
    const page = await request('GET', '/docs/')
    assert.equal(page.status, 200)
    assert.doesNotMatch(page.body, /(?:src|href)="(?:https?:)?\/\//)
    assert.match(page.headers.get('content-security-policy')!, /default-src 'self'/)
    assert.equal((await request('GET', '/asyncapi.json')).body.asyncapi, '3.0.0')
  })

  await t.test('asked to end it answers what is under way, and has said no secret', async () => {
    const before = (await rawOrders(config)).length
    const answers = Promise.allSettled(Array.from({ length: 200 }, () => request('POST', '/orders', ORDER)))
    await until('some are accepted', async () => (await rawOrders(config)).length > before)
    api.child.kill('SIGTERM')
    const askedMs = Date.now()
    assert.equal(await ended(api.child), 0)
    assert.ok(Date.now() - askedMs < 15_000, `it took ${Date.now() - askedMs} ms`)
    const accepted = (await answers).filter(({ status, ...rest }) => {
      return status === 'fulfilled' && (rest as unknown as { value: Answer }).value.status === 202
    })
    const found = (await rawOrders(config)).length - before
    assert.equal(found, accepted.length, 'each that came to Kafka was answered so')
    for (const token of [...TOKENS, new URL(config.databaseUrl).password]) {
      assert.ok(!api.lines.some((line) => line.includes(token)) || token === 'orders')
    }
  })

  await t.test(
    'what it changed and was killed before it could say, it says when it starts again',
    async () => {
      await database.query(`UPDATE products SET withdrawn = true, version = version + 1 WHERE sku = 'sku-1'`)
      runScript(t, 'api', env)
      const { name } = config.topics.products
      await until('the tombstone is on the topic', async () => {
        const said = (await readAll(config, [name])).get(name)!
        return said.some(({ key, value }) => value === null && String(key) === 'sku-1')
      })
    },
  )
  assert.ok(services.every(({ child }) => child.exitCode === null))
})

/** Says what services would, in the partition of the order. */
async function speaker(t: TestContext, config: Config, partition: number) {
  const producer = createKafka(config, 'test', createLogger('test', config.log)).producer()
  await producer.connect()
  t.after(() => producer.disconnect())
  const say = (topic: string, event: { orderId: string }) =>
    producer.send({ topic, messages: [{ key: event.orderId, value: JSON.stringify(event), partition }] })
  return { producer, say }
}

/** An API in this process, whose way to Kafka can be shut, or held so that answers do not come back. */
async function startHere(
  t: TestContext,
  config: Config,
  database: Database,
  limits: { maxWaitingRequests?: number; maxRequestsPerSecond?: number; maxBodiesBytes?: number } = {},
) {
  const log = createLogger('test', config.log)
  const ending = new AbortController()
  const door = createDoor(config)
  const sender = new ApiSender({
    ...{ createKafka: () => door.createClient(kafkaLimits(2_000)), timeoutMs: 2_000, log },
    topic: config.topics.ordersRaw.name,
    signal: ending.signal,
  })
  sender.open()
  const store = new IdempotencyStore(database)
  const { topics, topicPrefix } = config
  const trace = { kafka: createKafka(config, 'test', log), database, topics, topicPrefix, withinMs: 3_000 }
  const intake = new OrderIntake({
    ...{ store, sender, log, timeoutMs: 3_000, maxWaitingBytes: 1e6 },
    maxWaitingRequests: limits.maxWaitingRequests ?? 1_000,
    wasPlaced: (orderId) => wasPlaced({ ...trace, signal: ending.signal }, orderId),
  })
  const products = new OrderSender({
    ...{
      createKafka: door.createClient,
      brokers: config.kafka.brokers,
      topics: [],
      log,
      signal: ending.signal,
    },
  })
  const publisher = new ProductPublisher({
    ...{ database, sender: products, topic: topics.products, log, signal: ending.signal },
  })
  const api = await startApi({
    ...{ host: '127.0.0.1', port: 0, tokens: TOKENS, maxBodyBytes: 10_000, version: '1', asyncApi: {}, log },
    metrics: new Registry(),
    ...{ database, store, intake, sender, products: { database, publisher } },
    maxRequestsPerSecond: limits.maxRequestsPerSecond ?? 0,
    maxBodiesBytes: limits.maxBodiesBytes ?? 1e6,
  })
  t.after(async () => {
    ending.abort()
    door.shut()
    await api.close()
    intake.close()
    await sender.close()
    await products.close()
  })
  await until('it is ready', async () => (await fetch(`${api.url}/health/ready`)).status === 200)
  return { request: clientOf(api.url), url: api.url, door, intake }
}

test('with Kafka away or hanging it answers 503 in time and keeps nothing', {
  timeout: 120_000,
}, async (t) => {
  const { env, config, database } = await setUp(t)
  const { request, door, intake } = await startHere(t, config, database, { maxWaitingRequests: 50 })
  const post: (key?: string) => Promise<Answer> = (key) =>
    request('POST', '/orders', ORDER, key === undefined ? {} : { 'idempotency-key': key })
  assert.equal((await post()).status, 202)

  const dropped = door.createClient(kafkaLimits(2_000)).producer({ idempotent: true, maxInFlightRequests: 1 })
  await dropped.connect()
  t.after(() => dropped.disconnect())
  // A topic that this test does not look at.
  const topic = config.topics.deadLetters.mail.name
  await dropped.send({ topic, messages: [{ value: 'x' }] })

  // What is sent arrives, and its answer does not.
  door.hold()
  const triedMs = Date.now()
  const trying = assert.rejects(dropped.send({ topic, messages: [{ value: 'x' }] })).then(() => {
    const tookMs = Date.now() - triedMs
    assert.ok(tookMs < 4_000, `a producer tries on for ${tookMs} ms after it was dropped`)
  })
  const startedMs = Date.now()
  const refused = await Promise.all([post('key-1'), ...Array.from({ length: 200 }, () => post())])
  for (const { status, headers } of refused) {
    assert.equal(status, 503)
    assert.ok(Number(headers.get('retry-after')) >= 1)
  }
  await trying
  assert.ok(Date.now() - startedMs < 15_000, `after ${Date.now() - startedMs} ms`)
  assert.equal(intake.waiting, 0)
  assert.ok(
    refused.some(({ body }) => /too many/.test(body.detail)),
    'not more than it may keep',
  )

  await until('the first is in Kafka', async () => (await rawOrders(config)).length > 1)

  // Known to be away, it says so at once, and that it is not ready.
  door.shut()
  await until('it has noticed', async () => (await request('GET', '/health/ready')).status === 503)
  const away = await post('key-1')
  assert.deepEqual([away.status, away.body.detail], [503, 'Kafka does not answer'])
  assert.equal((await request('GET', '/health/live')).status, 200)

  // Back again: nobody knows what became of the order. Those who can tell do not run; then they do.
  door.open()
  await until('it is ready again', async () => (await request('GET', '/health/ready')).status === 200)
  const arrived = (await rawOrders(config)).map(({ key }) => key!.toString())
  const doubtful = await post('key-1')
  assert.equal(doubtful.status, 503, JSON.stringify(doubtful.body))
  runScript(t, 'validator', env)
  runScript(t, 'orderView', env)
  let answer = doubtful
  const isFound = async () => {
    answer = await post('key-1')
    return answer.status === 202
  }
  await until('it is found', isFound, 40_000, 500)
  assert.ok(arrived.includes(answer.body.orderId))
  assert.equal((await rawOrders(config)).length, arrived.length, 'it was not sent again')
})

test('nobody asks more often than is allowed, nor sends more', async (t) => {
  const { config, database } = await setUp(t)
  const { request } = await startHere(t, config, database, { maxRequestsPerSecond: 20 })
  const large = await request('POST', '/orders', { ...ORDER, shippingAddress: 'x'.repeat(11_000) })
  assert.equal(large.status, 413)
  const answers = await Promise.all(Array.from({ length: 50 }, () => request('GET', '/stock')))
  const refused = answers.filter(({ status }) => status === 429)
  assert.ok(refused.length >= 20)
  assert.ok(refused[0]!.headers.has('retry-after'))
  assert.equal(refused[0]!.body.title, 'Too Many Requests')
  assert.equal((await request('GET', '/health/live')).status, 200)

  const isLimited = async (ask: () => Promise<Answer>) => {
    const answers = await Promise.all(Array.from({ length: 50 }, ask))
    return answers.some(({ status }) => status === 429)
  }
  assert.ok(await isLimited(() => request('GET', '/nothing')), 'nor of what is not there')
  const guess = { authorization: 'Bearer guessed-by-somebody' }
  assert.ok(await isLimited(() => request('POST', '/orders', ORDER, guess)), 'nor guesses tokens')
})

test('bodies take no more memory than they may, and what Kafka has is accepted while PostgreSQL hangs', async (t) => {
  const { config, database } = await setUp(t)
  const { request, url } = await startHere(t, config, database, { maxBodiesBytes: 25_000 })
  const { hostname, port } = new URL(url)
  const slow = [1, 2].map(() => connect(Number(port), hostname))
  t.after(() => slow.map((socket) => socket.destroy()))
  const head = `POST /orders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKENS[0]}\r\ncontent-type: application/json\r\n`
  for (const socket of slow) socket.write(`${head}content-length: 10000\r\n\r\n{`)
  const large = {
    ...ORDER,
    shippingAddress: { ...ADDRESS, ...{ name: 'x'.repeat(500), street: 'x'.repeat(500) } },
  }
  const items = Array.from({ length: 120 }, () => ORDER.items[0])
  const post = () => request('POST', '/orders', { ...large, items })
  await until('there is no room', async () => (await post()).status === 503)
  assert.match((await post()).body.detail, /too many requests are being read/)
  assert.equal((await request('POST', '/orders', ORDER)).status, 202, 'a small one has room')
  for (const socket of slow) socket.destroy()
  await until('there is room again', async () => (await post()).status === 202)

  // Longer than a request is let wait.
  await database.query(`CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
                        'BEGIN PERFORM pg_sleep(4); RETURN NEW; END';
                        CREATE TRIGGER hang BEFORE UPDATE ON api_batches FOR EACH ROW EXECUTE FUNCTION hang()`)
  const accepted = await request('POST', '/orders', ORDER)
  assert.equal(accepted.status, 202)
  const found = await request('GET', `/orders/${accepted.body.orderId}`)
  assert.deepEqual([found.status, found.body.status], [200, 'ACCEPTED'])
})

test('two that come with the same keys in another order do not deadlock', async (t) => {
  const { database } = await setUp(t)
  const store = new IdempotencyStore(database)
  for (let round = 0; round < 10; round++) {
    const claims = Array.from({ length: 500 }, (_, index) => ({
      ...{ acceptedAtMs: 1, caller: '', fingerprint: '', key: `${round} ${index}` },
    }))
    const ours = claims.map((claim) => ({ ...claim, orderId: `ord-a ${claim.key}` }))
    const theirs = claims.map((claim) => ({ ...claim, orderId: `ord-b ${claim.key}` })).reverse()
    const both = await Promise.all([store.claim(ours), store.claim(theirs)])
    const found = both.flatMap(({ findings }) => findings.filter(({ kind }) => kind === 'new'))
    assert.equal(found.length, 500)
  }
})

/** A way to the broker that can be shut, and held: then requests go there and answers do not come back. */
function createDoor(config: Config) {
  const sockets = new Set<Socket>()
  let isShut = false
  let isHeld = false
  const createClient = (limits: Partial<KafkaConfig> = {}) =>
    new Kafka({
      clientId: 'test',
      brokers: config.kafka.brokers,
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 10, maxRetryTime: 50, retries: 3 },
      ...limits,
      socketFactory: ({ host, port, onConnect }) => {
        // Nobody listens on port 1.
        const socket = connect(isShut ? 1 : port, isShut ? '127.0.0.1' : host, onConnect)
        if (isHeld) socket.pause()
        sockets.add(socket)
        socket.on('close', () => sockets.delete(socket))
        return socket
      },
    })
  return {
    createClient,
    hold() {
      isHeld = true
      for (const socket of sockets) socket.pause()
    },
    shut() {
      isShut = true
      for (const socket of sockets) socket.destroy(new Error('shut by the test'))
    },
    open() {
      isShut = false
      isHeld = false
    },
  }
}
