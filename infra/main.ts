// npm run infra: Kafka and PostgreSQL on this machine, without Docker, in the foreground; or Cassandra alone.
//
// State is kept in .data/ from one run to the next. Flags: see --help.

import { access, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  cassandraStatePaths,
  findRunningCassandra,
  type RunningCassandra,
  startCassandra,
} from './cassandra.ts'
import { type KafkaCluster, startKafkaCluster } from './kafkaCluster.ts'
import { CLUSTER_SIZES, findRunningKafka, kafkaStatePaths } from './kafkaState.ts'
import { keepKafkaRunning, unexpectedEnd } from './keepRunning.ts'
import { findRunningPostgres, postgresStatePaths, type RunningPostgres, startPostgres } from './postgres.ts'
import { InfrastructureError } from './serverProcess.ts'

const HELP = `npm run infra [-- flags]: Kafka and PostgreSQL in the foreground, without Docker

  --only kafka|postgres   start one of the two
  --only cassandra        start Cassandra instead, for METADATA_STORE=cassandra
  --brokers 1|3           how many Kafka brokers; default 1. Three keep three copies, and any one may be killed
  --kafka-port N          default 9092; of three brokers the first, and the two ports after it are the others'
  --postgres-port N       default 5432
  --cassandra-port N      default 9042
  --data-dir DIRECTORY    where the state and the logs lie; default .data of the project
  --json                  print one line of JSON when ready (progress goes to stderr)
  --reset                 remove the state of all and exit (what "docker compose down -v" is to Docker)
  --help                  this

Ctrl-C stops them and keeps the state.`

const DEFAULT_DATA_DIRECTORY = fileURLToPath(new URL('../.data', import.meta.url))

interface Flags {
  readonly kafka: boolean
  readonly postgres: boolean
  readonly cassandra: boolean
  /** One for each broker. */
  readonly kafkaPorts: number[]
  readonly postgresPort: number
  readonly cassandraPort: number
  readonly dataDir: string
  readonly json: boolean
  readonly reset: boolean
  readonly help: boolean
}

function readFlags(args: string[]): Flags {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string' },
      brokers: { type: 'string', default: '1' },
      'kafka-port': { type: 'string', default: '9092' },
      'postgres-port': { type: 'string', default: '5432' },
      'cassandra-port': { type: 'string', default: '9042' },
      'data-dir': { type: 'string', default: DEFAULT_DATA_DIRECTORY },
      json: { type: 'boolean', default: false },
      reset: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const { only } = values
  if (only !== undefined && !['kafka', 'postgres', 'cassandra'].includes(only)) {
    throw new InfrastructureError('BAD_FLAG', `--only is "${only}": it must be kafka, postgres or cassandra.`)
  }
  return {
    kafka: only === undefined || only === 'kafka',
    postgres: only === undefined || only === 'postgres',
    cassandra: only === 'cassandra',
    kafkaPorts: Array.from({ length: readBrokers(values.brokers) }, (_, index) =>
      readPort('--kafka-port', values['kafka-port'], index),
    ),
    postgresPort: readPort('--postgres-port', values['postgres-port']),
    cassandraPort: readPort('--cassandra-port', values['cassandra-port']),
    dataDir: resolve(values['data-dir']),
    json: values.json,
    reset: values.reset,
    help: values.help,
  }
}

function readBrokers(text: string): number {
  const brokers = CLUSTER_SIZES.find((size) => String(size) === text)
  if (brokers !== undefined) return brokers
  throw new InfrastructureError(
    'BAD_FLAG',
    `--brokers is "${text}": it must be ${CLUSTER_SIZES.join(' or ')}.`,
  )
}

/** The port that the flag names, or the n-th after it. */
function readPort(flag: string, text: string, further = 0): number {
  const port = Number(text) + further
  if (!Number.isInteger(port) || Number(text) < 1 || port > 65_535) {
    throw new InfrastructureError(
      'BAD_FLAG',
      `${flag} is "${text}": it must be a port number from 1 to ${65_535 - further}.`,
    )
  }
  return port
}

/** Removes only what the launchers have made: the jars, and whatever else lies in the data directory, stay. */
async function reset(dataDir: string): Promise<void> {
  const servers = [
    { name: 'Kafka', server: await findRunningKafka(dataDir) },
    { name: 'PostgreSQL', server: await findRunningPostgres(dataDir) },
    { name: 'Cassandra', server: await findRunningCassandra(dataDir) },
  ]
  const running = servers.flatMap(({ name, server }) =>
    server === undefined ? [] : [{ name, pid: server.launcherPid ?? server.pid }],
  )
  const first = running[0]
  if (first !== undefined) {
    const names = running.map(({ name }) => name).join(' and ')
    throw new InfrastructureError(
      'ALREADY_RUNNING',
      `Nothing was removed from ${dataDir} because ${names} still use it: press Ctrl-C where they run, or run "kill ${first.pid}".`,
    )
  }
  const candidates = [kafkaStatePaths, postgresStatePaths, cassandraStatePaths].flatMap((paths) =>
    paths(dataDir),
  )
  const present = await Promise.all(
    candidates.map((path) =>
      access(path).then(
        () => true,
        () => false,
      ),
    ),
  )
  await Promise.all(candidates.map((path) => rm(path, { recursive: true, force: true })))
  const removed = present.some(Boolean)
  console.log(
    removed ? `Removed the state of all servers in ${dataDir}.` : `Nothing to remove in ${dataDir}.`,
  )
}

interface Running {
  readonly kafka: KafkaCluster | undefined
  readonly postgres: RunningPostgres | undefined
  readonly cassandra: RunningCassandra | undefined
  stop(): Promise<void>
}

/** Starts what the flags ask for, side by side; if one fails, the others are stopped again. */
async function start(flags: Flags, onProgress: (line: string) => void): Promise<Running> {
  const { dataDir, kafkaPorts: ports } = flags
  const results = await Promise.allSettled([
    flags.kafka ? startKafkaCluster({ dataDir, brokers: ports.length, ports, onProgress }) : undefined,
    flags.postgres ? startPostgres({ dataDir, port: flags.postgresPort, onProgress }) : undefined,
    flags.cassandra ? startCassandra({ dataDir, port: flags.cassandraPort, onProgress }) : undefined,
  ])
  const [kafka, postgres, cassandra] = results
  const started = results.flatMap((result) => (result.status === 'fulfilled' && result.value) || [])
  const stop = async (): Promise<void> => void (await Promise.all(started.map((server) => server.stop())))
  if (kafka.status === 'rejected' || postgres.status === 'rejected' || cassandra.status === 'rejected') {
    await stop()
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    throw failures.length === 1 ? failures[0] : new AggregateError(failures)
  }
  return { kafka: kafka.value, postgres: postgres.value, cassandra: cassandra.value, stop }
}

function announce({ kafka, postgres, cassandra }: Running, json: boolean): void {
  if (json) {
    const facts = {
      kafka: kafka && describeKafka(kafka),
      postgres: postgres && {
        url: postgres.url,
        version: postgres.version,
        pid: postgres.pid,
        logFile: postgres.logFile,
      },
      cassandra: cassandra && {
        address: cassandra.address,
        version: cassandra.version,
        pid: cassandra.pid,
        logFile: cassandra.logFile,
      },
    }
    console.log(JSON.stringify(facts))
    return
  }
  if (kafka) {
    const logs = kafka.nodes.map(({ logFile }) => logFile).join(', ')
    const where = kafka.addresses.join(', ')
    console.log(`Kafka ${kafka.version} on ${where}, cluster ${kafka.clusterId}, log ${logs}`)
  }
  if (postgres) console.log(`PostgreSQL ${postgres.version} on ${postgres.url}, log ${postgres.logFile}`)
  if (cassandra) {
    console.log(`Cassandra ${cassandra.version} on ${cassandra.address}, log ${cassandra.logFile}`)
    console.log(`In .env:\n\nMETADATA_STORE=cassandra\nCASSANDRA_CONTACT_POINTS=${cassandra.address}\n`)
  }
  if (kafka && kafka.nodes.length > 1) {
    console.log(`In .env:\n\n${environmentFor(kafka)}\n`)
    console.log('A broker that is killed is started again.')
  }
  console.log(kafka && postgres ? 'Ctrl-C stops both.' : 'Ctrl-C stops it.')
}

function describeKafka({ addresses, version, clusterId, nodes }: KafkaCluster) {
  const processes = nodes.map(({ id, pid, logFile }) => ({ id, pid, logFile }))
  const alone = nodes.length === 1 ? nodes[0] : undefined
  return {
    brokers: addresses,
    version,
    clusterId,
    ...(alone === undefined ? { nodes: processes } : { pid: alone.pid, logFile: alone.logFile }),
  }
}

function environmentFor({ addresses }: KafkaCluster): string {
  return `KAFKA_BROKERS=${addresses.join(',')}\nREPLICATION_FACTOR=3\nMIN_INSYNC_REPLICAS=2`
}

/** Resolves with the first signal to stop. Listening starts with the call, and no later signal ends the process. */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolveSignal) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolveSignal)
  })
}

/** Resolves with a sentence when a server has ended for good without having been told to. */
function failure({ kafka, postgres, cassandra }: Running, say: (line: string) => void): Promise<string> {
  return Promise.race([
    ...(kafka ? [keepKafkaRunning(kafka, say)] : []),
    ...(postgres ? [unexpectedEnd('PostgreSQL', postgres)] : []),
    ...(cassandra ? [unexpectedEnd('Cassandra', cassandra)] : []),
  ])
}

async function main(): Promise<number> {
  const flags = readFlags(process.argv.slice(2))
  if (flags.help) {
    console.log(HELP)
    return 0
  }
  if (flags.reset) {
    await reset(flags.dataDir)
    return 0
  }
  const signal = firstSignal()
  const inform = flags.json ? console.error : console.log
  signal.then(() => inform('Stopping ...'))
  // A signal during the start is obeyed when the start is done, seconds later: then there is nothing half begun.
  const running = await start(flags, inform)
  announce(running, flags.json)
  const reason = await Promise.race([signal, failure(running, inform)])
  const wasSignal = reason.startsWith('SIG')
  if (!wasSignal) console.error(reason)
  await running.stop()
  return wasSignal ? 0 : 1
}

function explain(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(explain).join('\n')
  if (error instanceof InfrastructureError) return error.message
  if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
    return `${error.message.replace(/\.?$/, '.')} See "npm run infra -- --help".`
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(explain(error))
  process.exitCode = 1
}
process.exit()
