/** Broker and database of the case *stage*, with the backlog that all peers read. */
import { join } from 'node:path'
import type { Admin, Kafka } from 'kafkajs'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger, type Logger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { type Catalogue, registerAll } from '../lib/registration.ts'
import { createSimulator } from '../lib/simulator.ts'
import { loadOrders } from './backlogLoad.ts'
import type { BenchContext } from './context.ts'

export const STAGE_PREFIX = 'bench.'
/** Customers for those who take them from a topic; ours asks PostgreSQL. */
export const CUSTOMERS_TOPIC = `${STAGE_PREFIX}customers`
const BAD_RATIO = 0.02
const SEED = 20_261_121
const SAMPLE_ORDERS = 10_000

export interface StageCluster {
  config: Config
  kafka: Kafka
  /** Connected. */
  admin: Admin
  log: Logger
  /** What a script needs to find broker, database and topics. */
  env: NodeJS.ProcessEnv
  brokerPid: number
  /** Of PostgreSQL's first process; the others are its children. */
  databasePid: number
  /** In the backlog. */
  orders: number
  /** Of a value, on average. */
  orderBytes: number
  /** A few of the values, one in each line, for Kafka's own tools. */
  sample: string
  /** Forgets what was worked on: the group's offsets, and all that was written. */
  reset(group: string): Promise<void>
  stop(): Promise<void>
}

/** Starts the servers and places the orders. */
export async function startStageCluster(
  { say, signal, dataDir }: Pick<BenchContext, 'say' | 'signal' | 'dataDir'>,
  orders: number,
): Promise<StageCluster> {
  const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
  const broker = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
  const database = await startPostgres({ dataDir, port: postgresPort, onProgress: say }).catch(
    async (error) => {
      await broker.stop()
      throw error
    },
  )
  const stopServers = async () => void (await Promise.all([broker.stop(), database.stop()]))
  try {
    const env = {
      KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
      DATABASE_URL: database.url,
      TOPIC_PREFIX: STAGE_PREFIX,
      INSTANCES_DIR: join(dataDir, 'instances'),
      HEALTH_PORT: '0',
      LOG_LEVEL: 'warn',
      // The settings of whoever runs this must not matter.
      ENV_FILE: join(dataDir, 'no.env'),
    }
    const config = parseConfig(env)
    const log = createLogger('bench', { ...config.log, level: 'warn' })
    const kafka = createKafka(config, 'bench', log)
    await ensureTopics(config, () => undefined)
    const admin = kafka.admin()
    await admin.connect()
    const placed = await place({ config, log, signal, say, admin }, orders)
    return {
      ...{ config, kafka, admin, log, orders, ...placed },
      env: { ...process.env, ...env },
      brokerPid: broker.pid,
      databasePid: database.pid,
      reset: (group) => reset(admin, config, group),
      async stop() {
        await admin.disconnect()
        await stopServers()
      },
    }
  } catch (error) {
    await stopServers()
    throw error
  }
}

interface Placing {
  config: Config
  log: Logger
  signal: AbortSignal
  say(line: string): void
  admin: Admin
}

/** The simulator's orders, its bad ones among them, with all that they draw from registered. */
async function place({ config, log, signal, say, admin }: Placing, orders: number) {
  const startedMs = performance.now()
  const { ordersRaw, products } = config.topics
  await createCustomersTopic(admin)
  const sender = new OrderSender({
    createKafka: () => createKafka(config, 'bench-orders', log),
    brokers: config.kafka.brokers,
    topics: [ordersRaw.name, products.name, CUSTOMERS_TOPIC],
    log,
    signal,
  })
  const database = openDatabase(config.databaseUrl, 1, log)
  try {
    await migrateDatabase(database, log)
    await sender.open()
    const simulator = createSimulator({ seed: SEED, badRatio: BAD_RATIO, runId: 'bench' })
    await registerAll({ config, database, sender, log, signal }, simulator.catalogue)
    await publishCustomers(sender, simulator.catalogue)
    const sample: string[] = []
    let bytes = 0
    const target = { brokers: config.kafka.brokers, topic: ordersRaw.name, signal }
    await loadOrders(simulator, orders, target, (value) => {
      bytes += value.length
      if (sample.length < SAMPLE_ORDERS) sample.push(value.toString())
    })
    const seconds = (performance.now() - startedMs) / 1_000
    say(`placed ${orders} orders of ${Math.round(bytes / orders)} bytes in ${seconds.toFixed(1)} s`)
    return { orderBytes: bytes / orders, sample: sample.join('\n') }
  } finally {
    await sender.close()
    await database.end()
  }
}

async function createCustomersTopic(admin: Admin): Promise<void> {
  await admin.createTopics({
    topics: [
      {
        topic: CUSTOMERS_TOPIC,
        numPartitions: 1,
        configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
      },
    ],
  })
}

async function publishCustomers(sender: OrderSender, { customers }: Catalogue): Promise<void> {
  const records = customers.map(({ id, name, email, tier, country, blocked }) => ({
    key: id,
    value: Buffer.from(JSON.stringify({ id, name, email, tier, country, blocked })),
  }))
  await sender.send(CUSTOMERS_TOPIC, records)
}

/** The topics that a validator writes to. */
export function outputTopics({ topics }: Config): {
  validated: string
  rejected: string
  deadLetters: string
} {
  const { ordersValidated, ordersRejected, deadLetters } = topics
  return {
    validated: ordersValidated.name,
    rejected: ordersRejected.name,
    deadLetters: deadLetters.validator.name,
  }
}

async function reset(admin: Admin, config: Config, group: string): Promise<void> {
  const { groups } = await admin.listGroups()
  if (groups.some(({ groupId }) => groupId === group)) await admin.deleteGroups([group])
  for (const topic of Object.values(outputTopics(config))) {
    const offsets = await admin.fetchTopicOffsets(topic)
    const partitions = offsets
      .filter(({ low, high }) => low !== high)
      .map(({ partition, high }) => ({ partition, offset: high }))
    if (partitions.length > 0) await admin.deleteTopicRecords({ topic, partitions })
  }
}
