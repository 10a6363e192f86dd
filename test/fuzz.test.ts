/**
 * Rubbish into every topic that a service reads: random bytes, orders of which something was changed, keys, headers
 * and sizes that nobody expects. The real scripts have to get through it, lose nothing of it and change nothing in it.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Message } from 'kafkajs'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { fetchLag } from '../lib/groupLag.ts'
import { createLogger } from '../lib/log.ts'
import {
  decodeRecord,
  formatPosition,
  headerText,
  parsePosition,
  type RawRecord,
  SOURCE_HEADER,
} from '../lib/record.ts'
import type { TopicRecord } from '../lib/topicReader.ts'
import type { GroupName, Topic, TopicTable } from '../lib/topics.ts'
import { splitIntoSends } from '../lib/transaction.ts'
import { readAll, runScript, testEnvironment, until } from './harness.ts'
import { order, product, rubbish, validated } from './rubbish.ts'

const RAW_RECORDS = 10_000
const VALIDATED_RECORDS = 5_000
/** To each of the four groups. */
const RETRY_RECORDS = 1_000
const PRODUCT_RECORDS = 1_000
const GOOD_ORDERS = 300

const large = (bytes: number, letter: string): Message => ({
  key: `large-${letter}-${bytes}`,
  value: Buffer.from(`"${letter.repeat(bytes)}"`),
})

async function sendAll(config: Config, sends: readonly (readonly [topic: string, messages: Message[]])[]) {
  const { partitions } = config
  const log = createLogger('test', config.log)
  const producer = createKafka(config, 'test', log).producer({ maxInFlightRequests: 1 })
  await producer.connect()
  for (const [topic, messages] of sends) {
    const isSingle = topic === config.topics.products.name
    const byPartition = Array.from({ length: partitions }, () => [] as Message[])
    for (const [index, message] of messages.entries())
      byPartition[isSingle ? 0 : index % partitions]!.push(message)
    for (const [partition, mine] of byPartition.entries()) {
      for (const topicMessages of splitIntoSends(mine.map((message) => ({ topic, ...message }) as never))) {
        const inPartition = topicMessages.flatMap(({ messages: some }) =>
          some.map((message) => ({ ...message, partition })),
        )
        await producer.send({ topic, messages: inPartition })
      }
    }
  }
  await producer.disconnect()
}

type Found = Map<string, (TopicRecord & { partition: number })[]>

/** Whether a group can decode a record, as its own decoder says. */
function isUsable(
  topic: string,
  partition: number,
  record: TopicRecord,
  inputs: Map<string, Topic<never>>,
): boolean {
  const { offset, key, value, headers, timestampMs } = record
  const source = formatPosition(topic, partition, offset)
  const raw: RawRecord = {
    topic,
    partition,
    offset,
    readOffset: offset,
    readTimestampMs: timestampMs,
    isDone: false,
    source,
    timestampMs,
    key,
    value,
    headers,
  }
  try {
    decodeRecord(raw, inputs)
    return true
  } catch {
    return false
  }
}

/** The ends of records by the position that caused them. */
function endsOf(found: Found, topics: readonly string[]): Map<string, string[]> {
  const ends = new Map<string, string[]>()
  for (const topic of topics) {
    for (const { headers } of found.get(topic)!) {
      const source = headerText(headers, SOURCE_HEADER)!
      ends.set(source, [...(ends.get(source) ?? []), topic])
    }
  }
  return ends
}

interface Group {
  name: GroupName
  inputs: Topic<never>[]
  outputs: string[]
}

function groupsOf(topics: TopicTable): Group[] {
  const { ordersRaw, ordersValidated, ordersRejected, inventoryEvents, paymentEvents } = topics
  return [
    { name: 'validator', inputs: [ordersRaw], outputs: [ordersValidated.name, ordersRejected.name] },
    { name: 'inventory', inputs: [ordersValidated], outputs: [inventoryEvents.name] },
    { name: 'payment', inputs: [ordersValidated], outputs: [paymentEvents.name] },
    { name: 'analytics', inputs: [ordersValidated, ordersRejected], outputs: [] },
  ] as Group[]
}

/** What does not add up for one group: each record came to one end, and its dead letters are what was sent. */
function complaintsOf(
  { name, inputs, outputs }: Group,
  found: Found,
  { deadLetters, retries }: TopicTable,
): string[] {
  const complaints: string[] = []
  const dlq = deadLetters[name].name
  const ends = endsOf(found, [...outputs, dlq])
  const letters = new Map(
    found.get(dlq)!.map((letter) => [headerText(letter.headers, SOURCE_HEADER), letter]),
  )
  const codecs = new Map(inputs.map((topic) => [topic.name, topic]))
  const read = [...codecs.keys(), retries[name].name]
  const decided = new Set<string>()
  const silent: { key: string; position: string }[] = []
  for (const topic of read) {
    for (const record of found.get(topic)!) {
      const position = formatPosition(topic, record.partition, record.offset)
      const key = String(record.key)
      const count = ends.get(position)?.length ?? 0
      const letter = letters.get(position)
      const usable = isUsable(topic, record.partition, record, codecs)
      if (usable ? count > 1 : count !== 1 || !letter) {
        complaints.push(`${name}: ${position} (usable: ${usable}) ended as ${ends.get(position)}`)
      }
      if (usable && count === 0) silent.push({ key, position })
      else if (usable) decided.add(key)
      if (letter && !isSame(record, letter)) complaints.push(`${name}: ${position} was changed`)
      if (letter && !headerText(letter.headers, 'reason'))
        complaints.push(`${name}: ${position} has no reason`)
      ends.delete(position)
    }
  }
  // Analytics publishes nothing, and a store nothing for an order that it has decided under another position.
  for (const { key, position } of name === 'analytics' ? [] : silent) {
    if (name === 'validator' || !decided.has(key)) complaints.push(`${name}: ${position} has no end`)
  }
  // What we wrote to its outputs ourselves names other causes, or none.
  const left = [...ends.keys()].filter((source) => read.includes(parsePosition(source)?.topic ?? ''))
  return [...complaints, ...left.map((position) => `${name}: ${position} was never read`)]
}

function isSame(record: TopicRecord, letter: TopicRecord): boolean {
  const same = (a: Buffer | null, b: Buffer | null) => (a && b ? a.equals(b) : a === b)
  return same(record.key, letter.key) && same(record.value, letter.value)
}

test('no rubbish stops a service, each is a dead letter as it came, and good orders among it go through', async (t) => {
  const env = await testEnvironment(t, { GATEWAY_LATENCY_MS: '0', GATEWAY_DECLINE_RATIO: '0' })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const { topics, topicPrefix } = config
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 2, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  await database.query(`INSERT INTO customers VALUES ('c-1', 'One', 'one@example.com', 'gold', 'DE', false)`)
  await database.query(`INSERT INTO products VALUES ('sku-1', 'One', 250, 'EUR')`)
  await database.query(`INSERT INTO stock (sku, received, available) VALUES ('sku-1', 1000000, 1000000)`)

  const good = Array.from({ length: GOOD_ORDERS }, (_, index) => `good-${index}`)
  const goodMessages = good.map((id) => ({ key: id, value: JSON.stringify(order(id)) }))
  const amongThem = (messages: Message[]) => {
    const every = Math.floor(messages.length / good.length)
    return messages.flatMap((message, index) => {
      const one = index % every === 0 ? goodMessages[index / every] : undefined
      return one ? [message, one] : [message]
    })
  }
  const groups = groupsOf(topics)
  const products = rubbish(PRODUCT_RECORDS, 'sku', product).map((message) => ({
    ...message,
    key: message.key ?? 'none',
  }))
  const sends: [string, Message[]][] = [
    [topics.products.name, [...products, { key: 'sku-1', value: 'rubbish' }]],
    [
      topics.ordersRaw.name,
      [...amongThem(rubbish(RAW_RECORDS, 'raw', order)), large(3_900_000, 'r'), large(1_050_000, 'r')],
    ],
    [topics.ordersValidated.name, [...rubbish(VALIDATED_RECORDS, 'val', validated), large(2_000_000, 'v')]],
    ...groups.map(({ name }): [string, Message[]] => [
      topics.retries[name].name,
      [...rubbish(RETRY_RECORDS, `retry-${name}`, order), large(5_200_000, 'a')],
    ]),
  ]
  // Half of it is there when they start, half of it comes while they run.
  const half = (from: number) =>
    sends.map(([topic, messages]) => [topic, messages.filter((_, i) => i % 2 === from)] as const)
  await sendAll(config, half(0))
  const scripts = ['validator', 'inventoryService', 'paymentService', 'analytics'].map((name) =>
    runScript(t, name, env),
  )
  await sendAll(config, half(1))

  const working = groups.map(({ name, inputs }) => ({
    group: topicPrefix + name,
    topics: [...inputs.map((topic) => topic.name), topics.retries[name].name],
  }))
  const kafka = createKafka(config, 'test', log)
  await until('all of it is worked on', async () => (await fetchLag(kafka, working)) === 0, 120_000, 500)
  for (const { child, lines } of scripts) assert.equal(child.exitCode, null, lines.at(-1))

  const found = await readAll(config, [
    ...new Set(
      groups.flatMap(({ name, inputs, outputs }) => [
        ...inputs.map((topic) => topic.name),
        ...outputs,
        topics.deadLetters[name].name,
        topics.retries[name].name,
      ]),
    ),
  ])
  const complaints = groups.flatMap((group) => complaintsOf(group, found, topics))
  assert.deepEqual(complaints.slice(0, 10), [])
  for (const topic of [topics.ordersValidated, topics.inventoryEvents, topics.paymentEvents]) {
    const keys = found.get(topic.name)!.map(({ key }) => String(key))
    assert.deepEqual(
      good.filter((id) => keys.filter((key) => key === id).length !== 1),
      [],
      topic.name,
    )
  }
  // The test bites: there is much of each kind.
  for (const { name } of groups)
    assert.ok(found.get(topics.deadLetters[name].name)!.length > RETRY_RECORDS, name)
  const reasons = new Set(
    groups.flatMap(({ name }) =>
      found
        .get(topics.deadLetters[name].name)!
        .map(({ headers }) => headerText(headers, 'reason')!.slice(0, 9)),
    ),
  )
  for (const reason of [
    'not JSON:',
    'not UTF-8',
    'wrong sha',
    'no value',
    'processin',
    'no key',
    'too large',
    "key 'another'.".slice(0, 9),
  ]) {
    assert.ok(reasons.has(reason), `${reason} among ${[...reasons]}`)
  }
})
