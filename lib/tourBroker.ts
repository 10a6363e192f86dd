/** What the broker itself tells about groups and logs, for the tour. */
import { randomUUID } from 'node:crypto'
import type { Admin, Kafka } from 'kafkajs'
import { readAssignment } from './assigner.ts'
import { untilAborted } from './async.ts'
import type { Logger } from './log.ts'
import { deleteGroups } from './readerGroups.ts'
import { fetchBounds } from './topicBounds.ts'

export interface GroupMember {
  memberId: string
  /** Of a topic, ascending. */
  partitions: number[]
}

/** The members of a group that is not being shared out anew; undefined while it is. */
export async function fetchMembers(
  admin: Admin,
  group: string,
  topic: string,
): Promise<GroupMember[] | undefined> {
  const { groups } = await admin.describeGroups([group])
  const [described] = groups
  if (described?.state !== 'Stable') return undefined
  return described.members.map(({ memberId, memberAssignment }) => {
    return {
      memberId,
      partitions: [...(readAssignment(memberAssignment)[topic] ?? [])].sort((a, b) => a - b),
    }
  })
}

/** The committed offset of a group in one partition; undefined without one. */
export async function fetchCommitted(
  admin: Admin,
  group: string,
  topic: string,
  partition: number,
): Promise<number | undefined> {
  const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  const offset = Number(found?.partitions.find((each) => each.partition === partition)?.offset ?? -1)
  return offset < 0 ? undefined : offset
}

export interface UncommittedOptions {
  kafka: Kafka
  topic: string
  groupPrefix: string
  log: Logger
  signal: AbortSignal
}

/**
 * The keys of all records that lie in a topic, each as often as it lies there: of open and of aborted transactions too.
 *
 * @returns undefined when the signal came first
 */
export async function readUncommittedKeys(options: UncommittedOptions): Promise<string[] | undefined> {
  const { kafka, topic, groupPrefix, log, signal } = options
  const groupId = `${groupPrefix}-${randomUUID()}`
  const { bounds } = await fetchBounds(kafka, [topic])
  const ends = [...bounds.get(topic)!].filter(([, { low, high }]) => high > low)
  const left = new Map(ends.map(([partition, { high }]) => [partition, high]))
  const keys: string[] = []
  const consumer = kafka.consumer({
    groupId,
    readUncommitted: true,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: 100,
  })
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    const allRead = new Promise<void>((resolve) => {
      // Also of batches that hold nothing but the marks of transactions.
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
        if (Number(lastOffset) + 1 >= (left.get(partition) ?? Number.POSITIVE_INFINITY))
          left.delete(partition)
        if (left.size === 0) resolve()
      })
    })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        const end = bounds.get(topic)!.get(batch.partition)!.high
        for (const { key, offset } of batch.messages) {
          if (Number(offset) < end) keys.push(key?.toString() ?? '')
        }
      },
    })
    await untilAborted(allRead, signal)
  } finally {
    await consumer.disconnect()
    await deleteGroups(kafka, [groupId], log)
  }
  return signal.aborted ? undefined : keys
}
