import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { type Coordinator, createCluster } from './clusterClient.ts'
import { type OffsetMetadata, parseMetadata } from './transaction.ts'

const FIRST_WAIT_MS = 5
const MAX_WAIT_MS = 100

export interface StableOffset extends OffsetMetadata {
  /** -1 when nothing was committed yet. */
  offset: number
}

interface StableOffsetsOptions {
  kafka: Kafka
  group: string
  partition: number
  inputs: readonly { topic: string }[]
  /** Awaited for the transactional id of each owner before: is to end what it has left open, if it is gone. */
  fence(writer: string | undefined): Promise<void>
  signal: AbortSignal
}

/**
 * The offsets that a group has committed for one partition of these topics, by topic, once no open transaction is about to
 * move them (KIP-447).
 *
 * @throws whatever kafkajs throws when the group cannot be asked
 */
export async function fetchStableOffsets(options: StableOffsetsOptions): Promise<Map<string, StableOffset>> {
  const { kafka, group, fence, signal } = options
  const cluster = createCluster(kafka)
  await cluster.connect()
  try {
    const coordinator = await cluster.findGroupCoordinator({ groupId: group })
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, MAX_WAIT_MS)) {
      // Each time: an owner that was still a member may be gone by now.
      const before = await askFor(coordinator, options, false)
      for (const writer of new Set([...before.values()].map(({ writer }) => writer))) await fence(writer)
      try {
        return await askFor(coordinator, options, true)
      } catch (error) {
        if ((error as { type?: string }).type !== 'UNSTABLE_OFFSET_COMMIT') throw error
      }
      signal.throwIfAborted()
      await sleep(waitMs, signal)
    }
  } finally {
    await cluster.disconnect()
  }
}

/** @throws UNSTABLE_OFFSET_COMMIT while an open transaction is about to move one of them, if they must be stable */
async function askFor(
  coordinator: Coordinator,
  { group, partition, inputs }: StableOffsetsOptions,
  requireStable: boolean,
): Promise<Map<string, StableOffset>> {
  const topics = inputs.map(({ topic }) => ({ topic, partitions: [{ partition }] }))
  const { responses } = await coordinator.offsetFetch({ groupId: group, topics, requireStable })
  return new Map(
    responses.map(({ topic, partitions: [found] }) => [
      topic,
      { offset: Number(found!.offset), ...parseMetadata(found!.metadata) },
    ]),
  )
}
