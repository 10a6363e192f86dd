// Apache Cassandra on the local JVM: one node, loopback only, without JMX. For METADATA_STORE=cassandra.

import { mkdir, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type CassandraFiles, cassandraConfiguration, cassandraFiles, javaFlags } from './cassandraState.ts'
import { findJava, type Java } from './java.ts'
import { type JarSet, jarsClasspath } from './mavenJars.ts'
import { claimPort, freePort, isListening, LOOPBACK } from './ports.ts'
import {
  type Exit,
  InfrastructureError,
  logEnd,
  readLogFrom,
  type ServerProcess,
  spawnServer,
  waitUntilUnused,
} from './serverProcess.ts'

export { cassandraStatePaths, findRunningCassandra } from './cassandraState.ts'

/** Also in cassandra/pom.xml and docker-compose.yml; a test compares the three. */
export const CASSANDRA_VERSION = '5.0.9'

const JARS: JarSet = {
  name: 'Cassandra',
  version: CASSANDRA_VERSION,
  pom: 'infra/cassandra/pom.xml',
  megabytes: 67,
}

/** It does not start on what lies between and after: it calls what these have taken away. */
const JAVAS = [11, 17]

export interface CassandraOptions {
  readonly dataDir: string
  /** Of the native protocol, which clients speak. */
  readonly port: number
  readonly onProgress?: (line: string) => void
}

export interface RunningCassandra {
  /** For CASSANDRA_CONTACT_POINTS. */
  readonly address: string
  readonly port: number
  readonly version: string
  readonly pid: number
  readonly logFile: string
  /** Resolves when the server has ended; never rejects. */
  readonly exited: Promise<Exit>
  /** State is kept. */
  stop(): Promise<void>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
}

/** Seconds on a machine that is idle; a full load beside it takes most of a minute. */
const START_TIMEOUT_MS = 180_000
const STOP_TIMEOUT_MS = 30_000
/** A server whose launcher was killed is being stopped; how long to wait for that. */
const ORPHAN_TIMEOUT_MS = 30_000

/**
 * Starts the server and resolves when it answers. Keeps its state across stops, kills and changes of port. Throws
 * InfrastructureError: JAVA_MISSING, JAVA_UNSUITABLE, MAVEN_MISSING, MAVEN_FAILED, PORT_IN_USE, ALREADY_RUNNING,
 * CASSANDRA_START_FAILED.
 */
export async function startCassandra(options: CassandraOptions): Promise<RunningCassandra> {
  const { dataDir, port, onProgress } = options
  const files = cassandraFiles(dataDir)
  await mkdir(files.state, { recursive: true })
  await waitUntilUnused(files.pid, files.state, ORPHAN_TIMEOUT_MS, ({ pid }) => {
    const message = `Cassandra already runs on ${resolve(dataDir)} as process ${pid}: use it, or stop it with "kill ${pid}".`
    return new InfrastructureError('ALREADY_RUNNING', message)
  })
  await claimPort('Cassandra', port, '--cassandra-port')
  const java = await findCassandraJava()
  const classpath = await jarsClasspath(JARS, onProgress)

  const logStart = logEnd(files.log)
  await writeFile(files.configuration, cassandraConfiguration(files, port, await freePort()))
  const server = await spawnServer({
    command: java.command,
    args: [...javaFlags(files), '-cp', classpath, 'org.apache.cassandra.service.CassandraDaemon'],
    logFile: files.log,
    pidFile: files.pid,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: STOP_TIMEOUT_MS,
  })
  await waitUntilReady(server, port, files, logStart)
  return {
    ...server,
    address: `${LOOPBACK}:${port}`,
    port,
    version: CASSANDRA_VERSION,
    logFile: files.log,
  }
}

/** The Java of JAVA_HOME, else of the PATH. Throws JAVA_MISSING or JAVA_UNSUITABLE. */
export function findCassandraJava(javaHome?: string): Promise<Java> {
  const needs = {
    server: `Cassandra ${CASSANDRA_VERSION}`,
    javas: `Java ${JAVAS.join(' or ')}`,
    accepts: (major: number) => JAVAS.includes(major),
  }
  return findJava(needs, javaHome)
}

/** It listens for clients when all else is done. */
async function waitUntilReady(
  server: ServerProcess,
  port: number,
  files: CassandraFiles,
  logStart: number,
): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS
  while (!server.hasExited()) {
    if ((await isListening(port)) && !server.hasExited()) return
    if (performance.now() > deadline) {
      await server.kill()
      throw new InfrastructureError(
        'CASSANDRA_START_FAILED',
        `Cassandra did not answer on ${LOOPBACK}:${port} within ${START_TIMEOUT_MS / 1_000} s: see ${files.log}.`,
      )
    }
    await sleep(50)
  }
  throw explainFailedStart(readLogFrom(files.log, logStart), port, files)
}

function explainFailedStart(log: string, port: number, files: CassandraFiles): InfrastructureError {
  if (/Address already in use|Failed to bind port/.test(log)) {
    const message = `Cassandra lost ${LOOPBACK}:${port} or its storage port to another program while it started: try again.`
    return new InfrastructureError('PORT_IN_USE', message)
  }
  const said =
    / ERROR \w+: (.+)/.exec(log)?.[1] ??
    /^(?:Error|[\w.]+Exception).*$/m.exec(log)?.[0] ??
    'no error in its log'
  return new InfrastructureError(
    'CASSANDRA_START_FAILED',
    `Cassandra ended while it started (${said}): see ${files.log}; if its state in ${files.state} is damaged, "npm run infra -- --reset" removes it.`,
  )
}
