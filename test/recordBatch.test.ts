import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from '../lib/crc32c.ts'
import { CorruptBatchError, type FetchedRecord, readBatches } from '../lib/recordBatchDecoder.ts'
import { type Content, encodeRecordBatch, type RecordToEncode } from '../lib/recordBatchEncoder.ts'
import { ATTRIBUTES_AT, CRC_AT, LAST_OFFSET_DELTA_AT } from '../lib/recordBatchLayout.ts'

const require = createRequire(import.meta.url)
const inKafkajs = (path: string) => require(`kafkajs/src/protocol/${path}`)
const Decoder = inKafkajs('decoder.js') as new (bytes: Buffer) => object
const decodeByKafkajs = inKafkajs('recordBatch/v0/decoder.js') as (decoder: object) => Promise<KafkajsBatch>
const { RecordBatch } = inKafkajs('recordBatch/v0/index.js') as {
  RecordBatch(batch: object): Promise<{ buffer: Buffer }>
}
const encodeRecordByKafkajs = inKafkajs('recordBatch/record/v0/index.js') as (record: object) => object

/** A record as both give it. */
interface Message {
  offset: string
  timestamp: string
  key: Buffer | null
  value: Buffer | null
  headers: object
}
interface KafkajsBatch {
  producerId: string
  producerEpoch: number
  firstSequence: number
  inTransaction: boolean
  isControlBatch: boolean
  lastOffsetDelta: number
  records: Message[]
}

const BASE = {
  isTransactional: false,
  producerId: -1n,
  producerEpoch: 0,
  baseSequence: 0,
  nowMs: 1_700_000_000_000,
}

const text = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  // Around where a length takes another byte.
  fc.constantFrom(63, 64, 8_191, 8_192).map((length) => 'x'.repeat(length)),
  fc.constantFrom('ä'.repeat(32), '\ud800', '漢'.repeat(9_000), '__proto__', 'constructor'),
)
const content = fc.oneof(
  text,
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
)
const nullable = fc.option(content, { freq: 4 })
/** kafkajs cannot write a header that is null. */
const headersOf = (value: fc.Arbitrary<Content>) =>
  fc.dictionary(text, fc.oneof(value, fc.array(value, { minLength: 2, maxLength: 3 })), { maxKeys: 4 })
const recordOf = (value: fc.Arbitrary<Content>) =>
  fc.record({
    key: nullable,
    value: nullable,
    headers: headersOf(value),
    timestamp: fc.integer({ min: 0, max: 8_640_000_000_000_000 / 2 }),
  })

/** As it comes back, whoever reads it: bytes, and nothing where nothing was. */
const bytesOf = (value: Content) => (value == null ? null : Buffer.from(value as string))
function asRead({ key, value, headers = {}, timestamp }: RecordToEncode, offset: number): Message {
  const entries = Object.entries(headers).map(([name, one]) => {
    // A lone surrogate is no text that UTF-8 could hold.
    const written = Buffer.from(name).toString()
    return [written, Array.isArray(one) ? one.map(bytesOf) : bytesOf(one)] as const
  })
  return {
    offset: String(offset),
    timestamp: String(timestamp),
    key: bytesOf(key),
    value: bytesOf(value),
    headers: Object.fromEntries(entries),
  }
}
const pick = ({ offset, timestamp, key, value, headers }: Message | FetchedRecord): Message => ({
  offset,
  timestamp,
  key,
  value,
  headers: { ...headers },
})

function readAll(bytes: Buffer, position = 0): FetchedRecord[] {
  const records: FetchedRecord[] = []
  for (const batch of readBatches(bytes)!) batch.appendTo(records, position)
  return records
}

/** With another base offset, which the broker writes and no checksum covers. */
function at(offset: number, batch: Buffer): Buffer {
  batch.writeBigInt64BE(BigInt(offset), 0)
  return batch
}

/** Distinct names stay distinct when they are written. */
const isWritable = ({ headers }: { headers: object }) =>
  Object.keys(headers).every((name) => /^\P{Surrogate}*$/u.test(name))
/** kafkajs takes what every object inherits for a header that came before. */
const isReadByKafkajs = ({ headers }: { headers: object }) =>
  Object.keys(headers).every((name) => !(name in Object.prototype))

test('CRC-32C is that of the published examples, and that of any part of the bytes', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa)
  assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43)
  const byKafkajs = inKafkajs('recordBatch/crc32C/index.js') as (bytes: Buffer) => number
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), fc.nat(100), (array, a, b) => {
      const bytes = Buffer.from(array)
      const [start, end] = [Math.min(a, b, bytes.length), Math.min(Math.max(a, b), bytes.length)]
      assert.equal(crc32c(bytes, start, end), byKafkajs(bytes.subarray(start, end)))
    }),
  )
})

test('what we write, kafkajs reads', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(recordOf(content).filter(isWritable).filter(isReadByKafkajs), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.bigInt({ min: -1n, max: 2n ** 63n - 1n }),
      fc.integer({ min: -1, max: 32_767 }),
      fc.integer({ min: -1, max: 2 ** 31 - 1 }),
      async (records, isTransactional, producerId, producerEpoch, baseSequence) => {
        const bytes = encodeRecordBatch({
          ...BASE,
          records,
          isTransactional,
          producerId,
          producerEpoch,
          baseSequence,
        })
        const batch = await decodeByKafkajs(new Decoder(bytes))
        assert.deepEqual(batch.records.map(pick), records.map(asRead))
        assert.equal(batch.producerId, String(producerId))
        assert.equal(batch.producerEpoch, producerEpoch)
        assert.equal(batch.firstSequence, baseSequence)
        assert.equal(batch.inTransaction, isTransactional)
        assert.equal(batch.isControlBatch, false)
        assert.equal(batch.lastOffsetDelta, records.length - 1)
      },
    ),
  )
})

test('what kafkajs writes, we read', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(recordOf(content).filter(isWritable), { minLength: 1, maxLength: 8 }),
      fc.nat(1_000_000),
      async (records, offset) => {
        const firstTimestamp = records[0]!.timestamp
        const { buffer } = await RecordBatch({
          records: records.map((record, offsetDelta) =>
            encodeRecordByKafkajs({
              ...record,
              offsetDelta,
              timestampDelta: record.timestamp - firstTimestamp,
            }),
          ),
          firstTimestamp,
          maxTimestamp: Math.max(...records.map(({ timestamp }) => timestamp)),
          lastOffsetDelta: records.length - 1,
        })
        const expected = records.map((record, index) => asRead(record, offset + index))
        assert.deepEqual(readAll(at(offset, buffer)).map(pick), expected)
      },
    ),
  )
})

test('what we write, we read: headers without a value too, offsets beyond 32 bits, and times that go back', () => {
  fc.assert(
    fc.property(
      fc.array(recordOf(nullable).filter(isWritable), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 2 ** 52 }),
      (records, offset) => {
        const bytes = at(offset, encodeRecordBatch({ ...BASE, records }))
        assert.deepEqual(
          readAll(bytes).map(pick),
          records.map((record, index) => asRead(record, offset + index)),
        )
        const [batch] = readBatches(bytes)!
        assert.equal(batch!.lastOffset, offset + records.length - 1)
      },
    ),
  )
})

test('a record without a time of its own gets that of the batch, and one without headers has none', () => {
  const [record] = readAll(encodeRecordBatch({ ...BASE, records: [{ key: 'k', value: Buffer.alloc(0) }] }))
  assert.deepEqual(pick(record!), {
    offset: '0',
    timestamp: String(BASE.nowMs),
    key: Buffer.from('k'),
    value: Buffer.alloc(0),
    headers: {},
  })
})

test('a large batch is written whole, and what comes after it is small again', () => {
  const value = Buffer.alloc(3_000_000, 'large')
  const large = readAll(
    encodeRecordBatch({ ...BASE, records: [{ value }, { value: value.toString('latin1') }] }),
  )
  assert.ok(large.every((record) => record.value!.equals(value)))
  assert.equal(readAll(encodeRecordBatch({ ...BASE, records: [{ value: 'small' }] })).length, 1)
})

test('what no record can hold is refused, and the next batch is none the worse for it', () => {
  const wrong = [{ value: 5 }, { key: {} }, { headers: { name: true } }, { timestamp: 'noon' }]
  for (const record of wrong as unknown as RecordToEncode[]) {
    assert.throws(() => encodeRecordBatch({ ...BASE, records: [{ value: 'good' }, record] }), TypeError)
  }
  assert.equal(readAll(encodeRecordBatch({ ...BASE, records: [{ value: 'good' }] })).length, 1)
})

const several = () =>
  [0, 3, 6].map((offset) =>
    at(
      offset,
      encodeRecordBatch({
        ...BASE,
        records: [
          { key: 'a', value: 'value', headers: { one: 'header', two: ['of', 'them'] } },
          { key: null, value: 'x'.repeat(200) },
          { key: 'ä', value: null },
        ],
      }),
    ),
  )

test('records before the position are left out', () => {
  const bytes = Buffer.concat(several())
  assert.deepEqual(
    readAll(bytes, 4).map(({ position }) => position),
    [4, 5, 6, 7, 8],
  )
})

test('wherever the answer is cut short, the batches before are read and the rest is left', () => {
  const batches = several()
  const bytes = Buffer.concat(batches)
  for (let end = 0; end <= bytes.length; end++) {
    const whole = Math.floor(end / batches[0]!.length)
    assert.equal(readAll(bytes.subarray(0, end)).length, whole * 3, `cut at ${end}`)
  }
})

test('compressed batches and those of an earlier version are for kafkajs to read', () => {
  const [first, second] = several() as [Buffer, Buffer]
  second.writeInt16BE(1, ATTRIBUTES_AT)
  second.writeUInt32BE(crc32c(second, ATTRIBUTES_AT), CRC_AT)
  assert.equal(readBatches(Buffer.concat([first, second])), undefined)
  first.writeInt8(1, 16)
  assert.equal(readBatches(first), undefined)
})

test('a byte that is damaged where the checksum counts is found', () => {
  const [batch] = several() as [Buffer]
  for (let index = ATTRIBUTES_AT; index < batch.length; index++) {
    const damaged = Buffer.from(batch)
    damaged[index]! ^= 1 << (index % 8)
    assert.throws(() => readBatches(damaged), { code: 'CORRUPT_BATCH', message: /offset 0 is damaged/ })
  }
})

test('rubbish with a good checksum gives an error of ours or some records, and never hangs or reads beyond', () => {
  const good = several()[0]!
  fc.assert(
    fc.property(
      fc.array(fc.record({ index: fc.nat(good.length - 1), byte: fc.nat(255) }), {
        minLength: 1,
        maxLength: 12,
      }),
      (damages) => {
        const bytes = Buffer.from(good)
        for (const { index, byte } of damages) if (index >= LAST_OFFSET_DELTA_AT) bytes[index] = byte
        bytes.writeUInt32BE(crc32c(bytes, ATTRIBUTES_AT), CRC_AT)
        try {
          for (const record of readAll(bytes)) pick(record)
        } catch (error) {
          assert.ok(error instanceof CorruptBatchError, String(error))
        }
      },
    ),
    { numRuns: 5_000 },
  )
})
