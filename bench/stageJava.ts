/** What is in Java: the validator with Kafka Streams and the loader, both in bench/peers/streams, and Kafka's own tools. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { findJava } from '../infra/kafkaJars.ts'
import { type JarSet, jarsClasspath } from '../infra/mavenJars.ts'
import { run } from '../infra/serverProcess.ts'
import { within } from '../lib/async.ts'
import { ended } from '../lib/childProcesses.ts'
import { ConfigurationError } from '../lib/errors.ts'

/** Also in its pom.xml. */
const JARS: JarSet = {
  name: 'Kafka-Streams',
  version: '4.2.1',
  pom: 'bench/peers/streams/pom.xml',
  megabytes: 98,
}
const SOURCES = fileURLToPath(new URL('peers/streams', import.meta.url))
const CLASSES = fileURLToPath(new URL('../.data/bench-streams', import.meta.url))
/** The collector that is meant for throughput, and a heap of a fixed bound. */
const JVM_OPTIONS = ['-Xms512m', '-Xmx1g', '-XX:+UseParallelGC']
/** Kafka Streams leaves its group and closes its producers in this time, or is ended. */
const STOP_DEADLINE_MS = 15_000

export interface StreamsPeer {
  guarantee: 'exactly_once_v2' | 'at_least_once'
  threads: number
  job: 'validate' | 'copy'
  brokers: string
  topicPrefix: string
  applicationId: string
  /** Of its own, and empty. */
  dataDir: string
  say(line: string): void
}

/**
 * Fetches the jars and compiles the sources, each if that was not done yet.
 *
 * @throws ConfigurationError when there is no compiler; InfrastructureError when jars cannot be fetched
 */
export async function prepareStreams(say: (line: string) => void): Promise<void> {
  const classpath = await jarsClasspath(JARS, say)
  const sources = (await readdir(SOURCES)).filter((name) => name.endsWith('.java'))
  const paths = sources.map((name) => join(SOURCES, name))
  const changedMs = Math.max(...(await Promise.all(paths.map(async (path) => (await stat(path)).mtimeMs))))
  const compiled = await stat(join(CLASSES, 'StreamsValidator.class')).catch(() => undefined)
  if (compiled && compiled.mtimeMs > changedMs) return
  await mkdir(CLASSES, { recursive: true })
  const { command } = await findJava()
  const compiler = command === 'java' ? 'javac' : join(dirname(command), 'javac')
  const result = await run(compiler, ['-d', CLASSES, '-cp', classpath, ...paths]).catch((cause: unknown) => {
    throw new ConfigurationError(`${compiler} was not found: Kafka Streams is compiled here, install a JDK`, {
      cause,
    })
  })
  if (result.status !== 0) throw new Error(`javac: ${result.stderr}`)
}

/** Ends when its input does, so also when we are killed. {@link prepareStreams} comes first. */
export function startStreams(peer: StreamsPeer): Promise<ChildProcess> {
  const { guarantee, threads, job, brokers, topicPrefix, applicationId, dataDir, say } = peer
  return startJava('StreamsValidator', say, {
    BROKERS: brokers,
    TOPIC_PREFIX: topicPrefix,
    APPLICATION_ID: applicationId,
    GUARANTEE: guarantee,
    THREADS: String(threads),
    STATE_DIR: join(dataDir, 'streams'),
    JOB: job,
  })
}

/** Closes its input, so that it commits what it has done and leaves its group; a signal would end it as it stands. */
export async function stopStreams(child: ChildProcess): Promise<void> {
  child.stdin!.end()
  await within(STOP_DEADLINE_MS, ended(child))
  child.kill('SIGKILL')
  await ended(child)
}

/** Writes to the topic what its input says; see Loader.java. {@link prepareStreams} comes first. */
export function startLoader(brokers: string, topic: string): Promise<ChildProcess> {
  return startJava('Loader', console.error, { BROKERS: brokers, TOPIC: topic })
}

async function startJava(
  main: string,
  say: (line: string) => void,
  env: Record<string, string>,
): Promise<ChildProcess> {
  const classpath = `${CLASSES}:${await jarsClasspath(JARS)}`
  const { command } = await findJava()
  const child = spawn(command, [...JVM_OPTIONS, '-cp', classpath, main], {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C reaches us alone.
    detached: true,
  })
  createInterface({ input: child.stdout }).on('line', say)
  createInterface({ input: child.stderr }).on('line', say)
  return child
}
