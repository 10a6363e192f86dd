import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Registry } from 'prom-client'
import { type Config, createKafka, parseConfig } from '../kafkaConfig.ts'
import { runScript as runToEnd } from '../lib/childProcesses.ts'
import { toTransactionRecord, toTransactionRecords } from '../lib/deciding.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { headerText, type RawRecord, TRACEPARENT_HEADER } from '../lib/record.ts'
import { traceIdOf, withTraceparent } from '../lib/tracing.ts'
import { createTracing } from '../lib/tracingSpans.ts'
import { READ_ALL_POLL_MS, type RunningScript, readAll, runScript, until } from './harness.ts'
import { startReceiver, type TraceReceiver } from './traceReceiver.ts'
import { edgesOf, hex, PERSON, prepare, runTelling, TOKEN } from './tracingHarness.ts'

const ADDRESS = { name: PERSON.name, street: 'Heidestr. 17', city: 'Köln', postcode: '51147', country: 'DE' }

async function urlOf({ lines }: RunningScript): Promise<string> {
  const find = () => lines.map((line) => /listening on (\S+),/.exec(line)?.[1]).find(Boolean)
  await until('the API listens', () => find() !== undefined)
  const url = find()!
  await until('it is ready', async () => (await fetch(`${url}/health/ready`)).status === 200)
  return url
}

async function post(url: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

function wholeLife(): string[] {
  const edges = [
    'client -> api: POST /orders',
    'api: POST /orders -> api: create orders.raw',
    'api: create orders.raw -> validator: process orders.raw',
    'validator: process orders.raw -> validator: create orders.validated',
    'validator: create orders.validated -> fulfilment: process orders.validated',
    'payment: process orders.validated -> payment: POST /authorisations',
    'payment: process orders.completed -> payment: POST /captures',
    'payment: POST /authorisations -> payment: POST /authorisations',
    'payment: POST /captures -> payment: POST /captures',
    'fulfilment: create orders.completed -> mail: process orders.completed',
  ]
  for (const judge of JUDGE_NAMES) {
    edges.push(
      `validator: create orders.validated -> ${judge}: process orders.validated`,
      `${judge}: process orders.validated -> ${judge}: create ${judge}.events`,
      `${judge}: create ${judge}.events -> fulfilment: process ${judge}.events`,
    )
  }
  for (const settler of ['inventory', 'payment']) {
    edges.push(
      `fulfilment: create orders.completed -> ${settler}: process orders.completed`,
      `${settler}: process orders.completed -> ${settler}: create ${settler}.events`,
    )
  }
  return edges.sort()
}

const DECISION =
  /^fulfilment: process (?:\w+\.events|orders\.validated) -> fulfilment: create orders\.completed$/

describe('traces', () => {
  it('follow an order from its request to its mail, and a dead letter through its redrive', {
    timeout: 180_000,
  }, async (t) => {
    const receiver = await startReceiver(t)
    const secret = `secret-${hex(8)}`
    const { env, config, log } = await prepare(t, {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${secret}`,
      PAYMENT_TIMEOUT_MS: '30000',
      GATEWAY_DECLINE_RATIO: '0',
    })
    const prefix = config.topicPrefix
    const judges = JUDGE_NAMES.map((name) => `${name}Service`)
    const scripts = ['validator', ...judges, 'fulfilmentService']
    const mail = runTelling(t, 'mailService', env)
    const services = [...scripts.map((name) => runScript(t, name, env)), mail]
    const untraced = runTelling(t, 'orderView', { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: '' })
    const api = runScript(t, 'api', env)
    const url = await urlOf(api)
    const product = { sku: 'sku-1', name: 'One', unitPrice: 250, currency: 'EUR', stock: { quantity: 10 } }
    assert.equal((await post(`${url}/products`, product)).status, 201)

    const given = [hex(16), hex(16)].map((traceId) => ({ traceId, spanId: hex(8) }))
    const orderIds: string[] = []
    for (const { traceId, spanId } of given) {
      const order = {
        ...{ customerId: 'c-1', currency: 'EUR', shippingAddress: ADDRESS },
        items: [{ sku: 'sku-1', quantity: 2, unitPrice: 250 }],
      }
      const answer = await post(`${url}/orders`, order, { traceparent: `00-${traceId}-${spanId}-01` })
      assert.equal(answer.status, 202)
      orderIds.push(((await answer.json()) as { orderId: string }).orderId)
    }

    await t.test('every hop is the child of the one before it', async () => {
      for (const { traceId } of given) {
        const life = wholeLife()
        const edges = () => edgesOf(receiver, traceId, prefix)
        const decisions = () => [...edges()].filter((edge) => DECISION.test(edge))
        await until('all spans of it have come', () => {
          const found = edges()
          return decisions().length > 0 && life.every((edge) => found.has(edge))
        }).catch(() => undefined)
        assert.equal(decisions().length, 1)
        const others = [...edges()].filter((edge) => !DECISION.test(edge))
        assert.deepEqual(others.sort(), life)
        // A first transaction may be aborted by a rebalance while services start; it is made again.
        const ofTrace = receiver.spans.filter((span) => span.traceId === traceId)
        const failed = ofTrace.filter(
          ({ isError, attributes }) => isError && attributes['error.type'] !== 'not-committed',
        )
        assert.deepEqual(failed, [])
      }
    })

    await t.test('who traces nothing has loaded nothing of OpenTelemetry', async () => {
      const isShown = async (orderId: string) => {
        const answer = await fetch(`${url}/orders/${orderId}`)
        return ((await answer.json()) as { status?: string }).status === 'CONFIRMED'
      }
      for (const orderId of orderIds) await until('the order view has it', () => isShown(orderId))
      assert.equal(await untraced.modules(), 0)
      assert.ok((await mail.modules()) > 50)
    })

    await t.test('it begins with the context of the request', () => {
      for (const { traceId, spanId } of given) {
        const [first, ...more] = receiver.spans.filter(({ parentSpanId }) => parentSpanId === spanId)
        assert.deepEqual(more, [])
        assert.equal(first!.traceId, traceId)
        assert.equal(first!.kind, 'server')
        assert.equal(first!.attributes['http.response.status_code'], 202)
      }
    })

    await t.test('no order shares its trace with another', () => {
      for (const [index, { traceId }] of given.entries()) {
        const keys = receiver.spans
          .filter((span) => span.traceId === traceId)
          .flatMap(({ attributes }) => attributes['messaging.kafka.message.key'] ?? [])
        assert.deepEqual([...new Set(keys)], [orderIds[index]])
      }
    })

    await t.test('the header of a record is what links who wrote it with all who read it', async () => {
      const { ordersRaw, ordersValidated, ordersCompleted, inventoryEvents } = config.topics
      const topics = [ordersRaw, ordersValidated, ordersCompleted, inventoryEvents].map(({ name }) => name)
      for (const [topic, records] of await readAll(config, topics)) {
        for (const { headers, offset, partition } of records) {
          const [, traceId, spanId] = headerText(headers, TRACEPARENT_HEADER)!.split('-')
          const created = receiver.spans.find((span) => span.spanId === spanId)
          assert.deepEqual([created?.traceId, created?.name], [traceId, `create ${topic}`])
          const readers = () => receiver.spans.filter((span) => span.parentSpanId === spanId)
          await until(`somebody has read ${topic}/${partition}/${offset}`, () => readers().length > 0)
          for (const { kind, attributes, links } of readers()) {
            assert.equal(kind, 'consumer')
            assert.deepEqual(links, [spanId])
            assert.match(String(attributes['messaging.consumer.group.name']), new RegExp(`^${prefix}\\w+$`))
            const { 'messaging.destination.name': name, 'messaging.kafka.offset': at } = attributes
            const { 'messaging.destination.partition.id': id, 'messaging.operation.type': type } = attributes
            assert.deepEqual([name, id, at, type], [topic, String(partition), offset, 'process'])
          }
        }
      }
    })

    await t.test('each record is linked from the batch that it was sent in', async () => {
      const created = receiver.spans.filter(
        ({ traceId, kind }) => kind === 'producer' && given.some((order) => order.traceId === traceId),
      )
      assert.ok(created.length >= 2 * 9)
      for (const { spanId, name, attributes } of created) {
        const batches = () =>
          receiver.spans.filter(({ links, kind }) => kind === 'client' && links.includes(spanId))
        // A batch ends after what is in it, so its span may come later.
        await until(`the batch of ${name} has come`, () => batches().length > 0)
        for (const batch of batches()) {
          assert.equal(batch.parentSpanId, undefined)
          assert.ok(!given.some(({ traceId }) => traceId === batch.traceId))
          assert.equal(batch.name, `send ${attributes['messaging.destination.name']}`)
          assert.ok(Number(batch.attributes['messaging.batch.message_count']) >= batch.links.length)
        }
      }
    })

    await t.test('a dead letter and its redrive stay in the trace, and are errors in it', async () => {
      const { ordersRaw, deadLetters } = config.topics
      const traceId = hex(16)
      const producer = createKafka(config, 'test', log).producer({ allowAutoTopicCreation: false })
      await producer.connect()
      const headers = { traceparent: `00-${traceId}-${hex(8)}-01` }
      const value = `no JSON of ${PERSON.name}`
      await producer.send({ topic: ordersRaw.name, messages: [{ key: PERSON.email, value, headers }] })
      await producer.disconnect()
      const letters = async () =>
        (await readAll(config, [deadLetters.validator.name])).get(deadLetters.validator.name)!.length
      await until('it is a dead letter', async () => (await letters()) === 1, 60_000, READ_ALL_POLL_MS)
      // By somebody who traces nothing himself.
      const { status } = await runToEnd({
        script: 'tools/dlq.ts',
        args: ['redrive', '--group', 'validator', '--yes'],
        env: { ...process.env, ...env, OTEL_EXPORTER_OTLP_ENDPOINT: '' },
        print: () => undefined,
      })
      assert.equal(status, 0)
      const expected = [
        'client -> validator: process orders.raw',
        'validator: process orders.raw -> validator: create validator.dlq',
        'validator: create validator.dlq -> validator: process validator.retry',
        'validator: process validator.retry -> validator: create validator.dlq',
      ]
      await until('its spans have come', () => edgesOf(receiver, traceId, prefix).size >= expected.length)
      assert.deepEqual([...edgesOf(receiver, traceId, prefix)].sort(), expected.sort())
      const processed = receiver.spans.filter((span) => span.traceId === traceId && span.kind === 'consumer')
      const ends = processed.map(({ isError, attributes }) => `${isError} ${attributes['error.type']}`)
      // As above: what was not committed is made again.
      assert.deepEqual(
        new Set(ends.filter((end) => end !== 'true not-committed')),
        new Set(['true dead-letter']),
      )
    })

    await t.test('nothing in them tells of a person, or a secret', () => {
      const everything = receiver.bodies.join('\n')
      for (const secretText of [PERSON.name, PERSON.email, ADDRESS.street, ADDRESS.city, TOKEN, secret]) {
        assert.ok(!everything.includes(secretText), secretText)
      }
      assert.ok(receiver.headers.every(({ authorization }) => authorization === `Bearer ${secret}`))
      const said = [api, ...services].flatMap(({ lines }) => lines).join('\n')
      assert.ok(!said.includes(secret))
    })
  })

  it('are bounded in memory, count what is lost, and go on when the collector is back', async (t) => {
    const receiver = await startReceiver(t)
    const { said, tracing, dropped } = await traceHere(receiver)
    receiver.status = 400
    for (let index = 0; index < 10_000; index++) tracing.create('topic', null, undefined)
    // What is above the bound; the first batch is on its way by then.
    assert.equal(await dropped(), 10_000 - 8_192 - 512)
    await until('all are lost', async () => (await dropped()) === 10_000)
    receiver.status = 200
    tracing.create('another', null, undefined)
    await receiver.span('after that', ({ name }) => name === 'create another')
    await tracing.close()
    assert.deepEqual(
      said.map(({ level }) => level),
      ['warn', 'info'],
    )
    assert.match(said[0]!.message, /does not take spans, which are dropped: /)
    assert.match(said[1]!.message, /takes spans again, 10000 were dropped so far/)
    assert.ok(receiver.headers.every(({ 'x-token': token }) => token === 'of ours'))
    assert.ok(said.every(({ message }) => !message.includes('of ours')))
  })

  it('are those of the orders that the sampler takes, in every service, with the batches that they are in', async (t) => {
    const receiver = await startReceiver(t)
    const { tracing } = await traceHere(receiver, { sampler: 'parentbased_traceidratio', samplerRatio: 0 })
    const left = tracing.create('topic', 'order-1', undefined)
    assert.match(left, /-00$/)
    // Left out once, left out for good: no span is made, and the context goes on as it is.
    assert.equal(tracing.create('topic', 'order-1', left), left)
    const taken = tracing.create('topic', 'order-2', `00-${hex(16)}-${hex(8)}-01`)
    assert.match(taken, /-01$/)
    const records = [left, taken].map((traceparent) => ({ topic: 'topic', headers: { traceparent } }))
    assert.equal(tracing.send(records.slice(0, 1), {}), undefined)
    tracing.send(records, {})!.end()
    await tracing.close()
    const [, , spanId] = taken.split('-')
    const batch = await receiver.span('of the batch', ({ kind }) => kind === 'client')
    assert.deepEqual([batch.links, batch.attributes['messaging.batch.message_count']], [[spanId], 2])
    assert.deepEqual(receiver.spans.map(({ name }) => name).sort(), ['create topic', 'send topic'])
  })

  it('have a context that is passed on where nothing is traced, if it can be one', () => {
    const traceparent = `00-${hex(16)}-${hex(8)}-01`
    const outgoing = { topic: 'b', key: 'k', value: 'v', note: '' }
    const headersOf = (headers: RawRecord['headers']) => {
      const raw: RawRecord = {
        ...{ topic: 'a', partition: 0, offset: 1, readOffset: 1, timestampMs: 0, readTimestampMs: 0 },
        ...{ source: 'a/0/1', isDone: false, key: null, value: null, headers },
      }
      return toTransactionRecords([[raw, [outgoing]]], 'a.dlq', (record) => record)[0]!.headers
    }
    assert.deepEqual(headersOf({}), { source: 'a/0/1' })
    const sent = { topic: 'a', key: null, headers: {} }
    assert.equal(withTraceparent(sent, undefined), sent)
    assert.deepEqual(headersOf({ traceparent: Buffer.from(traceparent) }), { source: 'a/0/1', traceparent })
    for (const wrong of [
      '',
      'x'.repeat(10_000),
      `00-${'0'.repeat(32)}-${hex(8)}-01`,
      `${traceparent}-more`,
    ]) {
      assert.deepEqual(headersOf({ traceparent: Buffer.from(wrong) }), { source: 'a/0/1' })
    }
    // One that is of a trace of its own, or of none: not that of the record which it comes out with.
    const cause = { source: 'a/0/1', traceparent }
    const own = `00-${hex(16)}-${hex(8)}-01`
    const written = (of: string | null) =>
      toTransactionRecord({ ...outgoing, traceparent: of }, (record) => record, cause).headers.traceparent
    assert.deepEqual([written(own), written(null)], [own, undefined])
    assert.equal(traceIdOf(traceparent), traceparent.split('-')[1])
  })
})

/** Traces in this process, which nobody else sees; and what is said, and lost. */
async function traceHere(receiver: TraceReceiver, settings: Partial<Config['tracing']> = {}) {
  const said: { level: string; message: string }[] = []
  const log = createLogger('test', { level: 'silent', format: 'json', color: false })
  for (const level of ['warn', 'info'] as const)
    log[level] = (message: unknown) => said.push({ level, message: String(message) })
  const metrics = new Registry()
  const config = { ...parseConfig({}).tracing, ...settings, headers: { 'x-token': 'of ours' } }
  const tracing = createTracing('here', { ...config, endpoint: receiver.endpoint }, { log, metrics })
  const dropped = async () => {
    const [metric] = await metrics.getMetricsAsJSON()
    return (metric as unknown as { values: { value: number }[] }).values[0]!.value
  }
  return { said, tracing, dropped }
}
