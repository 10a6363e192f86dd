/** The Kafka and the PostgreSQL that the tour uses, and what its pipeline is started with. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type BringUpOptions, bringUpInfrastructure, type Infrastructure } from '../infra/bringUp.ts'
import { freePort, isListening, LOOPBACK } from '../infra/ports.ts'
import { postgresUrl } from '../infra/postgres.ts'
import { InfrastructureError } from '../infra/serverProcess.ts'
import { type Config, type Environment, readEnvironment } from '../kafkaConfig.ts'
import { ConfigurationError, describe } from './errors.ts'

export interface TourServers {
  /** Before each topic and group of the tour: `tour-<id>.`, as its database is `tour_<id>`. */
  topicPrefix: string
  brokers: string[]
  /** A database of the tour's own. */
  databaseUrl: string
  /** For what the services write; gone in the end. */
  dataDir: string
  gatewayPort: number
  /** They were brought up for the tour, and have one broker. */
  isSingleBroker: boolean
  /** Takes the database away and stops what was started. */
  close(): Promise<void>
}

const DATA_DIRECTORY = fileURLToPath(new URL('../.data', import.meta.url))
const LOCAL_HOSTS = new Set(['localhost', '127.0.0.1', '[::1]'])
const BRING_UP_ATTEMPTS = 3
/** How the cluster is reached: the tour takes that from the settings, and nothing else. */
const CLUSTER_SETTINGS = /^KAFKA_|^REPLICATION_FACTOR$|^MIN_INSYNC_REPLICAS$/

/**
 * Those that are configured, where they answer: nothing needs to be started then. Else Docker's or, without Docker, a
 * Kafka and a PostgreSQL in a directory of their own; on free ports, so that nobody takes them for servers that stay.
 *
 * @throws PipelineError when there are none, and none can be started
 */
export async function findServers(config: Config, say: (line: string) => void): Promise<TourServers> {
  const id = randomBytes(4).toString('hex')
  const database = `tour_${id}`
  const dataDir = join(DATA_DIRECTORY, database)
  // Not mkdtemp, which closes it to all others: PostgreSQL may have to run as another user.
  await mkdir(dataDir, { recursive: true })
  const removeDirectory = () => rm(dataDir, { recursive: true, force: true })
  try {
    const brokers = await chooseBrokers(config.kafka.brokers)
    const infrastructure = await bringUpPatiently({
      brokers,
      security: config.kafka.security,
      databaseUrl: await chooseDatabase(config.databaseUrl),
      dataDir,
      say,
    })
    const { url } = infrastructure.database
    const close = async () => {
      await infrastructure.stop()
      await removeDirectory()
    }
    try {
      const databaseUrl = await createDatabase(url, database)
      return {
        topicPrefix: `tour-${id}.`,
        brokers,
        databaseUrl,
        dataDir,
        gatewayPort: await freePort(),
        isSingleBroker: brokers !== config.kafka.brokers,
        async close() {
          await dropDatabase(url, database).catch((error) =>
            say(`the database ${database} stays: ${describe(error)}`),
          )
          await close()
        },
      }
    } catch (error) {
      await close()
      throw error
    }
  } catch (error) {
    await removeDirectory()
    throw error
  }
}

/** A broker that has much to do may not answer at once, and is taken for something else then: it is asked again. */
async function bringUpPatiently(options: BringUpOptions): Promise<Infrastructure> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await bringUpInfrastructure(options)
    } catch (error) {
      const isSilent = error instanceof InfrastructureError && error.code === 'NOT_KAFKA'
      if (!isSilent || attempt === BRING_UP_ATTEMPTS) throw error
    }
  }
}

async function chooseBrokers(configured: string[]): Promise<string[]> {
  const isThere = await Promise.all(configured.map((broker) => isTaken(new URL(`kafka://${broker}`), 9092)))
  return isThere.includes(true) ? configured : [`${LOOPBACK}:${await freePort()}`]
}

async function chooseDatabase(configured: string): Promise<string> {
  return (await isTaken(new URL(configured), 5432)) ? configured : postgresUrl(await freePort())
}

/** Somebody listens there, or it is another machine: whoever brings up says what is wrong with that. */
async function isTaken({ hostname, port }: URL, defaultPort: number): Promise<boolean> {
  return (
    !LOCAL_HOSTS.has(hostname) || isListening(Number(port || defaultPort), hostname.replace(/[[\]]/g, ''))
  )
}

async function createDatabase(url: string, name: string): Promise<string> {
  try {
    await administer(url, `CREATE DATABASE ${name}`)
  } catch (error) {
    throw new ConfigurationError(
      `the tour needs a database of its own, and the user of DATABASE_URL cannot create one: ${describe(error)}`,
      { cause: error },
    )
  }
  const own = new URL(url)
  own.pathname = `/${name}`
  return own.href
}

function dropDatabase(url: string, name: string): Promise<void> {
  return administer(url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  // What breaks is told by the statement under way.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(statement)
  } finally {
    await client.end()
  }
}

/** What every process of the tour is started with. */
export function tourEnvironment(
  { topicPrefix, brokers, databaseUrl, dataDir, gatewayPort, isSingleBroker }: TourServers,
  configured: Environment = readEnvironment(),
): Environment {
  const cluster = Object.entries(configured).filter(([name]) => CLUSTER_SETTINGS.test(name))
  return {
    ...process.env,
    ...Object.fromEntries(cluster),
    ...(isSingleBroker && { REPLICATION_FACTOR: '1', MIN_INSYNC_REPLICAS: '1' }),
    KAFKA_BROKERS: brokers.join(','),
    DATABASE_URL: databaseUrl,
    TOPIC_PREFIX: topicPrefix,
    PARTITIONS: '3',
    GATEWAY_URL: `http://${LOOPBACK}:${gatewayPort}`,
    GATEWAY_PORT: String(gatewayPort),
    HEALTH_PORT: '0',
    API_PORT: '0',
    DASHBOARD_PORT: '0',
    INSTANCES_DIR: join(dataDir, 'instances'),
    OUTBOX_DIR: join(dataDir, 'outbox'),
    // No faults but those of the tour, and no order that is given up while somebody reads.
    BAD_ORDER_RATIO: '0',
    GATEWAY_DECLINE_RATIO: '0',
    GATEWAY_ERROR_RATIO: '0',
    GATEWAY_THROTTLE_RATIO: '0',
    GATEWAY_DROP_RATIO: '0',
    DECISION_TIMEOUT_MS: '600000',
    ROUTING: 'direct',
    SEALED_TOPICS: '',
    DEMO_CONTROLS: '',
    LOG_LEVEL: 'info',
    LOG_FORMAT: 'pretty',
    // A file that is not there: the `.env` of whoever takes the tour must not matter.
    ENV_FILE: join(dataDir, 'none.env'),
  }
}
