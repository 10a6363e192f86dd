/**
 * The job of validator.ts as demos usually write it, with kafkajs as it comes: a message is taken, its customer and its products
 * are looked up with one statement each, its result is sent, and some time later its offset is committed. At least once.
 *
 * JOB=copy: key and value as they are, with the header alone.
 */
import { Kafka, logLevel } from 'kafkajs'
import { loadConfig } from '../../kafkaConfig.ts'
import { openDatabase, query } from '../../lib/database.ts'
import type { Customer, OrderPlaced } from '../../lib/events.ts'
import { createLogger } from '../../lib/log.ts'
import type { TransactionRecord } from '../../lib/transaction.ts'
import { copyOf, type JobKnowledge, type JobRecord, OrderJob } from './orderJob.ts'

const config = loadConfig()
const { ordersRaw, ordersValidated } = config.topics
const database = openDatabase(config.databaseUrl, 4, createLogger('naive', config.log))
const kafka = new Kafka({ clientId: 'naive', brokers: config.kafka.brokers, logLevel: logLevel.ERROR })
const producer = kafka.producer({ allowAutoTopicCreation: false })
const consumer = kafka.consumer({ groupId: process.env.GROUP! })
const job = new OrderJob(config, 'naive')

async function lookUp({ customerId, items }: OrderPlaced): Promise<JobKnowledge> {
  const [found] = await query<Customer & { blocked: boolean }>(database, {
    name: 'customer-of-order',
    text: 'SELECT id, name, email, tier, country, blocked FROM customers WHERE id = $1',
    values: [customerId],
  })
  const products = await query<{ sku: string }>(database, {
    name: 'products-of-order',
    text: 'SELECT sku FROM products WHERE sku = ANY($1) AND NOT withdrawn',
    values: [items.map(({ sku }) => sku)],
  })
  const skus = new Set(products.map(({ sku }) => sku))
  if (!found) return { customer: undefined, hasProduct: (sku) => skus.has(sku) }
  const { blocked, ...customer } = found
  return { customer: { customer, blocked }, hasProduct: (sku) => skus.has(sku) }
}

async function validate(record: JobRecord): Promise<TransactionRecord> {
  const decoded = job.decode(record)
  if ('letter' in decoded) return decoded.letter
  return job.decide(record, decoded.order, await lookUp(decoded.order))
}

await producer.connect()
await consumer.connect()
await consumer.subscribe({ topic: ordersRaw.name, fromBeginning: true })
await consumer.run({
  // As often as the others.
  autoCommitInterval: 100,
  async eachMessage({ topic, partition, message: { key, value, offset, timestamp } }) {
    const record = { topic, partition, offset: Number(offset), timestampMs: Number(timestamp), key, value }
    const result = process.env.JOB === 'copy' ? copyOf(record, ordersValidated.name) : await validate(record)
    await producer.send({ topic: result.topic, messages: [{ ...result, partition }] })
  },
})
process.once('SIGTERM', () => {
  void Promise.all([consumer.disconnect(), producer.disconnect()]).then(() => process.exit())
})
process.once('disconnect', () => process.exit())
