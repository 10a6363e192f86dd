/**
 * The job of validator.ts with @platformatic/kafka, at least once, on the Node and from the packages beside it (see
 * package.json; CLIENT says where they were installed). Rules, schema and window are those of ours; Node runs the TypeScript
 * as it is.
 *
 * Records are taken from the stream as they come, decided together, sent in one call, and committed when they are acknowledged:
 * a tenth of a second apart, while the next are already decided. JOB=copy: key and value as they are, with the header alone.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { loadConfig } from '../../../kafkaConfig.ts'
import { CustomerLookup } from '../../../lib/customers.ts'
import { openDatabase, query } from '../../../lib/database.ts'
import { createLogger } from '../../../lib/log.ts'
import type { TransactionRecord } from '../../../lib/transaction.ts'
import { copyOf, type JobRecord, OrderJob } from '../orderJob.ts'

/** What is used of the package, which is not installed with ours. */
interface Message {
  topic: string
  partition: number
  offset: bigint
  timestamp: bigint
  key: Buffer | undefined
  value: Buffer | undefined
}
interface Stream {
  on(event: 'data', listener: (message: Message) => void): void
  on(event: 'error', listener: (error: Error) => void): void
  pause(): void
  resume(): void
}
interface Position {
  topic: string
  partition: number
  offset: bigint
  leaderEpoch: number
}
interface Client {
  Consumer: new (
    options: object,
  ) => {
    consume(options: object): Promise<Stream>
    commit(options: { offsets: Position[] }): Promise<void>
  }
  Producer: new (options: object) => { send(options: object): Promise<unknown> }
}

/** Of one partition it becomes one record batch, which has to stay below what the topic takes. */
const MAX_BATCH_RECORDS = 2_000
const PAUSE_ABOVE_RECORDS = 12_000
const COMMIT_INTERVAL_MS = 100

const { Consumer, Producer } = (await import(process.env.CLIENT!)) as Client
const config = loadConfig()
const { ordersRaw, ordersValidated } = config.topics
const database = openDatabase(config.databaseUrl, 2, createLogger('platformatic', config.log))
const customers = new CustomerLookup(database)
const rows = await query<{ sku: string }>(database, { text: 'SELECT sku FROM products WHERE NOT withdrawn' })
const skus = new Set(rows.map(({ sku }) => sku))
const hasProduct = (sku: string) => skus.has(sku)
const job = new OrderJob(config, 'platformatic')

const base = { clientId: 'platformatic', bootstrapBrokers: config.kafka.brokers }
const producer = new Producer({ ...base, acks: -1 })
const consumer = new Consumer({
  ...base,
  groupId: process.env.GROUP!,
  autocommit: false,
  maxWaitTime: 100,
  highWaterMark: 8_192,
})
const stream = await consumer.consume({
  topics: [ordersRaw.name],
  mode: 'committed',
  fallbackMode: 'earliest',
})

const queue: Message[] = []
stream.on('error', (error) => {
  throw error
})
stream.on('data', (message) => {
  if (queue.push(message) > PAUSE_ABOVE_RECORDS) stream.pause()
})
process.once('SIGTERM', () => process.exit())
process.once('disconnect', () => process.exit())

async function validate(records: JobRecord[]) {
  const decoded = records.map((record) => job.decode(record))
  const known = await customers.find(decoded.flatMap((one) => ('order' in one ? [one.order.customerId] : [])))
  const now = new Date().toISOString()
  return decoded.map((one, index) => {
    if ('letter' in one) return one.letter
    const knowledge = { customer: known.get(one.order.customerId), hasProduct }
    return job.decide(records[index]!, one.order, knowledge, now)
  })
}

const headerNames = new Map<string, Buffer>()

function nameBytes(name: string): Buffer {
  let bytes = headerNames.get(name)
  if (!bytes) {
    bytes = Buffer.from(name)
    headerNames.set(name, bytes)
  }
  return bytes
}

function toBinary(headers: TransactionRecord['headers']): Map<Buffer, Buffer> {
  const binary = new Map<Buffer, Buffer>()
  for (const name in headers) binary.set(nameBytes(name), Buffer.from(String(headers[name])))
  return binary
}

const toBytes = (value: Buffer | string | null) => (typeof value === 'string' ? Buffer.from(value) : value)

let sending: Promise<unknown> = Promise.resolve()
const acknowledged = new Map<number, bigint>()
let lastCommitMs = 0
for (;;) {
  if (queue.length === 0) {
    await sending
    await commit()
    await sleep(2)
    continue
  }
  const taken = queue.splice(0, MAX_BATCH_RECORDS)
  if (queue.length < PAUSE_ABOVE_RECORDS / 2) stream.resume()
  const records = taken.map(({ topic, partition, offset, timestamp, key, value }) => ({
    topic,
    partition,
    offset: Number(offset),
    timestampMs: Number(timestamp),
    key: key ?? null,
    value: value ?? null,
  }))
  const results =
    process.env.JOB === 'copy'
      ? records.map((record) => copyOf(record, ordersValidated.name))
      : await validate(records)
  const messages = results.map(({ topic, key, value, headers }, index) => ({
    topic,
    partition: records[index]!.partition,
    key: toBytes(key) ?? undefined,
    value: toBytes(value) ?? undefined,
    headers: toBinary(headers),
  }))
  await sending
  if (Date.now() - lastCommitMs >= COMMIT_INTERVAL_MS) await commit()
  sending = producer.send({ messages }).then(() => {
    for (const { partition, offset } of taken) acknowledged.set(partition, offset + 1n)
  })
  // Awaited at the next turn, when it may long have failed.
  sending.catch(() => undefined)
}

async function commit(): Promise<void> {
  if (acknowledged.size === 0) return
  const offsets = [...acknowledged].map(([partition, offset]) => ({
    ...{ topic: ordersRaw.name, partition, offset, leaderEpoch: 0 },
  }))
  acknowledged.clear()
  await consumer.commit({ offsets })
  lastCommitMs = Date.now()
}
