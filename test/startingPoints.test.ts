import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createKafka } from '../kafkaConfig.ts'
import { publish } from '../lib/record.ts'
import { PAUSE_ABOVE_BYTES } from '../lib/taskInput.ts'
import { TransactionWriter } from '../lib/transaction.ts'
import { until } from './harness.ts'
import { gate, watchFetches } from './interception.ts'
import {
  assertEachOnce,
  ids,
  makeProcessor,
  readAll,
  send,
  startProcessor,
  type TestGroup,
  testGroup,
  toMessage,
  toMessages,
  untilDrained,
  withAdmin,
} from './processorHarness.ts'

/** Commits an offset for the first input, as a group that has no members. */
async function commitOffset(group: TestGroup, offset: number): Promise<void> {
  const writer = await TransactionWriter.open(
    createKafka(group.config, 'test', group.log),
    group.name,
    `${group.name}-test`,
  )
  const offsets = new Map([[group.first.name, offset]])
  await writer.commit([{ partition: 0, records: [], offsets }], { memberId: '', generationId: -1 })
  await writer.close(group.log)
}

async function fill(group: TestGroup, wanted: string[]): Promise<void> {
  await send(group, group.first, 0, toMessages(wanted))
}

async function deleteUpTo(group: TestGroup, offset: number): Promise<void> {
  await withAdmin(group, async (admin) => {
    // kafkajs deletes only from topics that it has heard of.
    await admin.fetchTopicOffsets(group.first.name)
    const partitions = [{ partition: 0, offset: String(offset) }]
    await admin.deleteTopicRecords({ topic: group.first.name, partitions })
  })
}

test('a task that is taken over remembers as many records as it was told, and works on none of them again', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const work = {
    readBack: { orders: 30, ageMs: 60_000 },
    remember: (state: string[], { event }: { event: { id: string } }) => void state.push(event.id),
  }
  await fill(group, ids('before', 100))
  const before = makeProcessor(group, work)
  t.after(() => before.stop())
  void before.run()
  await untilDrained(group)
  assert.deepEqual(before.states, [[]])
  await before.stop()

  const after = startProcessor(t, group, work)
  await fill(group, ids('after', 10))
  await untilDrained(group)
  assert.deepEqual(after.states, [ids('before', 100).slice(70)])
  assert.equal(after.counters.in, 10)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    [...ids('before', 100), ...ids('after', 10)],
  )
})

test('records that are older than what is to be remembered are not read back', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  await fill(group, ids('old', 20))
  await commitOffset(group, 20)
  await until('they are older than that', async () => {
    const found = await withAdmin(group, (admin) =>
      admin.fetchTopicOffsetsByTimestamp(group.first.name, Date.now() - 1),
    )
    return found[0]!.offset === '20'
  })
  const processor = startProcessor(t, group, {
    readBack: { orders: 1_000, ageMs: 1 },
    remember: (state, { event }) => void state.push(event.id),
  })
  await fill(group, ['new'])
  await untilDrained(group)
  assert.deepEqual(processor.states, [[]])
  assert.equal(processor.counters.in, 1)
})

test('records that were deleted before they were read are told with their number', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  await fill(group, ids('order', 50))
  await commitOffset(group, 10)
  await deleteUpTo(group, 40)
  startProcessor(t, group)
  await untilDrained(group)
  assert.match(
    group.complaints.join('\n'),
    /^30 records of .*orders\.raw\/0 were deleted before .* had read them$/m,
  )
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    ids('order', 50).slice(40),
  )
})

test('a committed offset beyond the end of the log is told, and the log is read from its beginning', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  await commitOffset(group, 1_000)
  await fill(group, ids('order', 5))
  const processor = startProcessor(t, group)
  await until('all of it is read', () => processor.counters.in === 5)
  assert.match(
    group.complaints.join('\n'),
    /has committed offset 1000 of .*orders\.raw\/0, and the log ends at 5/,
  )
})

test('records that are deleted before a paused task comes to them are told too, and it goes on behind them', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { opened, open } = gate()
  let fetched = 0
  const processor = startProcessor(
    t,
    group,
    {
      async handle(records) {
        await opened
        return records.map(({ event: { id } }) => [publish(group.output, { id }, '')])
      },
    },
    {
      createKafka: (purpose) =>
        watchFetches(createKafka(group.config, purpose, group.log), ({ topic, batchSize }) => {
          if (topic === group.first.name) fetched += batchSize
        }),
    },
  )
  const wanted = ids('large', 60)
  const note = 'x'.repeat(PAUSE_ABOVE_BYTES / 40)
  for (let start = 0; start < wanted.length; start += 4) {
    const some = wanted.slice(start, start + 4).map((id) => toMessage({ id, note }))
    await send(group, group.first, 0, some)
  }
  await until('it has taken in what it may', () => fetched > 40)
  await deleteUpTo(group, 60)
  open()
  await until('it has done that', () => processor.counters.in >= 40)
  await fill(group, ['next'])
  await untilDrained(group)
  assert.match(group.complaints.join('\n'), /records of .*orders\.raw\/0 .*(were deleted|are not there)/)
  const found = await readAll(group, group.output)
  assert.ok(found.length < 60)
  assertEachOnce(
    found.map(({ id }) => id),
    [...wanted.slice(0, found.length - 1), 'next'],
  )
})
