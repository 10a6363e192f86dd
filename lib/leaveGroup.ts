import type { Kafka } from 'kafkajs'
import { createCluster } from './clusterClient.ts'

/**
 * Takes a member out of its group. A consumer of kafkajs that crashes does not say so to its group, which then hands
 * out nothing to its successor before the session of the dead one is over.
 *
 * @throws whatever kafkajs throws when the group cannot be asked
 */
export async function leaveGroup(kafka: Kafka, groupId: string, memberId: string): Promise<void> {
  const cluster = createCluster(kafka)
  await cluster.connect()
  try {
    const coordinator = await cluster.findGroupCoordinator({ groupId })
    await coordinator.leaveGroup({ groupId, memberId })
  } catch (error) {
    // Its session was over before.
    if ((error as { type?: unknown }).type !== 'UNKNOWN_MEMBER_ID') throw error
  } finally {
    await cluster.disconnect()
  }
}
