/** Broker and database with a backlog of orders that grows as told, and validators that work it off: for the case growth. */
import { join } from 'node:path'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger, type Logger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { registerAll } from '../lib/registration.ts'
import { createSimulator } from '../lib/simulator.ts'
import { listTopics } from '../lib/topics.ts'
import { loadOrders } from './backlogLoad.ts'
import type { BenchContext } from './context.ts'
import { prepareStreams } from './stageJava.ts'

const BAD_RATIO = 0.02
const SEED = 8

export interface BacklogCluster {
  /** Makes topics of their own, and registers what orders draw from. */
  createBacklog(name: string, partitions: number): Promise<Backlog>
  brokerPid: number
  stop(): Promise<void>
}

export interface Backlog {
  config: Config
  log: Logger
  /** For the scripts that work on it. */
  env: NodeJS.ProcessEnv
  /** Placed so far. */
  orders: number
  /** Places so many more. */
  grow(orders: number): Promise<void>
  /** Deletes its topics, which take about a kilobyte for each order. */
  remove(): Promise<void>
}

export async function startBacklogCluster(
  context: Pick<BenchContext, 'say' | 'signal' | 'dataDir'>,
): Promise<BacklogCluster> {
  const { say, signal, dataDir } = context
  await prepareStreams(say)
  const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
  const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
  const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress: say }).catch(
    async (error) => {
      await kafka.stop()
      throw error
    },
  )
  const settings = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgres.url,
    INSTANCES_DIR: join(dataDir, 'instances'),
    HEALTH_PORT: '0',
    LOG_LEVEL: 'warn',
    // The settings of whoever runs this must not matter.
    ENV_FILE: join(dataDir, 'no.env'),
  }
  return {
    brokerPid: kafka.pid,
    createBacklog: (name, partitions) =>
      createBacklog(
        { ...settings, TOPIC_PREFIX: `${name}.`, PARTITIONS: String(partitions) },
        { say, signal, runId: name },
      ),
    stop: async () => void (await Promise.all([kafka.stop(), postgres.stop()])),
  }
}

async function createBacklog(
  settings: Record<string, string>,
  { say, signal, runId }: Pick<BenchContext, 'say' | 'signal'> & { runId: string },
): Promise<Backlog> {
  const config = parseConfig(settings)
  const log = createLogger('bench', { ...config.log, level: 'warn' })
  await ensureTopics(config, () => undefined)
  const { ordersRaw, products } = config.topics
  const simulator = createSimulator({ seed: SEED, badRatio: BAD_RATIO, runId })
  const sender = new OrderSender({
    createKafka: () => createKafka(config, 'bench-catalogue', log),
    brokers: config.kafka.brokers,
    topics: [ordersRaw.name, products.name],
    log,
    signal,
  })
  const database = openDatabase(config.databaseUrl, 1, log)
  try {
    await migrateDatabase(database, log)
    await sender.open()
    await registerAll({ config, database, sender, log, signal }, simulator.catalogue)
  } finally {
    await sender.close()
    await database.end()
  }
  const backlog: Backlog = { config, log, env: { ...process.env, ...settings }, orders: 0, grow, remove }
  return backlog

  async function remove(): Promise<void> {
    const admin = createKafka(config, 'bench-removal', log).admin()
    await admin.connect()
    try {
      await admin.deleteTopics({ topics: listTopics(config.topics).map(({ name }) => name) })
    } finally {
      await admin.disconnect()
    }
  }

  async function grow(orders: number): Promise<void> {
    const startedMs = performance.now()
    await loadOrders(simulator, orders, { brokers: config.kafka.brokers, topic: ordersRaw.name, signal })
    backlog.orders += orders
    say(`placed ${orders} orders in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`)
  }
}
