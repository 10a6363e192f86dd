import kafkajs, { type Admin, type Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { ConfigurationError, describe } from './errors.ts'
import { listTopics, type TopicSettings, type TopicTable } from './topics.ts'

/** How long a topic that was made may take until its partitions have leaders. */
const USABLE_WITHIN_MS = 30_000
const SEGMENT_MS = 24 * 60 * 60 * 1000

export interface TopicReport {
  created: string[]
  unchanged: string[]
  /** Topics that exist and differ from the table, with what differs. Nothing was changed about them. */
  drifted: { topic: string; differences: string[] }[]
}

export interface ReconcileOptions {
  kafka: Kafka
  brokers: string[]
  topics: TopicTable
  partitions: number
  replicationFactor: number
  minInsyncReplicas: number
  print: (line: string) => void
}

/**
 * Creates what is missing and compares the rest.
 *
 * @throws ConfigurationError when the cluster has fewer brokers than the replication asks for
 */
export async function reconcileTopics(options: ReconcileOptions): Promise<TopicReport> {
  const admin = options.kafka.admin({ retry: { retries: 2 } })
  await waitForBroker(admin, options)
  try {
    const { brokers, clusterId } = await admin.describeCluster()
    options.print(
      `Kafka at ${options.brokers.join(', ')}: cluster ${clusterId}, ${count(brokers.length, 'broker')}`,
    )
    if (brokers.length < options.replicationFactor) {
      throw new ConfigurationError(
        `REPLICATION_FACTOR=${options.replicationFactor} needs as many brokers, and the cluster has ${brokers.length}`,
      )
    }
    const wanted = listTopics(options.topics)
    const existing = new Set(await admin.listTopics())
    const missing = wanted.filter(({ name }) => !existing.has(name))
    if (missing.length > 0) await createTopics(admin, missing, options)
    const present = wanted.filter(({ name }) => existing.has(name))
    const drifted = present.length > 0 ? await findDrift(admin, present, options) : []
    return report(wanted, missing, drifted, options.print)
  } finally {
    await admin.disconnect()
  }
}

async function createTopics(
  admin: Admin,
  missing: TopicSettings[],
  options: ReconcileOptions,
): Promise<void> {
  // Answers false when another process was faster, which is as good.
  await admin.createTopics({
    // Ours, below, waits; the one built in gives up at the first partition without a leader.
    waitForLeaders: false,
    topics: missing.map((topic) => ({
      topic: topic.name,
      numPartitions: partitionsOf(topic, options),
      replicationFactor: options.replicationFactor,
      configEntries: Object.entries(settingsOf(topic, options)).map(([name, value]) => ({ name, value })),
    })),
  })
  for (const { name } of missing) {
    const deadlineMs = Date.now() + USABLE_WITHIN_MS
    for (;;) {
      try {
        await admin.fetchTopicOffsets(name)
        break
      } catch (error) {
        if (!isRetriable(error) || Date.now() > deadlineMs) throw error
        await sleep(50)
      }
    }
  }
}

/** What kafkajs has given up on for now counts too: it says of itself that it cannot be retried. */
function isRetriable(error: unknown): boolean {
  const { retriable, name } = error as { retriable?: boolean; name?: string }
  return retriable === true || name === 'KafkaJSNumberOfRetriesExceeded'
}

function partitionsOf(topic: TopicSettings, { partitions }: ReconcileOptions): number {
  return topic.layout === 'single' ? 1 : partitions
}

/** Every setting is explicit, so that a broker with other defaults behaves the same. */
function settingsOf(topic: TopicSettings, { minInsyncReplicas }: ReconcileOptions): Record<string, string> {
  return {
    'cleanup.policy': topic.cleanup,
    // A batch compressed with zstd, lz4 or snappy stops kafkajs for good: the broker writes what it is sent by
    // others uncompressed.
    'compression.type': 'uncompressed',
    'max.message.bytes': String(topic.maxMessageBytes),
    'min.insync.replicas': String(minInsyncReplicas),
    'retention.ms': String(topic.retentionMs),
    // What is past its time goes in whole segments: of a week, by default, so a week of retention would be two.
    ...(topic.cleanup === 'delete' && { 'segment.ms': String(SEGMENT_MS) }),
    // Record timestamps are when the record was sent. A history of 2010 carries its times in `placedAt`: as
    // record timestamps they would have it deleted at once.
    'message.timestamp.type': 'CreateTime',
  }
}

async function findDrift(
  admin: Admin,
  present: TopicSettings[],
  options: ReconcileOptions,
): Promise<TopicReport['drifted']> {
  const names = present.map(({ name }) => name)
  const { topics: metadata } = await admin.fetchTopicMetadata({ topics: names })
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: names.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name })),
  })
  return present.flatMap((topic) => {
    const partitions = metadata.find(({ name }) => name === topic.name)?.partitions ?? []
    const actual = new Map(
      resources
        .find(({ resourceName }) => resourceName === topic.name)
        ?.configEntries.map((entry) => [entry.configName, entry.configValue]),
    )
    const compared: [name: string, actual: string | undefined, wanted: string][] = [
      ['partitions', String(partitions.length), String(partitionsOf(topic, options))],
      ['replication', String(partitions[0]?.replicas.length), String(options.replicationFactor)],
      ...Object.entries(settingsOf(topic, options)).map(
        ([name, value]) => [name, actual.get(name), value] as [string, string | undefined, string],
      ),
    ]
    const differences = compared
      .filter(([, is, should]) => is !== should)
      .map(([name, is, should]) => `${name} is ${is}, the table says ${should}`)
    return differences.length > 0 ? [{ topic: topic.name, differences }] : []
  })
}

function report(
  wanted: TopicSettings[],
  missing: TopicSettings[],
  drifted: TopicReport['drifted'],
  print: (line: string) => void,
): TopicReport {
  const created = missing.map(({ name }) => name)
  const changed = new Set([...created, ...drifted.map(({ topic }) => topic)])
  const unchanged = wanted.map(({ name }) => name).filter((name) => !changed.has(name))
  if (created.length > 0) print(`created ${created.join(', ')}`)
  if (unchanged.length > 0) print(`${count(unchanged.length, 'topic')} as they should be`)
  for (const { topic, differences } of drifted) {
    print(
      `DIFFERS ${topic}: ${differences.join('; ')} (left as it is; change it with Kafka's own tools, see docs/CLI.md)`,
    )
  }
  return { created, unchanged, drifted }
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** Waits for as long as it takes: the broker may be starting beside us. Says so once. */
async function waitForBroker(admin: Admin, { brokers, print }: ReconcileOptions): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await admin.connect()
      return
    } catch (error) {
      if (attempt === 1) print(`waiting for Kafka at ${brokers.join(', ')} (${describe(error)})`)
      await sleep(500)
    }
  }
}
