// Kafka on the local JVM: a KRaft cluster of one broker or of three, each a process that can be killed and started again.

import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { isInSync } from './askCluster.ts'
import { findJava, KAFKA_VERSION, kafkaClasspath } from './kafkaJars.ts'
import { type ClusterFacts, type NodeProcess, spawnNode } from './kafkaNode.ts'
import { formatState, type KafkaMember, kafkaFiles, storedCluster } from './kafkaState.ts'
import { claimPort, freePorts, LOOPBACK } from './ports.ts'
import { type Exit, InfrastructureError, waitUntilUnused } from './serverProcess.ts'

export interface KafkaClusterOptions {
  readonly dataDir: string
  /** 1 or 3. */
  readonly brokers: number
  /** One for each broker; any that are free if not given. */
  readonly ports?: readonly number[]
  readonly onProgress?: (line: string) => void
}

/** Broker and controller in one process. */
export interface KafkaNode {
  readonly id: number
  readonly port: number
  readonly logFile: string
  /** Of the process that runs now or ran last. */
  readonly pid: number
  /** Resolves when the process that runs now has ended; never rejects. */
  readonly exited: Promise<Exit>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
  /**
   * Starts it again on the same state and ports; resolves when it answers and the cluster counts it in. One that runs
   * is left alone. Throws InfrastructureError: PORT_IN_USE, KAFKA_START_FAILED (also when it is stopped meanwhile).
   */
  start(): Promise<void>
}

export interface KafkaCluster {
  /** For KAFKA_BROKERS: host:port of each broker. */
  readonly addresses: string[]
  readonly clusterId: string
  readonly version: string
  readonly nodes: readonly KafkaNode[]
  /** Whether every partition has all its copies in sync, as each broker sees it; false while a broker is away. */
  isInSync(): Promise<boolean>
  /** Stops all brokers, with their state kept; resolves when they are gone. */
  stop(): Promise<void>
}

/** A broker whose launcher was killed is being stopped; how long to wait for that. */
const ORPHAN_TIMEOUT_MS = 20_000

/**
 * Starts the brokers and resolves when all answer and are in the cluster. Formats the state on first use; keeps it
 * across stops, kills and changes of port. Throws InfrastructureError: JAVA_MISSING, JAVA_UNSUITABLE, MAVEN_MISSING,
 * MAVEN_FAILED, PORT_IN_USE, ALREADY_RUNNING, OTHER_CLUSTER_SIZE, KAFKA_FORMAT_FAILED, KAFKA_START_FAILED.
 */
export async function startKafkaCluster(options: KafkaClusterOptions): Promise<KafkaCluster> {
  const { dataDir, onProgress = () => {} } = options
  const members = await planMembers(options)
  await mkdir(resolve(dataDir), { recursive: true })
  await refuseOtherSize(dataDir, members.length)
  await Promise.all(members.map((member) => claim(member, dataDir)))
  const [java, classpath] = await Promise.all([findJava(), kafkaClasspath(onProgress)])
  if ((await storedCluster(dataDir)) === undefined) {
    onProgress('Formatting the Kafka state (once) ...')
    await formatState(dataDir, members, java, classpath)
  }
  const clusterId = (await storedCluster(dataDir))?.clusterId ?? ''
  const facts = { clusterId, members, java, classpath }

  const spawned = members.map(async (member) => new Node(member, facts, await spawnNode(member, facts)))
  const nodes = await Promise.all(spawned)
  try {
    // Side by side: the first answers only when a majority of the controllers is there.
    await Promise.all(nodes.map((node) => node.untilReady()))
  } catch (error) {
    await Promise.all(nodes.map((node) => node.kill()))
    throw error
  }
  const addresses = members.map(({ port }) => `${LOOPBACK}:${port}`)
  return {
    addresses,
    clusterId,
    version: KAFKA_VERSION,
    nodes,
    isInSync: async () => (await Promise.all(addresses.map(isInSync))).every(Boolean),
    stop: async () => void (await Promise.all(nodes.map((node) => node.stop()))),
  }
}

async function planMembers({ dataDir, brokers, ports }: KafkaClusterOptions): Promise<KafkaMember[]> {
  const free = await freePorts(brokers * 2)
  return Array.from({ length: brokers }, (_, index) => ({
    id: index + 1,
    port: ports?.[index] ?? (free[index] as number),
    controllerPort: free[brokers + index] as number,
    files: kafkaFiles(dataDir, brokers, index + 1),
  }))
}

/** Copies are made when a topic is, and voters are known to all of them: a cluster does not grow by being started. */
async function refuseOtherSize(dataDir: string, brokers: number): Promise<void> {
  const stored = await storedCluster(dataDir)
  if (stored === undefined || stored.brokers === brokers) return
  throw new InfrastructureError(
    'OTHER_CLUSTER_SIZE',
    `The Kafka state in ${resolve(dataDir)} is that of a cluster of ${stored.brokers} and not of ${brokers}: start it with --brokers ${stored.brokers}, give this one a directory of its own with --data-dir, or remove the state with "npm run infra -- --reset".`,
  )
}

/** Nobody else runs on these files or listens on this port. */
async function claim({ port, files }: KafkaMember, dataDir: string): Promise<void> {
  await waitUntilUnused(files.pid, files.properties, ORPHAN_TIMEOUT_MS, ({ pid }) => {
    const message = `Kafka already runs on ${resolve(dataDir)} as process ${pid}: use it, or stop it with "kill ${pid}".`
    return new InfrastructureError('ALREADY_RUNNING', message)
  })
  await claimPort('Kafka', port, '--kafka-port')
}

class Node implements KafkaNode {
  readonly #member: KafkaMember
  readonly #cluster: ClusterFacts
  #process: NodeProcess
  /** Settled when no process is being made: one that is would escape a stop. */
  #spawning: Promise<unknown> = Promise.resolve()
  #isStopped = false

  constructor(member: KafkaMember, cluster: ClusterFacts, process: NodeProcess) {
    this.#member = member
    this.#cluster = cluster
    this.#process = process
  }

  get id(): number {
    return this.#member.id
  }

  get port(): number {
    return this.#member.port
  }

  get logFile(): string {
    return this.#member.files.log
  }

  get pid(): number {
    return this.#process.pid
  }

  get exited(): Promise<Exit> {
    return this.#process.exited
  }

  untilReady(): Promise<void> {
    return this.#process.untilReady()
  }

  kill(): Promise<void> {
    return this.#process.kill()
  }

  async start(): Promise<void> {
    if (this.#isStopped || !this.#process.hasExited()) return
    await claimPort('Kafka', this.port, '--kafka-port')
    this.#spawning = this.#spawn()
    await this.#spawning
    await this.untilReady()
  }

  async #spawn(): Promise<void> {
    if (!this.#isStopped) this.#process = await spawnNode(this.#member, this.#cluster)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#spawning.catch(() => {})
    await this.#process.stop()
  }
}
