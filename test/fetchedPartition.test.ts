import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from '../lib/crc32c.ts'
import { type AbortedTransaction, FetchedPartition } from '../lib/fetchedPartition.ts'
import { readBatches } from '../lib/recordBatchDecoder.ts'
import { encodeRecordBatch } from '../lib/recordBatchEncoder.ts'
import {
  ATTRIBUTES_AT,
  CONTROL,
  CRC_AT,
  LAST_OFFSET_DELTA_AT,
  TRANSACTIONAL,
} from '../lib/recordBatchLayout.ts'

const require = createRequire(import.meta.url)
const Decoder = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => object
const decodeByKafkajs = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (
  decoder: object,
) => Promise<{ records: object[] }>
const KafkajsBatch = require('kafkajs/src/consumer/batch.js') as new (
  topic: string,
  fetchedOffset: string,
  data: object,
) => FetchedPartition

/** A log as the broker keeps it, with what is to be seen of it. */
interface Log {
  batches: { bytes: Buffer; offset: number; lastOffset: number }[]
  /** Offsets of committed records and of those written without a transaction. */
  visible: number[]
  aborted: (AbortedTransaction & { lastOffset: number })[]
  end: number
}

type Step =
  | { do: 'write'; producer: number; count: number }
  | { do: 'commit' | 'abort'; producer: number }
  | { do: 'write plainly'; count: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      producer: fc.nat(2),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('commit' as const, 'abort' as const), producer: fc.nat(2) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('write plainly' as const),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
)

/** The type of a control record is the second number in its key: 0 for abort, 1 for commit. */
const marker = (how: 'commit' | 'abort') => Buffer.from([0, 0, 0, how === 'abort' ? 0 : 1])
/** What our own records have for a key: the bytes of an abort marker, which they must not be taken for. */
const KEY = marker('abort')

function encode(offset: number, producerId: bigint, count: number, attributes: number, key = KEY): Buffer {
  const records = Array.from({ length: count }, () => ({ key, value: 'v' }))
  const isTransactional = (attributes & TRANSACTIONAL) !== 0
  const bytes = encodeRecordBatch({
    records,
    isTransactional,
    producerId,
    producerEpoch: 0,
    baseSequence: 0,
    nowMs: 0,
  })
  bytes.writeBigInt64BE(BigInt(offset), 0)
  bytes.writeInt16BE(attributes, ATTRIBUTES_AT)
  return seal(bytes)
}

function seal(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(crc32c(bytes, ATTRIBUTES_AT), CRC_AT)
  return bytes
}

function write(steps: readonly Step[]): Log {
  const log: Log = { batches: [], visible: [], aborted: [], end: 0 }
  const open = new Map<number, number[]>()
  const append = (bytes: Buffer, count: number): number[] => {
    const offset = log.end
    log.end += count
    log.batches.push({ bytes, offset, lastOffset: log.end - 1 })
    return Array.from({ length: count }, (_, index) => offset + index)
  }
  const finish = (producer: number, how: 'commit' | 'abort') => {
    const offsets = open.get(producer)
    if (!offsets) return
    open.delete(producer)
    append(encode(log.end, BigInt(producer), 1, TRANSACTIONAL | CONTROL, marker(how)), 1)
    if (how === 'commit') log.visible.push(...offsets)
    else {
      const [firstOffset] = offsets
      log.aborted.push({
        producerId: String(producer),
        firstOffset: String(firstOffset),
        lastOffset: log.end - 1,
      })
    }
  }
  for (const step of steps) {
    if (step.do === 'write') {
      const bytes = encode(log.end, BigInt(step.producer), step.count, TRANSACTIONAL)
      open.set(step.producer, [...(open.get(step.producer) ?? []), ...append(bytes, step.count)])
    } else if (step.do === 'write plainly') {
      log.visible.push(...append(encode(log.end, -1n, step.count, 0), step.count))
    } else finish(step.producer, step.do)
  }
  // What is still open is beyond what a read-committed reader is given.
  for (const producer of [...open.keys()]) finish(producer, 'abort')
  log.visible.sort((a, b) => a - b)
  return log
}

/** What a broker answers: from the batch on that holds the offset, with what was aborted from there on, in its own order. */
function answer(log: Log, offset: number) {
  return {
    bytes: log.batches.filter(({ lastOffset }) => lastOffset >= offset).map(({ bytes }) => bytes),
    data: {
      partition: 3,
      highWatermark: String(log.end),
      abortedTransactions: log.aborted.filter(({ lastOffset }) => lastOffset >= offset),
    },
  }
}

const fetch = (log: Log, offset: number) => {
  const { bytes, data } = answer(log, offset)
  return new FetchedPartition('topic', String(offset), data, readBatches(Buffer.concat(bytes))!)
}
const offsetsOf = ({ messages }: FetchedPartition) => messages.map(({ offset }) => Number(offset))

test('whoever writes and aborts among others, what is committed is seen and nothing else, from any offset on', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(20), (steps, offset) => {
      const log = write(steps)
      fc.pre(offset < log.end)
      const seen = fetch(log, offset)
      assert.deepEqual(
        offsetsOf(seen),
        log.visible.filter((one) => one >= offset),
      )
      assert.equal(seen.lastOffset(), String(log.end - 1))
    }),
    { numRuns: 1_000 },
  )
})

test('asked the same, it answers as the batch of kafkajs does', async () => {
  const questions = [
    ...(['isEmpty', 'isEmptyIncludingFiltered', 'isEmptyDueToFiltering', 'isEmptyControlRecord'] as const),
    ...(['isEmptyDueToLogCompactedMessages', 'firstOffset', 'lastOffset'] as const),
    ...(['offsetLag', 'offsetLagLow'] as const),
  ]
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.nat(12), async (steps, offset) => {
      const log = write(steps)
      const { bytes, data } = answer(log, offset)
      const decoded = await Promise.all(bytes.map((one) => decodeByKafkajs(new Decoder(one))))
      const messages = decoded.flatMap(({ records }) => records)
      const theirs = new KafkajsBatch('topic', String(offset), { ...data, messages })
      const ours = fetch(log, offset)
      for (const question of questions) assert.deepEqual(ours[question](), theirs[question](), question)
      assert.deepEqual(offsetsOf(ours), offsetsOf(theirs))
      for (const field of ['topic', 'partition', 'highWatermark', 'fetchedOffset'] as const) {
        assert.deepEqual(ours[field], theirs[field])
      }
    }),
  )
})

test('a batch that compaction has emptied, or taken the last records of, is passed whole', () => {
  const empty = encode(10, 1n, 0, 0)
  empty.writeInt32BE(4, LAST_OFFSET_DELTA_AT)
  const shortened = encode(15, 1n, 2, 0)
  shortened.writeInt32BE(9, LAST_OFFSET_DELTA_AT)
  const data = { partition: 0, highWatermark: '40', abortedTransactions: null }
  const fetchFrom = (offset: number, ...batches: Buffer[]) =>
    new FetchedPartition('topic', String(offset), data, readBatches(Buffer.concat(batches.map(seal)))!)

  const both = fetchFrom(10, empty, shortened)
  assert.deepEqual(offsetsOf(both), [15, 16])
  assert.equal(both.lastOffset(), '24')

  const alone = fetchFrom(12, empty)
  assert.equal(alone.isEmptyDueToFiltering(), true)
  assert.equal(alone.firstOffset(), '12')
  assert.equal(alone.lastOffset(), '14')

  const rest = fetchFrom(20, shortened)
  assert.equal(rest.isEmptyDueToFiltering(), true)
  assert.equal(rest.lastOffset(), '24')
})
