import type { Kafka } from 'kafkajs'
import { UnusableRecordError } from './errors.ts'
import type { Logger } from './log.ts'
import { type OrderEvent, OrderStatistics } from './orderStatistics.ts'
import { decodeRecord, formatPosition } from './record.ts'
import { type ReadFrom, readTopics, type TopicRecord } from './topicReader.ts'
import type { Topic, TopicTable } from './topics.ts'

/** What analytics counts from. */
export function countedTopics(topics: TopicTable): Topic<OrderEvent>[] {
  const { ordersValidated, ordersRejected, paymentEvents, ordersCompleted } = topics
  return [ordersValidated, ordersRejected, paymentEvents, ordersCompleted]
}

export interface ReplayOptions {
  kafka: Kafka
  topics: readonly Topic<OrderEvent>[]
  from: ReadFrom
  until: 'end' | 'forever'
  graceMs: number
  /** What the name of the group begins with that is used meanwhile. */
  groupPrefix: string
  /** Told how far a partition of a topic has been counted: the next offset. */
  onCounted?: (topic: string, partition: number, next: number) => void
  signal: AbortSignal
  log: Logger
}

/** Counts the orders of the past into statistics by partition, outside of the working group. */
export class OrderReplay {
  readonly #options: ReplayOptions
  readonly #topics: ReadonlyMap<string, Topic<OrderEvent>>
  readonly #byPartition = new Map<number, OrderStatistics>()

  constructor(options: ReplayOptions) {
    this.#options = options
    this.#topics = new Map(options.topics.map((topic) => [topic.name, topic]))
  }

  get statistics(): OrderStatistics[] {
    return [...this.#byPartition.values()]
  }

  /** What was counted of a partition; undefined while nothing was. */
  statisticsOf(partition: number): OrderStatistics | undefined {
    return this.#byPartition.get(partition)
  }

  /** Reads until the end, or until the signal. */
  async run(): Promise<void> {
    await readTopics({
      ...this.#options,
      topics: [...this.#topics.keys()],
      onRecords: (topic, partition, records) => this.#add(topic, partition, records),
    })
  }

  #add(topic: string, partition: number, records: TopicRecord[]): void {
    const statistics = this.#makeStatistics(partition)
    for (const record of records) {
      try {
        const source = formatPosition(topic, partition, record.offset)
        const { offset, key, value, headers, timestampMs } = record
        const raw = {
          topic,
          partition,
          offset,
          readOffset: offset,
          readTimestampMs: timestampMs,
          isDone: true,
          source,
          timestampMs,
          key,
          value,
          headers,
        }
        statistics.add(decodeRecord(raw, this.#topics).event, record.timestampMs)
      } catch (error) {
        if (!(error instanceof UnusableRecordError)) throw error
        statistics.unusable++
      }
    }
    const last = records.at(-1)
    if (last) this.#options.onCounted?.(topic, partition, last.offset + 1)
  }

  #makeStatistics(partition: number): OrderStatistics {
    let statistics = this.#byPartition.get(partition)
    if (!statistics) {
      statistics = new OrderStatistics(this.#options.graceMs)
      this.#byPartition.set(partition, statistics)
    }
    return statistics
  }
}
