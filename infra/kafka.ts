// A single Kafka broker on the local JVM: a cluster of one.

import { startKafkaCluster } from './kafkaCluster.ts'
import type { Exit } from './serverProcess.ts'

export { KAFKA_VERSION, kafkaClasspath } from './kafkaJars.ts'

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

/** Starts the broker and resolves when it answers. Throws as startKafkaCluster does. */
export async function startKafka({ port, ...options }: KafkaOptions): Promise<RunningKafka> {
  const cluster = await startKafkaCluster({ ...options, brokers: 1, ports: [port] })
  const [node] = cluster.nodes
  if (node === undefined) throw new Error('A cluster of one broker started without it.')
  const { clusterId, version, stop } = cluster
  const { pid, logFile, exited } = node
  return { port, clusterId, version, pid, logFile, exited, stop }
}
