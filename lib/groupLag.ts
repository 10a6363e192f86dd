import type { Admin, Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { JUDGE_NAMES, SETTLERS } from './judges.ts'
import { fetchBounds } from './topicBounds.ts'
import { type GroupName, judgeTopics, type TopicTable } from './topics.ts'

const MAX_ATTEMPTS = 20
const RETRY_MS = 100

/** A consumer group and the topics that it works through. */
export interface WorkingGroup {
  group: string
  topics: readonly string[]
}

/** The groups that work on each order, in the order in which orders flow, with all that each of them reads. */
export function workingGroups(topicPrefix: string, topics: TopicTable): WorkingGroup[] {
  const { ordersRaw, ordersValidated, ordersCompleted, retries } = topics
  const group = (name: GroupName, inputs: readonly { name: string }[]) => ({
    group: topicPrefix + name,
    topics: [...inputs, retries[name]].map((topic) => topic.name),
  })
  const stages = [
    [group('validator', [ordersRaw])],
    JUDGE_NAMES.map((name) => group(name, [ordersValidated])),
    [group('fulfilment', [ordersValidated, ...judgeTopics(topics)])],
    SETTLERS.map((name) => group(name, [ordersCompleted])),
  ]
  if (!topics.isRouted) return stages.flat()
  // It comes before each of them, and in the end.
  const router = group('command-center', [topics.inbox])
  return [...stages.flatMap((stage) => [router, ...stage]), router, group('metadata-log', [topics.hops])]
}

/** How far a group has got in one partition. */
export interface GroupPosition {
  group: string
  topic: string
  partition: number
  /** The committed offset, or the beginning of the log where nothing is committed. */
  committed: number
  /** The end of the log, records of open transactions included. */
  end: number
}

/**
 * How far these groups have got, by Kafka's own books. Each group is looked at after those before it: when they are
 * listed in the order in which records flow and none has anything left, nothing is left at all.
 */
export async function fetchPositions(
  kafka: Kafka,
  groups: readonly WorkingGroup[],
): Promise<GroupPosition[]> {
  const admin = kafka.admin()
  await admin.connect()
  try {
    const positions: GroupPosition[] = []
    for (const { group, topics } of groups) {
      const committed = await fetchOffsets(admin, group, topics)
      const { bounds } = await fetchBounds(kafka, topics)
      for (const { topic, partitions } of committed) {
        for (const { partition, offset } of partitions) {
          const { low, high } = bounds.get(topic)!.get(partition)!
          positions.push({
            group,
            topic,
            partition,
            committed: Number(offset) < 0 ? low : Number(offset),
            end: high,
          })
        }
      }
    }
    return positions
  } finally {
    await admin.disconnect()
  }
}

/** A coordinator that is just taking a group over says so, and kafkajs does not ask again. */
async function fetchOffsets(admin: Admin, groupId: string, topics: readonly string[]) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await admin.fetchOffsets({ groupId, topics: [...topics] })
    } catch (error) {
      if ((error as { retriable?: boolean }).retriable !== true || attempt === MAX_ATTEMPTS) throw error
      await sleep(RETRY_MS)
    }
  }
}

/** How many records these groups have not committed yet. */
export async function fetchLag(kafka: Kafka, groups: readonly WorkingGroup[]): Promise<number> {
  const positions = await fetchPositions(kafka, groups)
  return positions.reduce((lag, { committed, end }) => lag + end - committed, 0)
}
