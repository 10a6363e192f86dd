// What the broker keeps in a data directory: where its files lie, its settings, and the format of a new one.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { classArchive, type Java } from './kafkaJars.ts'
import { LOOPBACK } from './ports.ts'
import { findRunning, InfrastructureError, run } from './serverProcess.ts'

/** Broker settings that docker-compose.yml repeats as environment; a test compares the two. */
export const KAFKA_SETTINGS: Readonly<Record<string, string>> = {
  // A misspelt topic is an error and not a topic of one partition.
  'auto.create.topics.enable': 'false',
  // One broker can keep one copy. Fewer partitions than the usual 50 start and recover faster.
  'offsets.topic.replication.factor': '1',
  'offsets.topic.num.partitions': '12',
  'transaction.state.log.replication.factor': '1',
  'transaction.state.log.min.isr': '1',
  'transaction.state.log.num.partitions': '12',
  'share.coordinator.state.topic.replication.factor': '1',
  'share.coordinator.state.topic.min.isr': '1',
  'min.insync.replicas': '1',
  // A group starts with its first member and does not wait 3 s for others.
  'group.initial.rebalance.delay.ms': '0',
  'group.min.session.timeout.ms': '6000',
  // A broker that was killed can register again only when its old session is over: 3 s here, for 9 s by default.
  'broker.session.timeout.ms': '3000',
  'broker.heartbeat.interval.ms': '500',
  // A week, by time alone: a replay finds what was written. Topics state their own where it matters.
  'log.retention.hours': '168',
  'log.retention.bytes': '-1',
}

export interface KafkaFiles {
  readonly state: string
  readonly properties: string
  readonly log: string
  readonly pid: string
}

export function kafkaFiles(dataDir: string): KafkaFiles {
  const directory = resolve(dataDir)
  return {
    state: join(directory, 'kafka'),
    properties: join(directory, 'kafka.properties'),
    log: join(directory, 'kafka.log'),
    pid: join(directory, 'kafka.pid'),
  }
}

/** What a reset removes. */
export function kafkaStatePaths(dataDir: string): string[] {
  const files = kafkaFiles(dataDir)
  return [files.state, `${files.state}.new`, files.properties, files.log, `${files.log}.old`, files.pid]
}

/** The broker that runs on this data directory, if one does. */
export function findRunningKafka(dataDir: string): ReturnType<typeof findRunning> {
  const files = kafkaFiles(dataDir)
  return findRunning(files.pid, files.properties)
}

/** The cluster id of this data directory, or undefined before the first start. */
export async function storedClusterId(dataDir: string): Promise<string | undefined> {
  const text = await readFile(join(kafkaFiles(dataDir).state, 'meta.properties'), 'utf8').catch(() => '')
  return /^cluster\.id=(.+)$/m.exec(text)?.[1]
}

/**
 * The quorum is static (controller.quorum.voters) and not stored in the log, as `--standalone` would have it: so the
 * controller may take another free port at each start.
 */
export function brokerProperties(stateDirectory: string, port: number, controllerPort: number): string {
  const properties: Record<string, string> = {
    'process.roles': 'broker,controller',
    'node.id': '1',
    listeners: `PLAINTEXT://${LOOPBACK}:${port},CONTROLLER://${LOOPBACK}:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://${LOOPBACK}:${port}`,
    'controller.listener.names': 'CONTROLLER',
    'controller.quorum.voters': `1@${LOOPBACK}:${controllerPort}`,
    // In a properties file a backslash escapes.
    'log.dirs': stateDirectory.replaceAll('\\', '\\\\'),
    ...KAFKA_SETTINGS,
  }
  return Object.entries(properties).reduce((text, [name, value]) => `${text}${name}=${value}\n`, '')
}

/** Formats beside the final place and renames, so that a format that was cut short is simply done again. */
export async function formatState(
  files: KafkaFiles,
  java: Java,
  classpath: string,
  say: (line: string) => void,
): Promise<void> {
  say('Formatting the Kafka state (once) ...')
  const unfinished = `${files.state}.new`
  await rm(unfinished, { recursive: true, force: true })
  // Left there only if somebody removed meta.properties; Kafka's data without it is unusable.
  await rm(files.state, { recursive: true, force: true })
  await writeFile(files.properties, brokerProperties(unfinished, 9092, 9093))
  const result = await run(java.command, [
    '-XX:TieredStopAtLevel=1',
    ...archiveOptions(java),
    '-cp',
    classpath,
    'kafka.tools.StorageTool',
    'format',
    '--cluster-id',
    newClusterId(),
    '--config',
    files.properties,
  ])
  if (result.status !== 0) {
    const reason = (result.stderr.trim() || result.stdout.trim()).split('\n')[0] || 'it gave no reason'
    throw new InfrastructureError(
      'KAFKA_FORMAT_FAILED',
      `Kafka could not format ${files.state} (${reason}): check that the disk has room and that the directory can be written.`,
    )
  }
  await rename(unfinished, files.state)
}

/** 16 random bytes in base64url, as Kafka makes them: one that starts with "-" would be taken for an option. */
function newClusterId(): string {
  for (;;) {
    const id = randomBytes(16).toString('base64url')
    if (!id.startsWith('-')) return id
  }
}

export function archiveOptions(java: Java): string[] {
  const archive = classArchive(java)
  return existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : []
}
