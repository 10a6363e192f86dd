// One member of a Kafka cluster on the local JVM: broker and controller in one process, loopback only.

import { existsSync } from 'node:fs'
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { askCluster } from './askCluster.ts'
import { classArchive, type Java } from './kafkaJars.ts'
import {
  archiveOptions,
  brokerProperties,
  heapOptions,
  type KafkaFiles,
  type KafkaMember,
} from './kafkaState.ts'
import { LOOPBACK } from './ports.ts'
import {
  type Exit,
  InfrastructureError,
  logEnd,
  readLogFrom,
  type ServerProcess,
  spawnServer,
} from './serverProcess.ts'

export interface ClusterFacts {
  readonly clusterId: string
  readonly members: readonly KafkaMember[]
  readonly java: Java
  readonly classpath: string
}

/** Of a broker that is well seconds go by; of three, beside a full load on a small machine, most of a minute. */
const START_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 30_000

export interface NodeProcess extends ServerProcess {
  /** Resolves when the broker answers and is in the cluster. Throws PORT_IN_USE, ALREADY_RUNNING, KAFKA_START_FAILED. */
  untilReady(): Promise<void>
}

/** Starts the process; resolves when it runs, which is before it is ready. */
export async function spawnNode(member: KafkaMember, cluster: ClusterFacts): Promise<NodeProcess> {
  await writeFile(member.files.properties, brokerProperties(member, cluster.members))
  const logStart = logEnd(member.files.log)
  const server = await spawnBroker(member, cluster)
  return { ...server, untilReady: () => waitUntilReady(server, member, cluster.clusterId, logStart) }
}

async function spawnBroker({ id, files }: KafkaMember, cluster: ClusterFacts): Promise<ServerProcess> {
  const { java, classpath, members } = cluster
  const archive = classArchive(java)
  const isTraining = id === 1 && !existsSync(archive)
  const written = `${archive}.${process.pid}-${Date.now()}.tmp`
  const server = await spawnServer({
    command: java.command,
    args: [
      ...heapOptions(members.length),
      '-XX:+UseG1GC',
      // The optimising compiler took a third of the first minutes, and what it made was not faster at our rates.
      '-XX:TieredStopAtLevel=1',
      '-XX:MaxGCPauseMillis=20',
      '-XX:+ExitOnOutOfMemoryError',
      '-Djava.awt.headless=true',
      '-Dlog4j2.level=INFO',
      ...archiveOptions(java),
      ...(isTraining ? [`-XX:ArchiveClassesAtExit=${written}`] : []),
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
  if (!isTraining) return server
  const exited = server.exited.then(async (exit) => {
    await keepArchive(written, archive, exit).catch(() => {})
    return exit
  })
  return { ...server, exited, stop: () => server.stop().then(() => exited.then(() => {})) }
}

/** Several brokers may each have written one: the last wins, and what killed launchers left behind goes too. */
async function keepArchive(written: string, archive: string, exit: Exit): Promise<void> {
  // Only a clean exit leaves a whole one.
  if (exit.expected && exit.signal === null) await rename(written, archive)
  const directory = dirname(archive)
  const leftovers = (await readdir(directory)).filter((name) => name.startsWith(`${basename(archive)}.`))
  await Promise.all(leftovers.map((name) => rm(join(directory, name), { force: true })))
}

/**
 * Ready means that our own cluster, told by its id, answers on the port of this broker and counts it in: one that is
 * still fenced is not listed.
 */
async function waitUntilReady(
  server: ServerProcess,
  { id, port, files }: KafkaMember,
  clusterId: string,
  logStart: number,
): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS
  while (!server.hasExited()) {
    const found = await askCluster([`${LOOPBACK}:${port}`])
    if (found?.clusterId === clusterId && found.brokerIds.includes(id) && !server.hasExited()) return
    if (performance.now() > deadline) {
      throw new InfrastructureError(
        'KAFKA_START_FAILED',
        `Kafka did not answer on ${LOOPBACK}:${port} within ${START_TIMEOUT_MS / 1_000} s: see ${files.log}.`,
      )
    }
    await sleep(25)
  }
  throw explainFailedStart(readLogFrom(files.log, logStart), port, files)
}

function explainFailedStart(log: string, port: number, files: KafkaFiles): InfrastructureError {
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
    `Kafka ended while it started (${said}): see ${files.log}; if its state in ${files.state} is damaged, "npm run infra -- --reset" removes it.`,
  )
}
