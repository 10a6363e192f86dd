// What the brokers keep in a data directory: where their files lie, their settings, and the format of a new one.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { classArchive, type Java } from './kafkaJars.ts'
import { LOOPBACK } from './ports.ts'
import { findRunning, InfrastructureError, type RunningServer, run } from './serverProcess.ts'

/** One broker, or three: fewer than three cannot lose one and keep a majority of controllers. */
export const CLUSTER_SIZES = [1, 3]

/**
 * Broker settings that the Compose file repeats as environment; a test compares the two. On three brokers each
 * partition has three copies and a write is acknowledged by at least two, so that any one can be killed.
 */
export function kafkaSettings(brokers: number): Record<string, string> {
  const replicas = String(brokers)
  const inSync = String(brokers === 1 ? 1 : 2)
  return {
    // A misspelt topic is an error and not a topic of one partition.
    'auto.create.topics.enable': 'false',
    // Fewer partitions than the usual 50 start and recover faster.
    'offsets.topic.replication.factor': replicas,
    'offsets.topic.num.partitions': '12',
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': inSync,
    'transaction.state.log.num.partitions': '12',
    'share.coordinator.state.topic.replication.factor': replicas,
    'share.coordinator.state.topic.min.isr': inSync,
    'min.insync.replicas': inSync,
    // A group starts with its first member and does not wait 3 s for others.
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '6000',
    // A broker that was killed can register again only when its old session is over, and until then its partitions
    // have no other leader: 3 s here, for 9 s by default.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    // A week, by time alone: a replay finds what was written. Topics state their own where it matters.
    'log.retention.hours': '168',
    'log.retention.bytes': '-1',
    // 45 days, 7 by default: a group that is away for as long as its dead letters are kept must not do all of them anew.
    'offsets.retention.minutes': '64800',
    ...(brokers === 1 ? {} : LEADERSHIP_SETTINGS),
  }
}

/** Who leads a partition, where there is a choice. */
const LEADERSHIP_SETTINGS: Readonly<Record<string, string>> = {
  // The default, said because all rests on it: a replica that lacks acknowledged records never leads.
  'unclean.leader.election.enable': 'false',
  // A broker that came back leads its share again within half a minute, for five minutes by default.
  'auto.leader.rebalance.enable': 'true',
  'leader.imbalance.check.interval.seconds': '30',
  // Followers of a new leader ask it at once: until they do, nothing that it is given is acknowledged. 1 s by default.
  'replica.fetch.backoff.ms': '200',
  // How long a silent controller is waited for before another is elected; 2 s by default.
  'controller.quorum.fetch.timeout.ms': '1000',
}

/** Three of them together need not much more memory than is usual for one. */
export function heapOptions(brokers: number): string[] {
  return brokers === 1 ? ['-Xms256m', '-Xmx1g'] : ['-Xms128m', '-Xmx512m']
}

export interface KafkaFiles {
  readonly state: string
  readonly properties: string
  readonly log: string
  readonly pid: string
}

/** The files of one broker; those of a broker that is alone bear no number. */
export function kafkaFiles(dataDir: string, brokers: number, id: number): KafkaFiles {
  const directory = resolve(dataDir)
  const name = join(directory, brokers === 1 ? 'kafka' : `kafka-${id}`)
  return {
    state: join(directory, 'kafka', brokers === 1 ? '' : String(id)),
    properties: `${name}.properties`,
    log: `${name}.log`,
    pid: `${name}.pid`,
  }
}

function allKafkaFiles(dataDir: string): KafkaFiles[] {
  return CLUSTER_SIZES.flatMap((brokers) =>
    Array.from({ length: brokers }, (_, index) => kafkaFiles(dataDir, brokers, index + 1)),
  )
}

/** What a reset removes. */
export function kafkaStatePaths(dataDir: string): string[] {
  const state = kafkaFiles(dataDir, 1, 1).state
  return [
    state,
    `${state}.new`,
    ...allKafkaFiles(dataDir).flatMap(({ properties, log, pid }) => [properties, log, `${log}.old`, pid]),
  ]
}

/** A broker that runs on this data directory, if one does. */
export async function findRunningKafka(dataDir: string): Promise<RunningServer | undefined> {
  const brokers = allKafkaFiles(dataDir).map(({ pid, properties }) => findRunning(pid, properties))
  return (await Promise.all(brokers)).find((running) => running !== undefined)
}

/** The cluster that this data directory was formatted for, or undefined before the first start. */
export async function storedCluster(
  dataDir: string,
): Promise<{ clusterId: string; brokers: number } | undefined> {
  const { state } = kafkaFiles(dataDir, 1, 1)
  const nodes = (await readdir(state).catch(() => [])).filter((name) => /^\d+$/.test(name))
  const text = await readFile(join(state, nodes[0] ?? '', 'meta.properties'), 'utf8').catch(() => '')
  const clusterId = /^cluster\.id=(.+)$/m.exec(text)?.[1]
  return clusterId === undefined ? undefined : { clusterId, brokers: Math.max(1, nodes.length) }
}

/** One member of a cluster: broker and controller in one process. */
export interface KafkaMember {
  readonly id: number
  readonly port: number
  readonly controllerPort: number
  readonly files: KafkaFiles
}

/**
 * The quorum is static (controller.quorum.voters) and not stored in the log, as `--standalone` and
 * `--initial-controllers` would have it: so the controllers may take other free ports at each start of the cluster.
 */
export function brokerProperties(
  { id, port, controllerPort, files }: KafkaMember,
  members: readonly KafkaMember[],
): string {
  const properties: Record<string, string> = {
    'process.roles': 'broker,controller',
    'node.id': String(id),
    listeners: `PLAINTEXT://${LOOPBACK}:${port},CONTROLLER://${LOOPBACK}:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://${LOOPBACK}:${port}`,
    'controller.listener.names': 'CONTROLLER',
    'controller.quorum.voters': members
      .map((member) => `${member.id}@${LOOPBACK}:${member.controllerPort}`)
      .join(','),
    // In a properties file a backslash escapes.
    'log.dirs': files.state.replaceAll('\\', '\\\\'),
    ...kafkaSettings(members.length),
  }
  return Object.entries(properties).reduce((text, [name, value]) => `${text}${name}=${value}\n`, '')
}

/** Formats beside the final place and renames all at once, so that a format that was cut short is simply done again. */
export async function formatState(
  dataDir: string,
  members: readonly KafkaMember[],
  java: Java,
  classpath: string,
): Promise<void> {
  const { state } = kafkaFiles(dataDir, 1, 1)
  const unfinished = `${state}.new`
  await rm(unfinished, { recursive: true, force: true })
  // Left there only if somebody removed meta.properties; Kafka's data without it is unusable.
  await rm(state, { recursive: true, force: true })
  const clusterId = newClusterId()
  await Promise.all(
    members.map(async (member) => {
      const { properties } = member.files
      const files = { ...member.files, state: member.files.state.replace(state, unfinished) }
      await writeFile(properties, brokerProperties({ ...member, files }, members))
      const result = await run(java.command, [
        '-XX:TieredStopAtLevel=1',
        ...archiveOptions(java),
        '-cp',
        classpath,
        'kafka.tools.StorageTool',
        'format',
        '--cluster-id',
        clusterId,
        '--config',
        properties,
      ])
      if (result.status === 0) return
      const reason = (result.stderr.trim() || result.stdout.trim()).split('\n')[0] || 'it gave no reason'
      throw new InfrastructureError(
        'KAFKA_FORMAT_FAILED',
        `Kafka could not format ${state} (${reason}): check that the disk has room and that the directory can be written.`,
      )
    }),
  )
  await rename(unfinished, state)
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
