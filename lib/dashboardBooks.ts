/** Consumer groups by Kafka's own books: who is in them, what they have committed and what there is. */
import type { GroupDescription, Kafka } from 'kafkajs'
import { readAssignment } from './assigner.ts'
import { type Cluster, type Coordinator, createCluster } from './clusterClient.ts'
import type { DashboardGroup, DashboardMember, DashboardPartition } from './dashboardSnapshot.ts'
import { groupsOf, listTopics, type TopicTable } from './topics.ts'

/** By topic and partition. */
type Offsets = Map<string, Map<number, number>>

export interface GroupBooksOptions {
  /** One that gives up soon: whoever looks wants to know that nobody answers. */
  kafka: Kafka
  topics: TopicTable
  topicPrefix: string
}

/**
 * Keeps its connections and whom to ask, since it asks again and again: one request for all groups, one for each of
 * them and one for the ends of all topics. After an error all of that is made anew.
 */
export class GroupBooks {
  readonly #options: GroupBooksOptions
  readonly #topics: ReadonlySet<string>
  #cluster: Cluster | undefined
  readonly #coordinators = new Map<string, Coordinator>()

  constructor(options: GroupBooksOptions) {
    this.#options = options
    this.#topics = new Set(listTopics(options.topics).map(({ name }) => name))
  }

  /**
   * All groups of the pipeline, with the topics that they have committed in or are assigned at present.
   *
   * Offsets are looked at before the ends, so a lag may be too large by what came in between and is never negative.
   *
   * @throws what kafkajs throws when Kafka does not answer
   */
  async read(): Promise<DashboardGroup[]> {
    try {
      const cluster = await this.#connect()
      const groupIds = groupsOf(this.#options.topics).map((name) => this.#options.topicPrefix + name)
      const descriptions = await this.#describe(cluster, groupIds)
      const committed = new Map<string, Offsets>()
      for (const groupId of groupIds) committed.set(groupId, await this.#fetchCommitted(cluster, groupId))
      const groups = groupIds.map((groupId) => {
        const members = readMembers(descriptions.get(groupId))
        return { groupId, members, committed: this.#complete(cluster, committed.get(groupId)!, members) }
      })
      const ends = await this.#fetchBounds(cluster, groups, false)
      const begins = await this.#fetchBounds(cluster, groups.filter(hasUncommitted), true)
      return groups.map(({ groupId, members, committed }) =>
        toGroup(descriptions.get(groupId), members, listPartitions(committed, { begins, ends }, members), {
          group: groupId.slice(this.#options.topicPrefix.length),
          topicPrefix: this.#options.topicPrefix,
        }),
      )
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async close(): Promise<void> {
    const cluster = this.#cluster
    this.#cluster = undefined
    this.#coordinators.clear()
    await cluster?.disconnect()
  }

  async #connect(): Promise<Cluster> {
    if (this.#cluster) return this.#cluster
    const cluster = createCluster(this.#options.kafka)
    this.#cluster = cluster
    await cluster.connect()
    await cluster.addMultipleTargetTopics([...this.#topics])
    return cluster
  }

  async #coordinatorOf(cluster: Cluster, groupId: string): Promise<Coordinator> {
    const coordinator = this.#coordinators.get(groupId) ?? (await cluster.findGroupCoordinator({ groupId }))
    this.#coordinators.set(groupId, coordinator)
    return coordinator
  }

  async #describe(cluster: Cluster, groupIds: string[]): Promise<Map<string, GroupDescription>> {
    const byCoordinator = new Map<Coordinator, string[]>()
    for (const groupId of groupIds) {
      const coordinator = await this.#coordinatorOf(cluster, groupId)
      byCoordinator.set(coordinator, [...(byCoordinator.get(coordinator) ?? []), groupId])
    }
    const answers = await Promise.all(
      [...byCoordinator].map(([coordinator, groupIds]) => coordinator.describeGroups({ groupIds })),
    )
    return new Map(answers.flatMap(({ groups }) => groups).map((group) => [group.groupId, group]))
  }

  /** Of the topics of this wiring alone: what was committed in another one may be of topics that are not there any more. */
  async #fetchCommitted(cluster: Cluster, groupId: string): Promise<Offsets> {
    const coordinator = await this.#coordinatorOf(cluster, groupId)
    const { responses } = await coordinator.offsetFetch({ groupId, topics: [] })
    return new Map(
      responses
        .filter(({ topic }) => this.#topics.has(topic))
        .map(({ topic, partitions }) => [
          topic,
          new Map(partitions.map(({ partition, offset }) => [partition, Number(offset)])),
        ]),
    )
  }

  /** With all partitions of each topic that is committed or assigned; -1 where nothing is committed. */
  #complete(cluster: Cluster, committed: Offsets, members: readonly AssignedMember[]): Offsets {
    const assigned = members.flatMap(({ topics }) => topics).filter((topic) => this.#topics.has(topic))
    const topics = [...new Set([...committed.keys(), ...assigned])].sort()
    return new Map(
      topics.map((topic) => {
        const partitions = cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId)
        const offsetOf = (partition: number) => committed.get(topic)?.get(partition) ?? -1
        return [topic, new Map(partitions.sort((a, b) => a - b).map((each) => [each, offsetOf(each)]))]
      }),
    )
  }

  async #fetchBounds(
    cluster: Cluster,
    groups: readonly { committed: Offsets }[],
    fromBeginning: boolean,
  ): Promise<Offsets> {
    const topics = [...new Set(groups.flatMap(({ committed }) => [...committed.keys()]))]
    if (topics.length === 0) return new Map()
    const wanted = topics.map((topic) => ({
      topic,
      partitions: cluster.findTopicPartitionMetadata(topic).map((each) => ({ partition: each.partitionId })),
      fromBeginning,
    }))
    const answer = await cluster.fetchTopicsOffset(wanted)
    return new Map(
      answer.map(({ topic, partitions }) => [
        topic,
        new Map(partitions.map(({ partition, offset }) => [partition, Number(offset)])),
      ]),
    )
  }
}

interface AssignedMember extends DashboardMember {
  topics: string[]
}

/** While a group rebalances, its members have no assignment that could be read. */
function readMembers(description: GroupDescription | undefined): AssignedMember[] {
  return (description?.members ?? []).map(({ memberId, clientHost, memberAssignment }) => {
    const assignment = readAssignment(memberAssignment)
    const partitions = [...new Set(Object.values(assignment).flat())].sort((a, b) => a - b)
    return {
      id: memberId,
      host: clientHost.replace(/^\//, ''),
      partitions,
      topics: partitions.length > 0 ? Object.keys(assignment) : [],
    }
  })
}

function hasUncommitted({ committed }: { committed: Offsets }): boolean {
  return [...committed.values()].some((partitions) => [...partitions.values()].includes(-1))
}

function listPartitions(
  committed: Offsets,
  { begins, ends }: { begins: Offsets; ends: Offsets },
  members: readonly AssignedMember[],
): DashboardPartition[] {
  return [...committed].flatMap(([topic, partitions]) =>
    [...partitions].map(([partition, offset]) => {
      const end = ends.get(topic)!.get(partition)!
      const from = offset < 0 ? begins.get(topic)!.get(partition)! : offset
      const member = members.find(
        (each) => each.topics.includes(topic) && each.partitions.includes(partition),
      )
      return { topic, partition, committed: from, end, lag: Math.max(0, end - from), member: member?.id }
    }),
  )
}

function toGroup(
  description: GroupDescription | undefined,
  members: readonly AssignedMember[],
  partitions: DashboardPartition[],
  { group, topicPrefix }: { group: string; topicPrefix: string },
): DashboardGroup {
  return {
    group,
    state: description?.state ?? 'Dead',
    lag: partitions.reduce((sum, { lag }) => sum + lag, 0),
    members: members.map(({ id, host, partitions }) => ({ id, host, partitions })),
    partitions: partitions.map((each) => ({ ...each, topic: each.topic.slice(topicPrefix.length) })),
  }
}
