import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Registry } from 'prom-client'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { addProcessorMetrics } from '../lib/processorMetrics.ts'
import { publish } from '../lib/record.ts'
import { testEnvironment, until } from './harness.ts'
import { gate, watchFetches } from './interception.ts'
import {
  assertEachOnce,
  groupOf,
  ids,
  makeProcessor,
  readAll,
  send,
  startProcessor,
  type TestEvent,
  testGroup,
  toMessage,
  toMessages,
  untilDrained,
  withAdmin,
} from './processorHarness.ts'

test('each record of both inputs comes out once, in the partition and the order that it came in', async (t) => {
  const group = await testGroup(t)
  const wanted = [ids('a', 300), ids('b', 300)] as const
  await send(group, group.first, 0, toMessages(wanted[0]))
  await send(group, group.second, 1, toMessages(wanted[1]))
  const processor = startProcessor(t, group)
  await untilDrained(group)

  const found = await readAll(group, group.output)
  for (const partition of [0, 1]) {
    const inPartition = found.filter((record) => record.partition === partition)
    assert.deepEqual(
      inPartition.map(({ id }) => id),
      wanted[partition],
    )
    const input = [group.first, group.second][partition]!
    assert.deepEqual(
      inPartition.map(({ source }) => source),
      wanted[partition]!.map((_, offset) => `${input.name}/${partition}/${offset}`),
    )
  }
  assert.equal(processor.counters.in, 600)
  assert.equal(processor.counters.out.get(group.output.name), 600)
  assert.deepEqual(
    { ...processor.status, lag: 0 },
    { state: 'running', tasks: [0, 1], lag: 0, queued: 0, paused: [], isPaused: false },
  )
})

test('a megabyte of input that grows fourfold comes out whole', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const wanted = ids('large', 2_400)
  const messages = wanted.map((id) => toMessage({ id, note: 'x'.repeat(600) }))
  // The first is worked on as soon as it has come, the others together.
  for (const from of [0, 800, 1_600]) await send(group, group.first, 0, messages.slice(from, from + 800))
  let largest = { bytes: 0, records: 0 }
  startProcessor(t, group, {
    maxBatchRecords: 2_000,
    handle(records) {
      const outcomes = records.map(({ event }) => [
        publish(group.output, { id: event.id, note: event.note!.repeat(4) }, ''),
      ])
      const bytes = outcomes.reduce((sum, [record]) => sum + record!.value.length, 0)
      if (bytes > largest.bytes) largest = { bytes, records: records.length }
      return outcomes
    },
  })
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
  // Else this has tested nothing: all of it would have fitted into one batch.
  assert.ok(largest.bytes > group.output.maxMessageBytes, `${largest.bytes} bytes at once`)
  assert.ok(largest.records > 1_000, `${largest.records} records at once`)
})

test('records that lead to nothing are committed one by one without a failure', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  await send(group, group.first, 0, toMessages(ids('quiet', 60)))
  const processor = startProcessor(
    t,
    group,
    { handle: (records) => records.map(() => []), maxBatchRecords: 1 },
    { commitIntervalMs: 0 },
  )
  await untilDrained(group)
  assert.equal(processor.counters.in, 60)
  assert.equal(processor.counters.restarts, 0)
})

test('aborted and control records at the end of an input are committed past: drained is a lag of 0', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  startProcessor(t, group)
  const producer = createKafka(group.config, 'test', group.log).producer({
    transactionalId: `${group.name}-in`,
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  t.after(() => producer.disconnect())
  for (const how of ['commit', 'abort'] as const) {
    const transaction = await producer.transaction()
    await transaction.send({ topic: group.first.name, messages: toMessages([how]) })
    await transaction[how]()
    await untilDrained(group)
  }
  const ends = await withAdmin(group, (admin) => admin.fetchTopicOffsets(group.first.name))
  assert.equal(ends[0]!.high, '4')
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    ['commit'],
  )
})

test('two instances share the tasks, and one that stops hands its own over at once', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '4' })
  const staying = startProcessor(t, group)
  const leaving = startProcessor(t, group)
  await until('each has two tasks', () => [staying, leaving].every(({ status }) => status.tasks.length === 2))
  const all = [...staying.status.tasks, ...leaving.status.tasks]
  assert.deepEqual(
    all.sort((a, b) => a - b),
    [0, 1, 2, 3],
  )
  const wanted: string[] = []
  const sendSome = async (prefix: string) => {
    for (const partition of [0, 1, 2, 3]) {
      const some = ids(`${prefix}${partition}`, 50)
      wanted.push(...some)
      await send(group, group.second, partition, toMessages(some))
    }
  }
  await sendSome('both')
  const stopped = leaving.stop()
  await sendSome('between')
  await stopped
  // Within less than a session: it left the group and was not missed.
  await until('the other has all tasks', () => staying.status.tasks.length === 4, 4_000)
  await sendSome('one')
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
})

test('stopping finishes the transaction in hand, and passes over nothing that comes in meanwhile', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { opened, open } = gate()
  const seen: string[] = []
  let fetched = -1
  const stopping = startProcessor(
    t,
    group,
    {
      async handle(records) {
        seen.push(...records.map(({ event }) => event.id))
        await opened
        return records.map(({ event }) => [publish(group.output, event, '')])
      },
    },
    {
      createKafka: (purpose) =>
        watchFetches(createKafka(group.config, purpose, group.log), ({ topic, lastOffset }) => {
          if (topic === group.first.name) fetched = Number(lastOffset)
        }),
    },
  )
  await send(group, group.first, 0, [toMessage({ id: 'in hand' })])
  await until('it is in hand', () => seen.length === 1)
  const stopped = stopping.stop()
  await send(group, group.first, 0, [toMessage({ id: 'too late' })])
  // The consumer still fetches, for as long as the task has something in hand.
  await until('the second is fetched', () => fetched === 1)
  open()
  await stopped
  assert.deepEqual(seen, ['in hand'])
  const committed = await readAll(group, group.output)
  assertEachOnce(
    committed.map(({ id }) => id),
    ['in hand'],
  )

  startProcessor(t, group)
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    ['in hand', 'too late'],
  )
})

test('topics that are missing are waited for, with one line that says what to do', async (t) => {
  const group = groupOf(parseConfig(await testEnvironment(t, { PARTITIONS: '1' })))
  startProcessor(t, group)
  await until('it says so', () => group.complaints.length > 0)
  assert.match(group.complaints[0]!, /waiting for the topics .*orders\.raw.*ensureTopics\(\)/)
  await ensureTopics(group.config, () => undefined)
  await send(group, group.first, 0, [toMessage({ id: 'at last' })])
  await untilDrained(group)
  assert.equal((await readAll(group, group.output)).length, 1)
  assert.equal(group.complaints.length, 1)
})

test('topics that are not co-partitioned are refused, with their numbers', async (t) => {
  const group = await testGroup(t)
  await withAdmin(group, (admin) =>
    admin.createPartitions({ topicPartitions: [{ topic: group.second.name, count: 3 }] }),
  )
  await withAdmin(group, (admin) =>
    until('the third partition is there', async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [group.second.name] })
      return topics[0]!.partitions.length === 3
    }),
  )
  const processor = makeProcessor(group)
  t.after(() => processor.stop())
  void processor.run()
  await until('it says so', () => group.complaints.length > 0)
  assert.match(group.complaints[0]!, /orders\.raw has 2, .*orders\.validated has 3/)
  assert.deepEqual(processor.status.tasks, [])
})

test('a processor that is paused keeps its place and begins nothing, and goes on where it was', async (t) => {
  const group = await testGroup(t)
  const processor = startProcessor(t, group)
  await send(group, group.first, 0, toMessages(ids('a', 10)))
  await untilDrained(group)
  processor.pause()
  await send(group, group.first, 0, toMessages(ids('b', 20)))
  await until('they have come', () => processor.status.queued === 20)
  const [waiting] = processor.lags.filter(({ records }) => records > 0)
  assert.ok(waiting!.topic === group.first.name && waiting!.records >= 20 && waiting!.seconds > 0)
  assert.equal(processor.counters.in, 10)
  const { state, tasks, isPaused } = processor.status
  assert.deepEqual([state, tasks, isPaused], ['running', [0, 1], true])
  processor.resume()
  await untilDrained(group)
  assert.equal(processor.counters.in, 30)
  assert.deepEqual(
    processor.lags.map(({ seconds }) => seconds),
    [0, 0, 0, 0, 0, 0],
  )
})

test('what a processor counts is what it tells Prometheus', async (t) => {
  const group = await testGroup(t)
  const placedAt = new Date(Date.now() - 3_000).toISOString()
  await send(group, group.first, 0, [...toMessages(ids('a', 30)), { key: 'x', value: 'no event' }])
  await send(group, group.first, 1, [toMessage({ id: 'late', placedAt } as TestEvent)])
  const processor = startProcessor(t, group)
  await untilDrained(group)
  const registry = new Registry()
  addProcessorMetrics(registry, processor, group.config.topicPrefix)
  const text = await registry.metrics()
  const values = new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  )
  const { transactions } = processor.counters
  assert.ok(processor.counters.transactionRecords.count > 0)
  const expected: Record<string, number> = {
    'pipeline_records_in_total{topic="orders.raw"}': 32,
    'pipeline_records_out_total{topic="inventory.events"}': 31,
    pipeline_dead_letters_total: 1,
    pipeline_retries_total: 0,
    'pipeline_transactions_total{result="committed"}': transactions.committed,
    'pipeline_transactions_total{result="aborted"}': 0,
    // Not those in which the tasks said who has them.
    pipeline_transaction_records_count: processor.counters.transactionRecords.count,
    pipeline_transaction_records_sum: 32,
    'pipeline_record_latency_seconds_count{topic="orders.raw"}': 32,
    'pipeline_record_latency_seconds_bucket{topic="orders.raw",le="+Inf"}': 32,
    'pipeline_order_latency_seconds_bucket{topic="orders.raw",le="2.5"}': 0,
    'pipeline_order_latency_seconds_bucket{topic="orders.raw",le="+Inf"}': 1,
    pipeline_tasks: 2,
    pipeline_paused: 0,
    'pipeline_lag_records{topic="orders.raw",partition="0"}': 0,
    'pipeline_lag_seconds{topic="orders.raw",partition="1"}': 0,
  }
  for (const [name, value] of Object.entries(expected)) assert.equal(values.get(name), value, name)
})
