// Asks a Kafka cluster who it is.

import { type Admin, Kafka, type KafkaConfig, logLevel } from 'kafkajs'

/** What the brokers ask of a client. */
export type KafkaSecurity = Pick<KafkaConfig, 'ssl' | 'sasl'>

const TIMEOUT_MS = 2_000

/** The cluster that answers there with at least one broker in it, or undefined. Asks once. */
export function askCluster(
  brokers: string[],
  security: KafkaSecurity = {},
): Promise<{ clusterId: string; brokerIds: number[] } | undefined> {
  return ask(brokers, security, async (admin) => {
    const cluster = await admin.describeCluster()
    const brokerIds = cluster.brokers.map(({ nodeId }) => nodeId)
    return brokerIds.length > 0 ? { clusterId: cluster.clusterId, brokerIds } : undefined
  })
}

/** Whether every partition of every topic has all its copies in sync, as this broker sees it. Asks once. */
export async function isInSync(broker: string): Promise<boolean> {
  const inSync = await ask([broker], {}, async (admin) => {
    const { topics } = await admin.fetchTopicMetadata()
    return topics.every(({ partitions }) =>
      partitions.every(({ isr, replicas }) => isr.length === replicas.length),
    )
  })
  return inSync ?? false
}

async function ask<Answer>(
  brokers: string[],
  security: KafkaSecurity,
  question: (admin: Admin) => Promise<Answer>,
): Promise<Answer | undefined> {
  const admin = new Kafka({
    brokers,
    ...security,
    clientId: 'infra',
    logLevel: logLevel.NOTHING,
    connectionTimeout: TIMEOUT_MS,
    requestTimeout: TIMEOUT_MS,
    retry: { retries: 0 },
  }).admin()
  try {
    await admin.connect()
    return await question(admin)
  } catch {
    // It does not answer, or not as Kafka.
    return undefined
  } finally {
    await admin.disconnect().catch(() => {})
  }
}
