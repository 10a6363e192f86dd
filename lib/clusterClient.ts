import type { GroupDescription, Kafka } from 'kafkajs'

export interface Coordinator {
  leaveGroup(member: { groupId: string; memberId: string }): Promise<unknown>
  describeGroups(groups: { groupIds: string[] }): Promise<{ groups: GroupDescription[] }>
  /**
   * @param wanted no topics are all that something is committed for; with `requireStable` it fails with
   *   UNSTABLE_OFFSET_COMMIT while an open transaction is about to move one of these offsets
   */
  offsetFetch(wanted: {
    groupId: string
    topics: { topic: string; partitions: { partition: number }[] }[]
    requireStable?: boolean
  }): Promise<{
    responses: {
      topic: string
      partitions: { partition: number; offset: string; metadata: string | null }[]
    }[]
  }>
}

/**
 * The client that kafkajs makes for its own consumers and admins, as far as it is used here: for what its public parts
 * do not offer.
 */
export interface Cluster {
  connect(): Promise<void>
  disconnect(): Promise<void>
  addMultipleTargetTopics(topics: string[]): Promise<void>
  findTopicPartitionMetadata(topic: string): { partitionId: number }[]
  fetchTopicsOffset(
    wanted: {
      topic: string
      partitions: { partition: number }[]
      fromBeginning?: boolean
      fromTimestamp?: number
    }[],
  ): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>
  findGroupCoordinator(options: { groupId: string }): Promise<Coordinator>
}

const READ_UNCOMMITTED = 0

/** A client that sees what is not committed yet, too. Connect it, and disconnect it in the end. */
export function createCluster(kafka: Kafka): Cluster {
  const factory = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  )
  if (!factory) throw new Error('this version of kafkajs has no private:Kafka:createCluster')
  type Factory = (options: { isolationLevel: number; allowAutoTopicCreation: boolean }) => Cluster
  const create = (kafka as unknown as Record<symbol, Factory>)[factory]!
  return create({ isolationLevel: READ_UNCOMMITTED, allowAutoTopicCreation: false })
}
