/**
 * The job of validator.ts as a batch loop of kafkajs written by hand: a fetched batch is decided, its results are sent in one
 * call, its offset is committed. At least once, and the order of what one process does at a time is all that it keeps.
 */
import { Kafka, logLevel } from 'kafkajs'
import { loadConfig } from '../../kafkaConfig.ts'
import { CustomerLookup } from '../../lib/customers.ts'
import { openDatabase, query } from '../../lib/database.ts'
import { createLogger } from '../../lib/log.ts'
import type { TransactionRecord } from '../../lib/transaction.ts'
import { OrderJob } from './orderJob.ts'

const config = loadConfig()
const database = openDatabase(config.databaseUrl, 2, createLogger('batches', config.log))
const customers = new CustomerLookup(database)
const products = await query<{ sku: string }>(database, {
  text: 'SELECT sku FROM products WHERE NOT withdrawn',
})
const skus = new Set(products.map(({ sku }) => sku))
const kafka = new Kafka({ clientId: 'batches', brokers: config.kafka.brokers, logLevel: logLevel.ERROR })
const producer = kafka.producer({ allowAutoTopicCreation: false })
const consumer = kafka.consumer({ groupId: process.env.GROUP! })
const job = new OrderJob(config, 'batches')

await producer.connect()
await consumer.connect()
await consumer.subscribe({ topic: config.topics.ordersRaw.name, fromBeginning: true })
await consumer.run({
  async eachBatch({ batch: { topic, partition, messages } }) {
    const records = messages.map(({ key, value, offset, timestamp }) => ({
      ...{ topic, partition, offset: Number(offset), timestampMs: Number(timestamp), key, value },
    }))
    const decoded = records.map((record) => job.decode(record))
    const known = await customers.find(
      decoded.flatMap((one) => ('order' in one ? [one.order.customerId] : [])),
    )
    const byTopic = new Map<string, (TransactionRecord & { partition: number })[]>()
    for (let index = 0; index < records.length; index++) {
      const one = decoded[index]!
      const result =
        'letter' in one
          ? one.letter
          : job.decide(records[index]!, one.order, {
              customer: known.get(one.order.customerId),
              hasProduct: (sku) => skus.has(sku),
            })
      const results = byTopic.get(result.topic) ?? []
      byTopic.set(result.topic, results)
      results.push({ ...result, partition })
    }
    const topicMessages = [...byTopic].map(([name, results]) => ({ topic: name, messages: results }))
    await producer.sendBatch({ topicMessages })
  },
})
process.once('SIGTERM', () => {
  void Promise.all([consumer.disconnect(), producer.disconnect()]).then(() => process.exit())
})
process.once('disconnect', () => process.exit())
