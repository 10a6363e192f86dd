import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Batch } from 'kafkajs'
import type { DeadLetterSummary } from '../lib/deadLetterQueue.ts'
import { toDeadLetter } from '../lib/deadLetters.ts'
import { DedupeWindow } from '../lib/dedupeWindow.ts'
import { redrive } from '../lib/dlqSettle.ts'
import type { OrderPlaced } from '../lib/events.ts'
import type { RawRecord } from '../lib/record.ts'
import { PAUSE_ABOVE_BYTES, PAUSE_ABOVE_RECORDS, TaskInput } from '../lib/taskInput.ts'
import { TaskInputs } from '../lib/taskInputs.ts'

/** A log in which some offsets hold nothing to be seen: control records and aborted ones. */
interface Log {
  visible: boolean[]
}

/** What a fetch at an offset answers, as kafkajs hands it over. */
function fetch({ visible }: Log, from: number, count: number): { batch: Batch; isEmpty: boolean } {
  const end = Math.min(from + count, visible.length)
  const offsets = Array.from({ length: end - from }, (_, index) => from + index)
  const messages = offsets
    .filter((offset) => visible[offset])
    .map((offset) => toMessage(offset, Buffer.from(String(offset))))
  return { batch: toBatch(from, end, visible.length, messages), isEmpty: messages.length === 0 }
}

function toMessage(offset: number, value: Buffer) {
  return { offset: String(offset), timestamp: '0', key: null, value, headers: {} }
}

function toBatch(from: number, end: number, highWatermark: number, messages: object[]): Batch {
  return {
    topic: 'orders.raw',
    partition: 0,
    fetchedOffset: String(from),
    highWatermark: String(highWatermark),
    messages,
    lastOffset: () => String(end - 1),
  } as unknown as Batch
}

const newInput = () => new TaskInput('orders.raw', 0)
const upTo = (count: number) => Array.from({ length: count }, (_, offset) => offset)

/** What the client may do: fetch on, fetch from anywhere (stale, or moved by itself); and what the task may do. */
const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('fetch on' as const), count: fc.integer({ min: 1, max: 9 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fetch elsewhere' as const),
      from: fc.nat(59),
      count: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('work' as const), most: fc.integer({ min: 1, max: 9 }) }),
  },
)

test('whatever batches come in whatever order, every visible record is worked on once and in order', () => {
  const logs = fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }).map((visible) => ({ visible }))
  fc.assert(
    fc.property(logs, fc.array(action, { maxLength: 60 }), (log, actions) => {
      const input = newInput()
      input.reset(0, 0)
      const done: number[] = []
      /** Where the client would read next, by itself. */
      let client = 0
      const deliver = (from: number, count: number) => {
        const { batch, isEmpty } = fetch(log, from, count)
        const follows = isEmpty
          ? input.skip(from, Number(batch.lastOffset()), log.visible.length)
          : input.take(batch)
        // A batch that does not follow is answered by a seek.
        client = follows ? Number(batch.lastOffset()) + 1 : input.position
      }
      const work = (most: number) => {
        done.push(...input.shift(most).map(({ offset }) => offset))
        // Whatever is committed now, nothing that waits or was not read is below it, and nothing done is above.
        assert.ok(done.every((offset) => offset < input.nextToCommit))
        const committed = log.visible.slice(0, input.nextToCommit).filter(Boolean).length
        assert.equal(committed, done.length)
      }
      for (const next of actions) {
        if (next.do === 'work') work(next.most)
        else if (next.do === 'fetch elsewhere') deliver(next.from, next.count)
        else if (client < log.visible.length) deliver(client, next.count)
      }
      while (client < log.visible.length || input.position < log.visible.length) {
        if (client >= log.visible.length) client = input.position
        deliver(client, 5)
      }
      work(60)
      const visible = upTo(60).filter((offset) => log.visible[offset])
      assert.deepEqual(done, visible)
      assert.equal(input.nextToCommit, 60)
    }),
    { numRuns: 500 },
  )
})

test('a batch of a log that ends before the position is not taken: it is another log', () => {
  const input = newInput()
  input.reset(100, 100)
  assert.equal(
    input.take(
      toBatch(
        0,
        5,
        5,
        upTo(5).map((offset) => toMessage(offset, Buffer.alloc(1))),
      ),
    ),
    false,
  )
  assert.equal(input.skip(0, 4, 5), false)
  assert.equal(input.position, 100)
})

test('it is full by number and by bytes, and has room again only well below', () => {
  const input = newInput()
  const fill = (count: number, bytes: number) => {
    input.reset(0, 0)
    assert.ok(!input.isFull && input.hasRoom)
    const messages = upTo(count).map((offset) => toMessage(offset, Buffer.alloc(bytes)))
    assert.ok(input.take(toBatch(0, count, count, messages)))
  }
  fill(PAUSE_ABOVE_RECORDS, 10)
  assert.ok(!input.isFull)
  fill(PAUSE_ABOVE_RECORDS + 1, 10)
  assert.ok(input.isFull)
  input.shift(PAUSE_ABOVE_RECORDS / 4)
  assert.ok(!input.isFull && !input.hasRoom)
  input.shift(PAUSE_ABOVE_RECORDS / 4)
  assert.ok(input.hasRoom)

  fill(9, PAUSE_ABOVE_BYTES / 8)
  assert.ok(input.isFull && !input.hasRoom)
  input.shift(9)
  assert.ok(!input.isFull && input.hasRoom)

  const headers = { trace: Buffer.alloc(PAUSE_ABOVE_BYTES / 8), empty: null }
  input.reset(0, 0)
  const messages = upTo(9).map((offset) => ({ ...toMessage(offset, Buffer.alloc(1)), headers }))
  assert.ok(input.take(toBatch(0, 9, 9, messages)))
  assert.ok(input.isFull && !input.hasRoom, 'headers count')
  input.shift(9)
  assert.ok(!input.isFull && input.hasRoom)
})

test('a redriven record counts under the position that it had at first, and settles the letter that it names', () => {
  const input = new TaskInput('validator.retry', 1, 'validator.dlq')
  const records = [
    { source: 'orders.raw/1/77', 'dead-letter': 'validator.dlq/1/5' },
    // Dropped: it has no position but its own.
    { dropped: 'by hand', 'dead-letter': 'validator.dlq/1/6' },
    // Not ours: what their headers say counts for nothing.
    { source: 'orders.raw/1/78' },
    { source: 'orders.raw/1/79', 'dead-letter': 'validator.dlq/0/5' },
    { source: 'orders.raw/1/80', 'dead-letter': 'inventory.dlq/1/5' },
    { source: 'orders.raw/1/81', 'dead-letter': 'nothing' },
    { source: 'no position', 'dead-letter': 'validator.dlq/1/7' },
  ]
  const toBytes = ([name, text]: [string, string]) => [name, Buffer.from(text)]
  const messages = records.map((headers, offset) => ({
    ...toMessage(offset, Buffer.alloc(1)),
    headers: Object.fromEntries(Object.entries(headers).map(toBytes)),
  }))
  assert.ok(input.take(toBatch(0, 7, 7, messages)))
  assert.deepEqual(
    input.shift(7).map(({ source, settles }) => [source, settles]),
    [
      ['orders.raw/1/77', 5],
      ['validator.retry/1/1', 6],
      ['validator.retry/1/2', undefined],
      ['validator.retry/1/3', undefined],
      ['validator.retry/1/4', undefined],
      ['validator.retry/1/5', undefined],
      ['validator.retry/1/6', 7],
    ],
  )
})

/** The headers of a record's dead letter once it is redriven. */
function headersOfRedrive(record: Partial<RawRecord>) {
  const raw = {
    topic: 'orders.raw',
    partition: 1,
    offset: 77,
    source: 'orders.raw/1/77',
    key: null,
    value: Buffer.from('x'),
    headers: {},
    ...record,
  }
  const { key, value, headers } = toDeadLetter('validator.dlq', raw as RawRecord, 'failed')
  const letter = { position: 'validator.dlq/1/5', redrives: 0 } as DeadLetterSummary
  const read = { offset: 5, timestampMs: 0, key, value, headers }
  return redrive(letter, read as Parameters<typeof redrive>[1]).headers
}

function takeFromRetryTopic(headers: object, sentMs: number): RawRecord {
  const input = new TaskInput('validator.retry', 1, 'validator.dlq')
  const message = { ...toMessage(0, Buffer.alloc(1)), timestamp: String(sentMs), headers }
  assert.ok(input.take(toBatch(0, 1, 1, [message])))
  return input.shift(1)[0]!
}

const HOUR_MS = 3_600_000

test('a redriven record has the time that it had at first, through every letter, and from nobody else', () => {
  const [firstMs, secondMs, thirdMs] = [1_795_000_000_000, 1_795_000_060_000, 1_795_000_120_000]
  const forged = { timestamp: Buffer.from('1') }
  const once = takeFromRetryTopic(headersOfRedrive({ timestampMs: firstMs, headers: forged }), secondMs)
  assert.deepEqual([once.timestampMs, once.readTimestampMs], [firstMs, secondMs])
  const twice = takeFromRetryTopic(headersOfRedrive(once), thirdMs)
  assert.deepEqual([twice.timestampMs, twice.readTimestampMs], [firstMs, thirdMs])

  assert.equal(takeFromRetryTopic(forged, secondMs).timestampMs, secondMs, 'it names no letter')
  const headers = headersOfRedrive({ timestampMs: firstMs })
  for (const timestamp of ['', 'soon', '-1', '9'.repeat(16), String(thirdMs)]) {
    assert.equal(takeFromRetryTopic({ ...headers, timestamp }, secondMs).timestampMs, secondMs, timestamp)
  }
})

test('a redriven record in a backlog does not make the window forget what the backlog repeats', () => {
  const window = new DedupeWindow({ maxOrders: 1_000, maxAgeMs: HOUR_MS })
  const placed = (orderId: string) =>
    ({ orderId, customerId: 'c-1', currency: 'EUR', total: 1, items: [] }) as unknown as OrderPlaced
  const nowMs = 1_795_000_000_000
  const behindMs = nowMs - 2 * HOUR_MS
  assert.equal(window.admit(placed('a'), 'orders.raw/1/76', behindMs), 'first')
  const redriven = takeFromRetryTopic(headersOfRedrive({ timestampMs: behindMs }), nowMs)
  assert.equal(window.admit(placed('x'), redriven.source, redriven.timestampMs), 'first')
  assert.equal(window.admit(placed('a'), 'orders.raw/1/78', behindMs + 1_000), 'duplicate')
})

/** An input whose records were sent at these times; those below the floor are done. */
function inputSentAt(topic: string, timesMs: readonly number[], floor = 0): TaskInput {
  const input = new TaskInput(topic, 0)
  input.reset(0, floor)
  const messages = timesMs.map((timeMs, offset) => ({
    ...toMessage(offset, Buffer.alloc(1)),
    timestamp: String(timeMs),
  }))
  assert.ok(input.take(toBatch(0, timesMs.length, timesMs.length, messages)))
  return input
}

test('what waits in several inputs comes out in the order in which it was sent', () => {
  const inputs = new TaskInputs([
    inputSentAt('a', [1, 2, 7, 8, 9]),
    inputSentAt('b', [3, 4, 5]),
    inputSentAt('c', []),
    inputSentAt('d', [6, 10]),
  ])
  const times = (most: number) => inputs.shift(most).map(({ readTimestampMs }) => readTimestampMs)
  assert.deepEqual(times(4), [1, 2, 3, 4])
  assert.deepEqual(times(100), [5, 6, 7, 8, 9, 10])
  assert.deepEqual(times(100), [])
})

test('nothing new comes out before all that is to be remembered, whenever it was sent', () => {
  const inputs = new TaskInputs([
    inputSentAt('a', [1, 2, 3], 0),
    inputSentAt('b', [4, 5, 6], 2),
    inputSentAt('c', [], 0),
  ])
  const taken = () => inputs.shift(100).map(({ readTimestampMs, isDone }) => [readTimestampMs, isDone])
  assert.equal(inputs.isRemembering, true)
  assert.deepEqual(taken(), [
    [4, true],
    [5, true],
  ])
  assert.equal(inputs.isRemembering, false)
  assert.deepEqual(taken(), [
    [1, false],
    [2, false],
    [3, false],
    [6, false],
  ])
})

test('what is to be remembered and is not here yet is waited for', () => {
  const inputs = new TaskInputs([inputSentAt('a', [1]), inputSentAt('b', [2], 5)])
  assert.deepEqual(
    inputs.shift(100).map(({ readTimestampMs }) => readTimestampMs),
    [2],
  )
  assert.equal(inputs.isRemembering, true)
  assert.equal(inputs.ready, 0)
  assert.deepEqual(inputs.shift(100), [])
})
