import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Transaction } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import { UnavailableError } from '../lib/errors.ts'
import { headerText, publish } from '../lib/record.ts'
import { PAUSE_ABOVE_RECORDS } from '../lib/taskInput.ts'
import { until } from './harness.ts'
import { intercept, watchFetches } from './interception.ts'
import {
  assertEachOnce,
  ids,
  readAll,
  send,
  startProcessor,
  testGroup,
  toMessage,
  toMessages,
  untilDrained,
} from './processorHarness.ts'

/** Breaks one call of one transaction; what becomes of the transaction is left to who runs it. */
const BREAKS: Record<string, (transaction: Transaction, fail: () => never) => void> = {
  'between two of its sends': (transaction, fail) => {
    const sendBatch = transaction.sendBatch
    let sends = 0
    transaction.sendBatch = async (batch) => (++sends === 2 ? fail() : sendBatch(batch))
  },
  'before its offsets are sent': (transaction, fail) => {
    transaction.sendOffsets = async () => fail()
  },
  'before its commit is sent': (transaction, fail) => {
    transaction.commit = async () => fail()
  },
  'after its commit, whose answer is lost': (transaction, fail) => {
    const commit = transaction.commit
    transaction.commit = async () => {
      await commit()
      fail()
    }
  },
}

for (const [when, breakIt] of Object.entries(BREAKS)) {
  test(`a transaction that fails ${when} leaves each record once`, async (t) => {
    const group = await testGroup(t, { PARTITIONS: '1' })
    const wanted = ids('order', 1_500)
    await send(group, group.first, 0, toMessages(wanted))
    let broken = 0
    const processor = startProcessor(
      t,
      group,
      { maxBatchRecords: 1_500 },
      {
        createKafka: (purpose) =>
          intercept(createKafka(group.config, purpose, group.log), {
            onTransaction(transaction, count) {
              if (count !== 2) return
              breakIt(transaction, () => {
                broken++
                throw new Error('the connection is gone')
              })
            },
          }),
      },
    )
    await untilDrained(group)
    const found = await readAll(group, group.output)
    assertEachOnce(
      found.map(({ id }) => id),
      wanted,
    )
    assert.equal(broken, 1)
    assert.equal(processor.counters.restarts, 1)
  })
}

test('one poison record among five hundred is found, set aside as it came, and holds nobody up', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const wanted = ids('order', 500)
  const sentMs = String(Date.now() - 60_000)
  const messages = wanted.map((id) => ({
    ...toMessage({ id }),
    timestamp: sentMs,
    headers: { trace: `of ${id}` },
  }))
  await send(group, group.first, 0, messages)
  let calls = 0
  const processor = startProcessor(t, group, {
    handle(records) {
      calls++
      if (records.some(({ event }) => event.id === 'order-333')) throw new TypeError('cannot read this')
      return records.map(({ event }) => [publish(group.output, event, '')])
    },
  })
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted.filter((id) => id !== 'order-333'),
  )
  const dead = await readAll(group, group.deadLetters)
  assert.equal(dead.length, 1)
  const { key, value, headers } = dead[0]!
  assert.equal(key?.toString(), 'order-333')
  assert.equal(value?.toString(), messages[333]!.value)
  assert.deepEqual(textHeaders(headers), {
    trace: 'of order-333',
    source: `${group.first.name}/0/333`,
    topic: group.first.name,
    partition: '0',
    offset: '333',
    timestamp: sentMs,
    reason: 'processing failed: cannot read this',
    attempts: '1',
  })
  assert.equal(processor.counters.deadLetters, 1)
  // Halving 500 asks twice for each of nine levels.
  assert.ok(calls <= 20, `${calls} calls`)
})

test('a record that cannot be decoded, has no key or another key is set aside byte for byte', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const broken = Buffer.from([0xff, 0x00, 0x7b])
  await send(group, group.second, 0, [
    { key: 'a', value: broken },
    { key: null, value: '{"id":"b"}' },
    { key: 'c', value: '{"id":"not c"}' },
    { key: 'd', value: null },
    toMessage({ id: 'good' }),
  ])
  startProcessor(t, group)
  await untilDrained(group)
  const dead = await readAll(group, group.deadLetters)
  assert.deepEqual(
    dead.map(({ key, value, headers }) => [
      key?.toString(),
      value?.toString('hex'),
      headerText(headers, 'reason')?.split(':')[0],
    ]),
    [
      ['a', broken.toString('hex'), 'not JSON'],
      [undefined, Buffer.from('{"id":"b"}').toString('hex'), 'no key'],
      ['c', Buffer.from('{"id":"not c"}').toString('hex'), "key 'c' is not 'not c'"],
      ['d', undefined, 'no value'],
    ],
  )
  assert.deepEqual(
    (await readAll(group, group.output)).map(({ id }) => id),
    ['good'],
  )
})

test('what was redriven counts under its first position, and is set aside again with the attempts added up', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const origin = (offset: number) => `${group.second.name}/0/${offset}`
  const letter = (offset: number) => ({
    'dead-letter': `${group.deadLetters.name}/0/${offset}`,
    attempts: '1',
  })
  await send(group, group.retries, 0, [
    { ...toMessage({ id: 'mended' }), headers: { source: origin(7), ...letter(0) } },
    { ...toMessage({ id: 'hopeless' }), headers: { source: origin(8), ...letter(1) } },
    { ...toMessage({ id: 'stray' }), headers: { source: 'not.ours/0/1', ...letter(2) } },
    { ...toMessage({ id: 'forged' }), headers: { source: origin(9) } },
  ])
  const sources: string[] = []
  startProcessor(t, group, {
    handle(records) {
      if (records.some(({ event }) => event.id === 'hopeless')) throw new Error('again')
      sources.push(...records.map(({ topic, offset, source }) => `${topic} ${offset} ${source}`))
      return records.map(({ event }) => [publish(group.output, event, '')])
    },
  })
  await untilDrained(group)
  assert.deepEqual(sources, [`${group.second.name} 7 ${origin(7)}`])
  const found = await readAll(group, group.output)
  assert.deepEqual(
    found.map(({ id, source }) => [id, source]),
    [['mended', origin(7)]],
  )
  const dead = await readAll(group, group.deadLetters)
  assert.deepEqual(
    dead.map(({ id, source, headers }) => [id, source, headerText(headers, 'attempts')]).sort(),
    [
      ['forged', `${group.retries.name}/0/3`, '1'],
      ['hopeless', origin(8), '2'],
      ['stray', 'not.ours/0/1', '2'],
    ],
  )
})

test('an outage pauses: little is fetched, nothing is set aside, and it goes on by itself', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const wanted = ids('order', 12_000)
  let isAway = true
  let refusals = 0
  let fetchedTo = 0
  const processor = startProcessor(
    t,
    group,
    {
      handle(records) {
        if (isAway) {
          refusals++
          throw new UnavailableError('the database', new Error('connection refused'))
        }
        return records.map(({ event }) => [publish(group.output, { id: event.id }, '')])
      },
    },
    {
      createKafka: (purpose) =>
        watchFetches(createKafka(group.config, purpose, group.log), ({ topic, lastOffset }) => {
          if (topic === group.first.name) fetchedTo = Math.max(fetchedTo, Number(lastOffset))
        }),
    },
  )
  // Only then: what is fetched before a task has its positions is dropped, and says nothing.
  await send(group, group.first, 0, [toMessage({ id: 'order-0' })])
  await until('it was tried', () => refusals > 0)
  const note = 'x'.repeat(500)
  for (let start = 1; start < wanted.length; start += 1_000) {
    const some = wanted.slice(start, start + 1_000)
    await send(
      group,
      group.first,
      0,
      some.map((id) => toMessage({ id, note })),
    )
  }
  await until('it was tried again and again', () => refusals >= 4 && fetchedTo > PAUSE_ABOVE_RECORDS)
  assert.equal(processor.counters.in, 0)
  // What is queued and the one fetch, of up to a megabyte, that went above the bound.
  assert.ok(fetchedTo < PAUSE_ABOVE_RECORDS + 2_100, `fetched up to ${fetchedTo}`)
  assert.match(group.complaints.join('\n'), /the database is not available: connection refused/)
  isAway = false
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
  assert.equal((await readAll(group, group.deadLetters)).length, 0)
  assert.equal(processor.counters.restarts, 0)
})

function textHeaders(headers: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}
