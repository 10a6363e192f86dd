import { Kafka, logLevel } from 'kafkajs'
import { type Config, loadConfig } from '../../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from '../../lib/database.ts'
import { createLogger } from '../../lib/log.ts'
import { formatPosition, type Outgoing, SOURCE_HEADER } from '../../lib/record.ts'
import type { GroupName, Topic } from '../../lib/topics.ts'

const STOP_DEADLINE_MS = 10_000

export interface NaiveWork<Event> {
  input: Topic<Event>
  handle(event: Event): Promise<Outgoing>
}

/**
 * A service as demos usually write it: a message is taken, worked on, its result is sent, and some time later its
 * offset is committed. At least once, no idempotency, and what cannot be parsed is logged and passed over.
 *
 * It does say in a header what caused each result, so that the auditor can count.
 */
export async function runNaively<Event>(
  group: GroupName,
  setUp: (config: Config, database: Database) => NaiveWork<Event> | Promise<NaiveWork<Event>>,
): Promise<void> {
  const config = loadConfig()
  const log = createLogger(group, config.log)
  const database = openDatabase(config.databaseUrl, 8, log)
  await migrateDatabase(database, log)
  const { input, handle } = await setUp(config, database)
  const { brokers, sessionTimeoutMs } = config.kafka
  const kafka = new Kafka({ clientId: group, brokers, logLevel: logLevel.ERROR, retry: { retries: 20 } })
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  const consumer = kafka.consumer({ groupId: config.topicPrefix + group, sessionTimeout: sessionTimeoutMs })
  const stop = () => {
    // What it has not finished by then is lost.
    setTimeout(() => process.exit(), STOP_DEADLINE_MS).unref()
    void Promise.all([consumer.disconnect(), producer.disconnect()]).then(() => process.exit())
  }
  process.once('SIGTERM', stop)
  process.once('disconnect', stop)
  // Somebody starts it again.
  consumer.on(consumer.events.CRASH, ({ payload }) => !payload.restart && process.exit(1))

  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topic: input.name, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ topic, partition, message }) => {
      let event: Event
      try {
        event = input.decode(message.value!)
      } catch (error) {
        console.error(`could not use ${topic}/${partition}/${message.offset}:`, error)
        return
      }
      const { topic: output, key, value } = await handle(event)
      const headers = { [SOURCE_HEADER]: formatPosition(topic, partition, message.offset) }
      await producer.send({ topic: output, messages: [{ key, value, headers }] })
    },
  })
}
