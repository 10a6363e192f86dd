import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Batch, Kafka, type KafkaConfig, logLevel, type Producer } from 'kafkajs'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { createLogger } from '../lib/log.ts'
import { PartitionCursor } from '../lib/partitionCursor.ts'
import { type ReadOptions, readTopics } from '../lib/topicReader.ts'
import { testConfig, until } from './harness.ts'

async function setUp(t: TestContext) {
  const config = await testConfig(t)
  const log = createLogger('test', config.log)
  const kafka = createKafka(config, 'test', log)
  const groupPrefix = `${config.topicPrefix}reader`
  const topic = config.topics.ordersValidated.name
  /** Reads into a list of `partition/value`, in the order of arrival. */
  const read = async (options: Partial<ReadOptions> = {}) => {
    const seen: string[] = []
    const positions = await readTopics({
      kafka,
      topics: [topic],
      from: 'beginning',
      until: 'end',
      groupPrefix,
      log,
      onRecords: (_topic, partition, records) => {
        for (const { value } of records) seen.push(`${partition}/${value}`)
      },
      ...options,
    })
    return { seen, positions }
  }
  const admin = kafka.admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  const groupsLeft = async () =>
    (await admin.listGroups()).groups.map(({ groupId }) => groupId).filter((id) => id.startsWith(groupPrefix))
  return { config, log, kafka, admin, topic, groupPrefix, read, groupsLeft }
}

async function openProducer(t: TestContext, config: Config, transactionalId?: string): Promise<Producer> {
  const kafka = createKafka(config, 'test-producer', createLogger('test', config.log))
  const producer = kafka.producer(
    transactionalId === undefined
      ? {}
      : {
          transactionalId: config.topicPrefix + transactionalId,
          idempotent: true,
          maxInFlightRequests: 1,
          transactionTimeout: 10_000,
        },
  )
  await producer.connect()
  t.after(() => producer.disconnect())
  return producer
}

const numbered = (partition: number, from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => ({ partition, key: 'key', value: String(from + index) }))

const listed = (partition: number, from: number, to: number) =>
  numbered(partition, from, to).map(({ value }) => `${partition}/${value}`)

test('a topic is read to its end past aborted records and a tail of control records, and no group stays', async (t) => {
  const { config, topic, read, groupsLeft } = await setUp(t)
  const first = await openProducer(t, config, 'first')
  const second = await openProducer(t, config, 'second')
  // Interleaved in one partition, one aborted; then an aborted tail, so that the log ends in control records.
  const committed = await first.transaction()
  const aborted = await second.transaction()
  await committed.send({ topic, messages: numbered(0, 0, 3) })
  await aborted.send({ topic, messages: numbered(0, 100, 103) })
  await committed.send({ topic, messages: [...numbered(0, 3, 5), ...numbered(1, 0, 2)] })
  await aborted.abort()
  await committed.commit()
  const tail = await second.transaction()
  await tail.send({ topic, messages: [...numbered(0, 200, 210), ...numbered(1, 200, 210)] })
  await tail.abort()

  let caughtUp = 0
  const { seen, positions } = await read({ onCaughtUp: () => caughtUp++ })

  assert.deepEqual(seen.sort(), [...listed(0, 0, 5), ...listed(1, 0, 2)])
  assert.equal(caughtUp, 1)
  assert.deepEqual(
    [...positions.get(topic)!.entries()],
    [
      [0, 21],
      [1, 14],
      [2, 0],
    ],
  )
  assert.deepEqual(await groupsLeft(), [])
})

test('an empty topic has been read at once', async (t) => {
  const { read } = await setUp(t)
  let caughtUp = 0
  const { seen } = await read({ onCaughtUp: () => caughtUp++ })
  assert.deepEqual([seen, caughtUp], [[], 1])
})

test('a partition whose records were all deleted counts as read', async (t) => {
  const { config, admin, topic, read } = await setUp(t)
  const producer = await openProducer(t, config)
  await producer.send({ topic, messages: [...numbered(0, 0, 5), ...numbered(1, 0, 5)] })
  // deleteTopicRecords of kafkajs works on topics alone that it has been asked about before.
  await admin.fetchTopicOffsets(topic)
  await admin.deleteTopicRecords({
    topic,
    partitions: [
      { partition: 0, offset: '5' },
      { partition: 1, offset: '2' },
    ],
  })
  assert.deepEqual((await read()).seen, listed(1, 2, 5))
})

test('an open transaction is waited for, and what comes after the end as it was is left out', async (t) => {
  const { config, topic, read } = await setUp(t)
  const producer = await openProducer(t, config, 'slow')
  const open = await producer.transaction()
  await open.send({ topic, messages: numbered(0, 0, 3) })
  const other = await openProducer(t, config)
  await other.send({ topic, messages: [...numbered(0, 3, 5), ...numbered(1, 0, 2)] })

  let isRead = false
  const seen: string[] = []
  const reading = read({
    onRecords: (_topic, partition, records) => {
      for (const { value } of records) seen.push(`${partition}/${value}`)
    },
  }).then(() => {
    isRead = true
  })
  // Partition 1 shows that the reading has begun, with the end of partition 0 behind the open transaction.
  await until('partition 1 was read', () => seen.length === 2)
  assert.equal(isRead, false)
  await other.send({ topic, messages: numbered(0, 900, 910) })
  await open.commit()
  await reading
  assert.deepEqual(seen.sort(), [...listed(0, 0, 5), ...listed(1, 0, 2)])
})

test('reading for ever tells once that it has caught up, goes on, and ends on the signal', async (t) => {
  const { config, topic, read, groupsLeft } = await setUp(t)
  const producer = await openProducer(t, config)
  await producer.send({ topic, messages: numbered(0, 0, 3) })
  const ending = new AbortController()
  const seen: string[] = []
  let caughtUp = 0
  const reading = read({
    until: 'forever',
    signal: ending.signal,
    onCaughtUp: () => caughtUp++,
    onRecords: (_topic, partition, records) => {
      for (const { value } of records) seen.push(`${partition}/${value}`)
    },
  })
  await until('it has caught up', () => caughtUp === 1)
  assert.deepEqual(seen, listed(0, 0, 3))
  await producer.send({ topic, messages: numbered(0, 3, 6) })
  await until('the new records', () => seen.length === 6)
  ending.abort()
  await reading
  assert.deepEqual([seen, caughtUp], [listed(0, 0, 6), 1])
  assert.deepEqual(await groupsLeft(), [])
})

test('it begins at a time, or where another reading ended', async (t) => {
  const { config, topic, read } = await setUp(t)
  const producer = await openProducer(t, config)
  await producer.send({ topic, messages: numbered(0, 0, 3) })
  const { positions } = await read()
  const late = numbered(0, 3, 5).map((message) => ({ ...message, timestamp: String(Date.now() + 60_000) }))
  await producer.send({ topic, messages: late })
  assert.deepEqual((await read({ from: { offsets: positions } })).seen, listed(0, 3, 5))
  assert.deepEqual((await read({ from: { timestampMs: Date.now() + 30_000 } })).seen, listed(0, 3, 5))
})

test('what was written past the end meanwhile is left to whoever reads on from there', async (t) => {
  const { config, log, kafka, topic, read } = await setUp(t)
  const producer = await openProducer(t, config)
  await producer.send({ topic, messages: [...numbered(0, 0, 3), ...numbered(1, 0, 3)] })
  // The ends are known when the consumer is made: what is sent as it connects comes with the first fetch.
  const late = createKafka(config, 'test', log)
  late.consumer = (options) => {
    const consumer = kafka.consumer(options)
    const connect = async () => {
      await producer.send({ topic, messages: [...numbered(0, 3, 6), ...numbered(1, 3, 5)] })
      await consumer.connect()
    }
    return { ...consumer, connect }
  }
  const { seen, positions } = await read({ kafka: late })
  assert.deepEqual(seen.sort(), [...listed(0, 0, 3), ...listed(1, 0, 3)])
  const { seen: rest } = await read({ from: { offsets: positions } })
  assert.deepEqual(rest.sort(), [...listed(0, 3, 6), ...listed(1, 3, 5)])
})

test('connections that break in the middle cost no record, double none, and leave no group', async (t) => {
  const { config, log, topic, read, groupsLeft } = await setUp(t)
  const producer = await openProducer(t, config)
  const total = 20_000
  for (let from = 0; from < total; from += 1_000) {
    await producer.send({ topic, messages: numbered(0, from, from + 1_000) })
  }
  const sockets = new Set<Socket>()
  const kafka = new Kafka({
    brokers: config.kafka.brokers,
    clientId: 'test-broken',
    logLevel: logLevel.NOTHING,
    // Without retries of its own the consumer crashes on the first error.
    retry: { retries: 0 },
    socketFactory: (({ host, port, onConnect }) => {
      const socket = connect(port, host, onConnect)
      sockets.add(socket)
      return socket
    }) as NonNullable<KafkaConfig['socketFactory']>,
  })
  let breaks = 0
  const seen: string[] = []
  await read({
    kafka,
    log,
    onRecords: (_topic, partition, records) => {
      for (const { value } of records) seen.push(`${partition}/${value}`)
      if (breaks === 3) return
      breaks++
      for (const socket of sockets) socket.destroy(new Error('broken by the test'))
      sockets.clear()
    },
  })
  assert.ok(breaks > 0)
  assert.deepEqual(seen, listed(0, 0, total))
  assert.deepEqual(await groupsLeft(), [])
})

test('an error of the receiver ends the reading with that error, and no group stays', async (t) => {
  const { config, topic, read, groupsLeft } = await setUp(t)
  const producer = await openProducer(t, config)
  await producer.send({ topic, messages: numbered(0, 0, 3) })
  const onRecords = () => {
    throw new RangeError('planted')
  }
  await assert.rejects(read({ onRecords }), new RangeError('planted'))
  await assert.rejects(read({ onCaughtUp: onRecords }), new RangeError('planted'))
  assert.deepEqual(await groupsLeft(), [])
})

test('a topic that does not exist is refused in a sentence', async (t) => {
  const { config, read } = await setUp(t)
  await assert.rejects(read({ topics: [`${config.topicPrefix}nothing`] }), (error: Error) => {
    assert.ok(error instanceof ConfigurationError)
    assert.match(error.message, /nothing: not all of these topics exist/)
    return true
  })
})

const batch = (fetchedOffset: number, offsets: number[], lastOffset = offsets.at(-1) ?? fetchedOffset) =>
  ({
    fetchedOffset: String(fetchedOffset),
    messages: offsets.map((offset) => ({ offset: String(offset), timestamp: '0', key: null, value: null })),
    lastOffset: () => String(lastOffset),
  }) as unknown as Batch

test('a gap that compaction left is passed, a batch that does not follow is refused', () => {
  const cursor = new PartitionCursor('products', 0, 10, 50)
  const take = (...args: Parameters<typeof batch>) =>
    cursor.take(batch(...args), 50)?.map(({ offset }) => offset)
  assert.deepEqual(take(10, [15, 20]), [15, 20], 'asked for at 10, and nothing is left below 15')
  assert.equal(take(30, [30, 31]), undefined, 'asked for at 30, and 21 to 29 were never asked for')
  assert.equal(cursor.position, 21)
  assert.deepEqual(take(15, [15, 20, 21, 22]), [21, 22], 'what was handed over is not handed over again')
  assert.deepEqual(take(23, [49, 50, 51]), [49], 'and nothing beyond the limit')
  assert.equal(cursor.position, 50, 'nor past it')
})

test('a batch with nothing to be seen beyond the position is believed as the answer to a seek alone', () => {
  const cursor = new PartitionCursor('products', 0, 10, 50)
  const control = { firstOffset: '20', lastOffset: '21' }
  assert.equal(cursor.skip(control), false)
  assert.equal(cursor.position, 10)
  cursor.sought()
  assert.equal(cursor.skip(control), true)
  assert.equal(cursor.position, 22)
  assert.equal(cursor.skip({ firstOffset: null, lastOffset: '22' }), true)
  assert.equal(cursor.position, 23)
})
