import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createKafka } from '../kafkaConfig.ts'
import {
  MAX_SEND_BYTES,
  MAX_SEND_RECORDS,
  parseMetadata,
  splitIntoSends,
  type TaskCommit,
  TransactionWriter,
} from '../lib/transaction.ts'
import {
  assertEachOnce,
  ids,
  readAll,
  type TestGroup,
  testGroup,
  toMessage,
  withAdmin,
} from './processorHarness.ts'

/** For a group without members. */
const NOBODY = { memberId: '', generationId: -1 }

test('fifty transactions of offsets alone, back to back, all succeed', async (t) => {
  const group = await testGroup(t)
  const writer = await openWriter(group)
  t.after(() => writer.close(group.log))
  for (let offset = 1; offset <= 50; offset++) {
    await writer.commit(
      [{ partition: 0, records: [], offsets: new Map([[group.first.name, offset]]) }],
      NOBODY,
    )
  }
  assert.equal(await committedOffset(group), 50)
})

test('whoever opens a writer fences the one before, whose transaction in hand leaves nothing behind', async (t) => {
  const group = await testGroup(t)
  const open = async () => {
    const writer = await openWriter(group)
    t.after(() => writer.close(group.log))
    return writer
  }
  const commitOf = (id: string, offset: number): TaskCommit => ({
    partition: 0,
    records: [{ topic: group.output.name, headers: {}, ...written(id) }],
    offsets: new Map([[group.first.name, offset]]),
  })
  const before = await open()
  await before.commit([commitOf('before', 1)], NOBODY)
  const after = await open()
  await assert.rejects(before.commit([commitOf('zombie', 9)], NOBODY))
  await after.commit([commitOf('after', 2)], NOBODY)

  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    ['before', 'after'],
  )
  assert.equal(await committedOffset(group), 2)
})

test('thousands of records larger together than any batch may be are committed whole', async (t) => {
  const group = await testGroup(t)
  const writer = await openWriter(group)
  t.after(() => writer.close(group.log))
  const note = 'x'.repeat(1_500)
  const wanted = ids('large', 3_000)
  const records = wanted.map((id) => ({
    topic: group.output.name,
    headers: { source: `${group.first.name}/1/0` },
    ...toMessageBytes({ id, note }),
  }))
  const offsets = new Map([[group.first.name, 1]])
  await writer.commit(
    [
      { partition: 1, records, offsets },
      { partition: 0, records: [], offsets },
    ],
    NOBODY,
  )
  const found = await readAll(group, group.output)
  assert.deepEqual(
    found.map(({ id }) => id),
    wanted,
  )
  assert.ok(found.every(({ partition }) => partition === 1))
})

test('a split keeps every record, in its order, within the bounds', () => {
  const record = fc.record({
    topic: fc.constantFrom('a', 'b'),
    key: fc.constant('key'),
    value: fc.integer({ min: 0, max: MAX_SEND_BYTES + 100_000 }).map((size) => Buffer.alloc(size)),
    headers: fc.constant({}),
  })
  fc.assert(
    fc.property(fc.array(record, { maxLength: 20 }), (records) => {
      const sends = [...splitIntoSends(records)]
      for (const topic of ['a', 'b']) {
        const sent = sends.flatMap((send) =>
          send.filter((part) => part.topic === topic).flatMap((part) => part.messages),
        )
        const wanted = records.filter((entry) => entry.topic === topic)
        assert.deepEqual(
          sent.map(({ value }) => value?.length),
          wanted.map(({ value }) => value.length),
        )
      }
      for (const send of sends) {
        const messages = send.flatMap((part) => part.messages)
        const bytes = messages.reduce((sum, { value }) => sum + value!.length, 0)
        assert.ok(
          messages.length === 1 || bytes <= MAX_SEND_BYTES,
          `${messages.length} records, ${bytes} bytes`,
        )
      }
    }),
    { numRuns: 30 },
  )
})

test('a split is by number too', () => {
  const records = ids('small', MAX_SEND_RECORDS * 2 + 1).map((id) => ({
    topic: 'a',
    headers: {},
    ...written(id),
  }))
  const counts = [...splitIntoSends(records)].map((send) => send[0]!.messages.length)
  assert.deepEqual(counts, [MAX_SEND_RECORDS, MAX_SEND_RECORDS, 1])
})

test('what stands with an offset is read also where a version before has written it, without a writer', () => {
  assert.deepEqual(parseMetadata('17@validator-a'), { keepFrom: 17, writer: 'validator-a' })
  assert.deepEqual(parseMetadata('@validator-a'), { keepFrom: undefined, writer: 'validator-a' })
  assert.deepEqual(parseMetadata('17'), { keepFrom: 17, writer: undefined })
  for (const nothing of [null, '', 'by hand', '-1']) {
    assert.deepEqual(parseMetadata(nothing), { keepFrom: undefined, writer: undefined })
  }
})

function written(id: string): { key: string; value: Buffer } {
  return toMessageBytes({ id })
}

function toMessageBytes(event: { id: string; note?: string }): { key: string; value: Buffer } {
  const { key, value } = toMessage(event)
  return { key, value: Buffer.from(value) }
}

function openWriter(group: TestGroup): Promise<TransactionWriter> {
  return TransactionWriter.open(
    createKafka(group.config, 'test', group.log),
    group.name,
    `${group.name}-writer`,
  )
}

async function committedOffset(group: TestGroup): Promise<number> {
  const [topic] = await withAdmin(group, (admin) =>
    admin.fetchOffsets({ groupId: group.name, topics: [group.first.name] }),
  )
  return Number(topic!.partitions.find(({ partition }) => partition === 0)!.offset)
}
