import type { Kafka } from 'kafkajs'

/** A consumer group and the topics that it works through. */
export interface WorkingGroup {
  group: string
  topics: readonly string[]
}

/**
 * How many records these groups have not committed yet, by Kafka's own books: end of each partition less the
 * committed offset, or less the beginning where nothing is committed.
 */
export async function fetchLag(kafka: Kafka, groups: readonly WorkingGroup[]): Promise<number> {
  const admin = kafka.admin()
  await admin.connect()
  try {
    let lag = 0
    for (const { group, topics } of groups) {
      const committed = await admin.fetchOffsets({ groupId: group, topics: [...topics] })
      for (const { topic, partitions } of committed) {
        const ends = new Map((await admin.fetchTopicOffsets(topic)).map((end) => [end.partition, end]))
        for (const { partition, offset } of partitions) {
          const end = ends.get(partition)!
          lag += Number(end.high) - (Number(offset) < 0 ? Number(end.low) : Number(offset))
        }
      }
    }
    return lag
  } finally {
    await admin.disconnect()
  }
}
