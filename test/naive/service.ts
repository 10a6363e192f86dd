import { Kafka, logLevel } from 'kafkajs'
import { type Config, loadConfig } from '../../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from '../../lib/database.ts'
import { createLogger } from '../../lib/log.ts'
import { formatPosition, type Outgoing, SOURCE_HEADER } from '../../lib/record.ts'
import type { GroupName, Topic } from '../../lib/topics.ts'

const STOP_DEADLINE_MS = 10_000
/** Messages in hand at a time, each of another partition: one, as kafkajs has it, unless a benchmark asks for more. */
const PARTITIONS_AT_ONCE = Number(process.env.NAIVE_PARTITIONS_AT_ONCE ?? 1)

/** What a message is read from. */
export interface NaiveRecord {
  topic: string
  partition: number
  offset: number
  timestampMs: number
}

export interface NaiveWork<Event> {
  inputs: readonly Topic<Event>[]
  /** @returns what is to be sent, if anything is */
  handle(event: Event, from: NaiveRecord): Promise<Outgoing | undefined>
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
  const { inputs, handle } = await setUp(config, database)
  const topics = new Map(inputs.map((input) => [input.name, input]))
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
  await consumer.subscribe({ topics: [...topics.keys()], fromBeginning: true })
  await consumer.run({
    partitionsConsumedConcurrently: PARTITIONS_AT_ONCE,
    eachMessage: async ({ topic, partition, message }) => {
      let event: Event
      try {
        event = topics.get(topic)!.decode(message.value!)
      } catch (error) {
        console.error(`could not use ${topic}/${partition}/${message.offset}:`, error)
        return
      }
      const { offset, timestamp } = message
      const from = { topic, partition, offset: Number(offset), timestampMs: Number(timestamp) }
      const outgoing = await handle(event, from)
      if (!outgoing) return
      const { topic: output, key, value } = outgoing
      const headers = { [SOURCE_HEADER]: formatPosition(topic, partition, offset) }
      await producer.send({ topic: output, messages: [{ key, value, headers }] })
    },
  })
}
