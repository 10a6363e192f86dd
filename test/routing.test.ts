// The Command Center by itself, on the real broker: what it forwards, what it refuses, and that it changes nothing.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Message, Producer } from 'kafkajs'
import { freePort } from '../infra/ports.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { type Envelope, parseEnvelope, seal } from '../lib/crypto.ts'
import { type Database, openDatabase } from '../lib/database.ts'
import type { OrderValidated } from '../lib/events.ts'
import { createLogger } from '../lib/log.ts'
import { HOP_HEADER, headerText } from '../lib/record.ts'
import type { TopicRecord } from '../lib/topicReader.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readAll,
  runScript,
  testEnvironment,
  until,
} from './harness.ts'
import { type RoutedPipeline, startRouted } from './routedPipeline.ts'

const TAMPERED = 5_000
const KINDS = 8

interface Bench {
  pipeline: RoutedPipeline
  config: Config
  database: Database
  producer: Producer
  sealFor(workerName: string, requestId: string, text?: string): string
  send(messages: Message[]): Promise<void>
  read(topic: { name: string }): Promise<(TopicRecord & { partition: number })[]>
}

async function setUp(t: TestContext): Promise<Bench> {
  const pipeline = await startRouted(t, { PARTITIONS: '1' }, ['commandCenter', 'pricingService'])
  const { config } = pipeline
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 1, log)
  t.after(() => database.end())
  const producer = createKafka(config, 'test', log).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  t.after(() => producer.disconnect())
  return {
    pipeline,
    config,
    database,
    producer,
    sealFor: (workerName, requestId, text = `the secret of ${requestId}`) =>
      seal(config.keys(), { requestId, workerName, sender: 'test', eventId: `${requestId}/Test` }, text),
    send: async (messages) => {
      await producer.send({ topic: config.topics.inbox.name, messages, acks: -1 })
    },
    read: async ({ name }) => (await readAll(config, [name])).get(name)!,
  }
}

/** Two at once write to one partition, in turns, each transaction aborted now and then. @returns what was committed */
async function sendInterleaved({ config, sealFor }: Bench, rounds: number): Promise<string[]> {
  const topic = config.topics.inbox.name
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const producers = ['a', 'b'].map((name) =>
    kafka.producer({
      transactionalId: `${config.topicPrefix}${name}`,
      idempotent: true,
      maxInFlightRequests: 1,
    }),
  )
  await Promise.all(producers.map((producer) => producer.connect()))
  const committed: string[] = []
  for (let round = 0; round < rounds; round++) {
    const transactions = await Promise.all(producers.map((producer) => producer.transaction()))
    const isAborted = [round % 3 === 0, round % 2 === 0]
    for (let part = 0; part < 3; part++) {
      for (const [writer, transaction] of transactions.entries()) {
        const key = `ord-${writer}-${round}-${part}`
        const messages = [
          { key, value: sealFor('requester', key), headers: { source: `elsewhere/0/${round}` } },
        ]
        await transaction.send({ topic, messages, acks: -1 })
        if (!isAborted[writer]) committed.push(key)
      }
    }
    for (const [writer, transaction] of transactions.entries()) {
      await (isAborted[writer] ? transaction.abort() : transaction.commit())
    }
  }
  await Promise.all(producers.map((producer) => producer.disconnect()))
  return committed
}

test('messages of interleaved transactions are forwarded untouched, in order, and no aborted one', async (t) => {
  const bench = await setUp(t)
  const { config, sealFor, send, read, pipeline, database } = bench
  const committed = await sendInterleaved(bench, 12)
  const answers = () => read(config.topics.answers)
  const isThere = async (count: number) => (await answers()).length >= count
  await until('they are forwarded', () => isThere(committed.length), 60_000, READ_ALL_POLL_MS)
  const inbox = await read(config.topics.inbox)
  const forwarded = await answers()
  assert.deepEqual(
    forwarded.map(({ key }) => key!.toString()),
    committed,
  )
  for (const [index, { value, headers }] of forwarded.entries()) {
    const { offset, value: sent, headers: sentHeaders } = inbox[index]!
    assert.ok(value!.equals(sent!), 'its bytes are as they came')
    assert.equal(headerText(headers, HOP_HEADER), `${config.topics.inbox.name}/0/${offset}`)
    assert.equal(headerText(headers, 'source'), headerText(sentHeaders, 'source'))
  }

  await refuses(bench)

  // A new route is taken within a second, and what was refused for want of it can be redriven.
  const sentAtMs = Date.now()
  await pipeline.run('routes', ['add', '--worker', 'nobody', '--to', config.topics.fraudRequests.name])
  const addedAtMs = Date.now()
  await until('the route is taken', async () => {
    await send([{ key: 'late', value: sealFor('nobody', 'late') }])
    return (await read(config.topics.fraudRequests)).length > 0
  })
  assert.ok(Date.now() - addedAtMs < 10_000, `${addedAtMs - sentAtMs} ms to add it`)
  await pipeline.run('dlq', ['redrive', '--group', 'command-center', '--order', 'no-route', '--yes'])
  const isRedriven = async () =>
    (await read(config.topics.fraudRequests)).some(({ key }) => key?.toString() === 'no-route')
  await until('what had no route is delivered', isRedriven, 60_000, READ_ALL_POLL_MS)
  const redriven = (await read(config.topics.fraudRequests)).filter(
    ({ key }) => key?.toString() === 'no-route',
  )
  assert.equal(redriven.length, 1)
  assert.deepEqual(Object.keys(redriven[0]!.headers), [HOP_HEADER])
  const { rows } = await database.query(
    'SELECT worker_name, version FROM command_center.routes WHERE NOT enabled',
  )
  assert.deepEqual(rows, [])

  await refusesTampered(bench)
})

test('it waits for Kafka, and for the topics, and does not end', async (t) => {
  const environment = await testEnvironment(t, { ROUTING: 'command-center' })
  const away = runScript(t, 'commandCenter', {
    ...environment,
    KAFKA_BROKERS: `127.0.0.1:${await freePort()}`,
  })
  const early = runScript(t, 'commandCenter', environment)
  const says = ({ lines }: RunningScript, what: RegExp) => lines.some((line) => what.test(line))
  await until('it says that Kafka is away', () => says(away, /Kafka: .* - waiting/))
  await until('it says that topics are missing', () => says(early, /topics/))
  await ensureTopics(parseConfig(environment), () => undefined)
  await until('it goes on when they are there', () => says(early, /has tasks/))
  assert.equal(away.child.exitCode, null)
})

/** Each message that cannot be forwarded is a dead letter, as it came, with the reason; and so is what is no message. */
async function refuses({ pipeline, config, database, producer, sealFor, send, read }: Bench): Promise<void> {
  const { inbox, answers, deadLetters } = config.topics
  await database.query(
    `INSERT INTO command_center.routes (source_topic, worker_name, target_topic) VALUES ($1, 'astray', 'nowhere')`,
    [inbox.name],
  )
  await until('the route that leads nowhere is known', () =>
    pipeline.services.get('commandCenter')!.lines.some((line) => /14 routes/.test(line)),
  )
  const good = sealFor('requester', 'good')
  const refused: [key: string | null, value: string | null, reason: RegExp][] = [
    ['no-route', sealFor('nobody', 'no-route'), /^no route for worker 'nobody'$/],
    ['astray', sealFor('astray', 'astray'), /leads to nowhere, which does not exist/],
    ['another', good, /its key is not its request_id/],
    [null, good, /its key is not its request_id/],
    ['plain', '{"orderId":"plain"}', /not sealed|malformed/],
    ['rubbish', 'rubbish', /not sealed/],
    ['nothing', null, /no value/],
    ['large', sealFor('requester', 'large', 'x'.repeat(2 * 1024 * 1024)), /which does not take \d+ bytes/],
  ]
  const before = (await read(answers)).length
  for (const [key, value] of refused) {
    await producer.send({ topic: inbox.name, messages: [{ key, value }], acks: -1 })
  }
  await send([{ key: 'good', value: good }])
  await until(
    'the good one is through',
    async () => (await read(answers)).length > before,
    60_000,
    READ_ALL_POLL_MS,
  )
  const letters = await read(deadLetters['command-center'])
  assert.deepEqual(
    letters.map(({ key, value }) => [key?.toString() ?? null, value?.toString() ?? null]),
    refused.map(([key, value]) => [key, value]),
  )
  for (const [index, [, , reason]] of refused.entries()) {
    assert.match(headerText(letters[index]!.headers, 'reason')!, reason)
  }
}

/** What was changed on the way is opened by nobody: it ends as a dead letter of the Command Center, or of whom it is for. */
async function refusesTampered({ config, sealFor, send, read }: Bench): Promise<void> {
  const { deadLetters, answers } = config.topics
  const before = (await read(deadLetters['command-center'])).length
  const answered = (await read(answers)).length
  const another = parseEnvelope(Buffer.from(sealFor('pricing', 'another')))
  const messages = Array.from({ length: TAMPERED }, (_, n) => {
    const requestId = `tampered-${n}`
    const text = JSON.stringify({ orderId: requestId } satisfies Partial<OrderValidated>)
    return { key: requestId, value: tamper(n, sealFor('pricing', requestId, text), another) }
  })
  await send(messages)
  const counts = async () => {
    const [router, pricing] = [await read(deadLetters['command-center']), await read(deadLetters.pricing)]
    return [router.length - before, pricing.length] as const
  }
  await until(
    'each is a dead letter',
    async () => (await counts()).reduce((sum, count) => sum + count, 0) >= TAMPERED,
    60_000,
    READ_ALL_POLL_MS,
  )
  const [byRouter, byPricing] = await counts()
  assert.equal(byRouter + byPricing, TAMPERED)
  // A tag that is cut, a worker without a route and another key are seen on the envelope; the rest only inside.
  assert.equal(byRouter, messages.filter((_, n) => [3, 4].includes(n % KINDS) || n % 16 === 15).length)
  const letters = await read(deadLetters.pricing)
  const sent = new Map(messages.map(({ key, value }) => [key, value]))
  for (const { key, value, headers } of letters) {
    assert.equal(value!.toString(), sent.get(key!.toString()), 'sealed as it came')
    assert.match(headerText(headers, 'reason')!, /sealed/)
  }
  assert.equal((await read(answers)).length, answered, 'none is answered')
}

function tamper(n: number, sealed: string, another: Envelope): string {
  const envelope = JSON.parse(sealed) as Envelope
  const changed: Partial<Envelope>[] = [
    { data: flipped(envelope.data, n) },
    { tag: flipped(envelope.tag, n) },
    { iv: flipped(envelope.iv, n) },
    { tag: envelope.tag.slice(0, 16) },
    { worker_name: 'nobody-else' },
    { event_id: 'another/Event' },
    { key_id: 'unknown' },
    // The labels of one, and what is in the other; and a message under a key that is not its own.
    n % 16 < 8 ? { iv: another.iv, data: another.data, tag: another.tag } : { request_id: 'another' },
  ]
  return JSON.stringify({ ...envelope, ...changed[n % KINDS] })
}

function flipped(base64: string, n: number): string {
  const bytes = Buffer.from(base64, 'base64')
  bytes[n % bytes.length]! ^= 1
  return bytes.toString('base64')
}
