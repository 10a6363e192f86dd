// A Kafka broker on the local JVM: KRaft, one node, broker and controller in one process, loopback only.

import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs'
import { classArchive, findJava, type Java, KAFKA_VERSION, kafkaClasspath } from './kafkaJars.ts'
import {
  archiveOptions,
  brokerProperties,
  formatState,
  type KafkaFiles,
  kafkaFiles,
  storedClusterId,
} from './kafkaState.ts'
import { becomesFree, freePort, LOOPBACK } from './ports.ts'
import {
  type Exit,
  InfrastructureError,
  logEnd,
  readLogFrom,
  type ServerProcess,
  spawnServer,
  waitUntilUnused,
} from './serverProcess.ts'

export { KAFKA_VERSION, kafkaClasspath } from './kafkaJars.ts'
export { findRunningKafka, KAFKA_SETTINGS, kafkaStatePaths, storedClusterId } from './kafkaState.ts'

export interface KafkaOptions {
  readonly dataDir: string
  readonly port: number
  readonly onProgress?: (line: string) => void
}

export interface RunningKafka {
  readonly port: number
  readonly clusterId: string
  readonly version: string
  readonly pid: number
  readonly logFile: string
  /** Resolves when the broker has ended; never rejects. */
  readonly exited: Promise<Exit>
  stop(): Promise<void>
}

const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 30_000
/** A broker whose launcher was killed is being stopped; how long to wait for that. */
const ORPHAN_TIMEOUT_MS = 20_000

/** The id of the cluster that answers there, or undefined if none does. Asks once. */
export async function askClusterId(
  brokers: string[],
  security: Pick<KafkaConfig, 'ssl' | 'sasl'> = {},
  timeoutMs = 2_000,
): Promise<string | undefined> {
  const admin = new Kafka({
    brokers,
    ...security,
    clientId: 'infra',
    logLevel: logLevel.NOTHING,
    connectionTimeout: timeoutMs,
    requestTimeout: timeoutMs,
    retry: { retries: 0 },
  }).admin()
  try {
    await admin.connect()
    const cluster = await admin.describeCluster()
    return cluster.brokers.length > 0 ? cluster.clusterId : undefined
  } catch {
    return undefined
  } finally {
    await admin.disconnect().catch(() => {})
  }
}

/**
 * Starts the broker and resolves when it answers. Formats the state on first use; keeps it across stops, kills and
 * changes of port. Throws InfrastructureError: JAVA_MISSING, JAVA_TOO_OLD, MAVEN_MISSING, MAVEN_FAILED, PORT_IN_USE,
 * ALREADY_RUNNING, KAFKA_FORMAT_FAILED, KAFKA_START_FAILED.
 */
export async function startKafka({
  dataDir,
  port,
  onProgress = () => {},
}: KafkaOptions): Promise<RunningKafka> {
  const files = kafkaFiles(dataDir)
  await mkdir(resolve(dataDir), { recursive: true })
  await waitUntilUnused(files.pid, files.properties, ORPHAN_TIMEOUT_MS, ({ pid }) => {
    const message = `Kafka already runs on ${resolve(dataDir)} as process ${pid}: use it, or stop it with "kill ${pid}".`
    return new InfrastructureError('ALREADY_RUNNING', message)
  })
  if (!(await becomesFree(port))) {
    throw new InfrastructureError(
      'PORT_IN_USE',
      `Kafka cannot listen on ${LOOPBACK}:${port} because another program does: stop it (see who with "lsof -i :${port}"), or choose another port with --kafka-port.`,
    )
  }
  const [java, classpath] = await Promise.all([findJava(), kafkaClasspath(onProgress)])
  if ((await storedClusterId(dataDir)) === undefined) await formatState(files, java, classpath, onProgress)
  await writeFile(files.properties, brokerProperties(files.state, port, await freePort()))

  const logStart = logEnd(files.log)
  const server = await spawnBroker(files, java, classpath)
  try {
    const clusterId = await waitUntilReady(server, port, dataDir, files, logStart)
    return {
      port,
      clusterId,
      version: KAFKA_VERSION,
      pid: server.pid,
      logFile: files.log,
      exited: server.exited,
      stop: () => server.stop(),
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function spawnBroker(files: KafkaFiles, java: Java, classpath: string): Promise<ServerProcess> {
  const archive = classArchive(java)
  const training = existsSync(archive) ? undefined : `${archive}.${process.pid}-${Date.now()}.tmp`
  const server = await spawnServer({
    command: java.command,
    args: [
      '-Xms256m',
      '-Xmx1g',
      '-XX:+UseG1GC',
      '-XX:MaxGCPauseMillis=20',
      '-XX:+ExitOnOutOfMemoryError',
      '-Djava.awt.headless=true',
      '-Dlog4j2.level=INFO',
      ...archiveOptions(java),
      ...(training === undefined ? [] : [`-XX:ArchiveClassesAtExit=${training}`]),
      '-cp',
      classpath,
      'kafka.Kafka',
      files.properties,
    ],
    logFile: files.log,
    pidFile: files.pid,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: STOP_TIMEOUT_MS,
  })
  if (training === undefined) return server
  const archived = server.exited.then(async (exit) => {
    await keepArchive(training, archive, exit).catch(() => {})
    return exit
  })
  return { ...server, exited: archived, stop: () => server.stop().then(() => archived.then(() => {})) }
}

/** Several brokers may each have written one: the last wins, and what killed launchers left behind goes too. */
async function keepArchive(written: string, archive: string, exit: Exit): Promise<void> {
  // Only a clean exit leaves a whole one.
  if (exit.expected && exit.signal === null) await rename(written, archive)
  const directory = dirname(archive)
  const leftovers = (await readdir(directory)).filter((name) => name.startsWith(`${basename(archive)}.`))
  await Promise.all(leftovers.map((name) => rm(join(directory, name), { force: true })))
}

/** Ready means that our own cluster, told by its id, answers a metadata request with a broker in it. */
async function waitUntilReady(
  server: ServerProcess,
  port: number,
  dataDir: string,
  files: KafkaFiles,
  logStart: number,
): Promise<string> {
  const expected = await storedClusterId(dataDir)
  const deadline = performance.now() + START_TIMEOUT_MS
  while (!server.hasExited()) {
    const clusterId = await askClusterId([`${LOOPBACK}:${port}`])
    if (clusterId !== undefined && clusterId === expected && !server.hasExited()) return clusterId
    if (performance.now() > deadline) {
      throw new InfrastructureError(
        'KAFKA_START_FAILED',
        `Kafka did not answer on ${LOOPBACK}:${port} within ${START_TIMEOUT_MS / 1_000} s: see ${files.log}.`,
      )
    }
    await sleep(25)
  }
  throw explainFailedStart(readLogFrom(files.log, logStart), port, dataDir, files)
}

function explainFailedStart(
  log: string,
  port: number,
  dataDir: string,
  files: KafkaFiles,
): InfrastructureError {
  if (log.includes('Failed to acquire lock on file')) {
    const message = `Another Kafka uses ${files.state}: stop it, or give this one a directory of its own with --data-dir.`
    return new InfrastructureError('ALREADY_RUNNING', message)
  }
  if (/Address already in use|Socket server failed to bind/.test(log)) {
    const message = `Kafka lost ${LOOPBACK}:${port} or its controller's port to another program while it started: try again.`
    return new InfrastructureError('PORT_IN_USE', message)
  }
  const said =
    /^(?:[\w.$]+(?:Exception|Error)|Error[\w ]*): (.+?)(?:\. |\.?$)/m.exec(log)?.[1] ?? 'no error in its log'
  return new InfrastructureError(
    'KAFKA_START_FAILED',
    `Kafka ended while it started (${said}): see ${files.log}; if its state in ${resolve(dataDir)} is damaged, "npm run infra -- --reset" removes it.`,
  )
}
