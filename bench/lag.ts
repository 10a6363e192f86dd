/** How far the services are behind, by Kafka's own books: connections are kept, since it is asked every second. */
import type { Admin, Kafka } from 'kafkajs'
import { type Cluster, createCluster } from '../lib/clusterClient.ts'
import { type WorkingGroup, workingGroups } from '../lib/groupLag.ts'
import { countedTopics } from '../lib/orderReplay.ts'
import { viewedTopics } from '../lib/orderView.ts'
import type { TopicTable } from '../lib/topics.ts'

/** All groups that read orders, with what each reads. */
export function readingGroups(topics: TopicTable): WorkingGroup[] {
  const names = (some: readonly { name: string }[]) => some.map(({ name }) => name)
  return [
    ...workingGroups('', topics),
    { group: 'mail', topics: [topics.ordersCompleted.name] },
    { group: 'analytics', topics: names(countedTopics(topics)) },
    { group: 'order-view', topics: names(viewedTopics(topics)) },
  ]
}

/** Records that a group has not committed yet, by `<group> <topic>`. */
export type Lags = Readonly<Record<string, number>>

/** The one that is furthest behind. */
export function furthestOf(lags: Lags): [place: string, records: number] {
  return Object.entries(lags).sort(([, a], [, b]) => b - a)[0] ?? ['nothing', 0]
}

export class LagReader {
  readonly #admin: Admin
  readonly #cluster: Cluster
  readonly #groups: readonly WorkingGroup[]
  readonly #topics: readonly string[]

  private constructor(kafka: Kafka, groups: readonly WorkingGroup[]) {
    this.#admin = kafka.admin()
    this.#cluster = createCluster(kafka)
    this.#groups = groups
    this.#topics = [...new Set(groups.flatMap(({ topics }) => topics))]
  }

  static async open(kafka: Kafka, groups: readonly WorkingGroup[]): Promise<LagReader> {
    const reader = new LagReader(kafka, groups)
    await reader.#admin.connect()
    await reader.#cluster.connect()
    await reader.#cluster.addMultipleTargetTopics([...reader.#topics])
    return reader
  }

  /** Offsets first, so that what arrives in between counts as waiting; control records count, as with Kafka's own tools. */
  async read(): Promise<Lags> {
    const committed = await Promise.all(
      this.#groups.map(({ group, topics }) =>
        this.#admin.fetchOffsets({ groupId: group, topics: [...topics] }),
      ),
    )
    const bounds = async (fromBeginning: boolean) => {
      const wanted = this.#topics.map((topic) => ({
        topic,
        fromBeginning,
        partitions: this.#cluster
          .findTopicPartitionMetadata(topic)
          .map(({ partitionId }) => ({ partition: partitionId })),
      }))
      const answer = await this.#cluster.fetchTopicsOffset(wanted)
      return new Map(
        answer.flatMap(({ topic, partitions }) =>
          partitions.map(
            ({ partition, offset }) => [`${topic}/${partition}` as string, Number(offset)] as const,
          ),
        ),
      )
    }
    const ends = await bounds(false)
    // Only a group that has not committed anything is behind all that there is.
    const hasNew = committed
      .flat()
      .some(({ partitions }) => partitions.some(({ offset }) => Number(offset) < 0))
    const beginnings = hasNew ? await bounds(true) : ends
    const lags: Record<string, number> = {}
    for (const [index, { group }] of this.#groups.entries()) {
      for (const { topic, partitions } of committed[index]!) {
        for (const { partition, offset } of partitions) {
          const place: string = `${topic}/${partition}`
          const from = Number(offset) < 0 ? beginnings.get(place)! : Number(offset)
          lags[`${group} ${topic}`] = (lags[`${group} ${topic}`] ?? 0) + ends.get(place)! - from
        }
      }
    }
    return lags
  }

  async close(): Promise<void> {
    await Promise.all([this.#admin.disconnect(), this.#cluster.disconnect()])
  }
}
