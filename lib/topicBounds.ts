import type { Kafka } from 'kafkajs'
import { createCluster } from './clusterClient.ts'
import { ConfigurationError } from './errors.ts'

/** Where the log of a partition begins, and where it ends. */
export interface Bounds {
  low: number
  /** The high watermark: also past records of a transaction that is still open. */
  high: number
}

/** By topic, then by partition. */
export type OffsetsByPartition = ReadonlyMap<string, ReadonlyMap<number, number>>
export type BoundsByPartition = ReadonlyMap<string, ReadonlyMap<number, Bounds>>

/**
 * What a person is told when {@link fetchBounds} failed because a topic does not exist; undefined when it failed for
 * another reason.
 */
export function missingTopicsError(
  error: unknown,
  topics: readonly string[],
): ConfigurationError | undefined {
  if ((error as { type?: unknown }).type !== 'UNKNOWN_TOPIC_OR_PARTITION') return undefined
  const message = `${topics.join(', ')}: not all of these topics exist, run ensureTopics() of kafkaConfig.ts (see README)`
  return new ConfigurationError(message, { cause: error })
}

/**
 * The bounds of all partitions of these topics.
 *
 * The admin client of kafkajs always asks as a read-committed reader, so its `high` is the last stable offset. A
 * transaction that has been acknowledged still lies beyond that until its markers are written, a moment later:
 * whoever reads "to the end" would miss it. Hence this goes below the admin client, to the one call that can ask
 * for the high watermark.
 *
 * @param timestampMs asks also for the first offset that is not older, in `since`; the end when there is none
 * @throws KafkaJSProtocolError of type UNKNOWN_TOPIC_OR_PARTITION when a topic does not exist
 */
export async function fetchBounds(
  kafka: Kafka,
  topics: readonly string[],
  timestampMs?: number,
): Promise<{ bounds: BoundsByPartition; since: OffsetsByPartition | undefined }> {
  const cluster = createCluster(kafka)
  await cluster.connect()
  try {
    await cluster.addMultipleTargetTopics([...topics])
    const fetch = async (point: { fromBeginning: boolean } | { fromTimestamp: number }) => {
      const wanted = topics.map((topic) => ({
        topic,
        ...point,
        partitions: cluster.findTopicPartitionMetadata(topic).map((p) => ({ partition: p.partitionId })),
      }))
      return toMap(await cluster.fetchTopicsOffset(wanted))
    }
    // The end first: what is deleted in between only raises the beginning.
    const high = await fetch({ fromBeginning: false })
    const low = await fetch({ fromBeginning: true })
    const byTime = timestampMs === undefined ? undefined : await fetch({ fromTimestamp: timestampMs })
    const bounds = mapPartitions(high, (end, topic, partition) => ({
      low: low.get(topic)!.get(partition)!,
      high: end,
    }))
    const since =
      byTime &&
      mapPartitions(byTime, (offset, topic, partition) =>
        offset >= 0 ? offset : high.get(topic)!.get(partition)!,
      )
    return { bounds, since }
  } finally {
    await cluster.disconnect()
  }
}

function toMap(
  answer: { topic: string; partitions: { partition: number; offset: string }[] }[],
): Map<string, Map<number, number>> {
  return new Map(
    answer.map(({ topic, partitions }) => [
      topic,
      // The broker lists partitions in any order.
      new Map(
        partitions
          .map(({ partition, offset }) => [partition, Number(offset)] as const)
          .sort(([a], [b]) => a - b),
      ),
    ]),
  )
}

function mapPartitions<Result>(
  offsets: OffsetsByPartition,
  change: (offset: number, topic: string, partition: number) => Result,
): Map<string, Map<number, Result>> {
  const entries = [...offsets].map(([topic, partitions]) => {
    const changed = [...partitions].map(
      ([partition, offset]) => [partition, change(offset, topic, partition)] as const,
    )
    return [topic, new Map(changed)] as const
  })
  return new Map(entries)
}
