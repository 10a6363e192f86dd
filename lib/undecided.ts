import { type ReadOptions, readTopics } from './topicReader.ts'
import type { TopicTable } from './topics.ts'

/** Orders that were validated and are not decided, by their ids: that nothing lags says nothing of those who wait for time. */
export class UndecidedOrders {
  readonly #open = new Set<string>()
  /** Kept for good: the topics are read side by side, and an order can be validated twice. */
  readonly #decided = new Set<string>()
  /** Whether all that there was has been read. */
  isCaughtUp = false

  /** Follows the topics from their beginnings until the signal. @throws what ends the reading */
  follow(
    { ordersValidated, ordersCompleted }: TopicTable,
    options: Pick<ReadOptions, 'kafka' | 'log'> & { signal: AbortSignal },
  ): Promise<unknown> {
    return readTopics({
      ...options,
      topics: [ordersValidated.name, ordersCompleted.name],
      from: 'beginning',
      until: 'forever',
      onCaughtUp: () => {
        this.isCaughtUp = true
      },
      onRecords: (topic, _, records) => {
        for (const { key } of records) this.take(topic === ordersCompleted.name, String(key))
      },
    })
  }

  get count(): number {
    return this.#open.size
  }

  take(isDecision: boolean, orderId: string): void {
    if (isDecision) {
      this.#decided.add(orderId)
      this.#open.delete(orderId)
    } else if (!this.#decided.has(orderId)) {
      this.#open.add(orderId)
    }
  }
}
