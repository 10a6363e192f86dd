import type { Kafka } from 'kafkajs'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { type OffsetsByPartition, readTopics } from './topicReader.ts'
import { groupsOf, type TopicTable } from './topics.ts'

/** They are shown, nobody waits for them. */
const GATHER_MS = 1_000

export interface DeadLetterCountOptions {
  createKafka(): Kafka
  topics: TopicTable
  topicPrefix: string
  log: Logger
}

/**
 * Counts the records in the dead-letter topics, by group, those that were redriven included. By reading them, since
 * offsets tell more than there are: each transaction takes one, and so do aborted records. They are few.
 */
export class DeadLetterCount {
  readonly #options: DeadLetterCountOptions
  readonly #counts: Record<string, number>
  #isComplete = false
  #positions: OffsetsByPartition = new Map()
  #reading: { end: AbortController; ended: Promise<void> } | undefined

  constructor(options: DeadLetterCountOptions) {
    this.#options = options
    this.#counts = Object.fromEntries(groupsOf(options.topics).map((group) => [group, 0]))
  }

  /** Empty until all that was there has been read once. */
  get byGroup(): Record<string, number> {
    return this.#isComplete ? { ...this.#counts } : {}
  }

  start(): void {
    if (this.#reading) return
    const end = new AbortController()
    this.#reading = { end, ended: this.#read(end.signal) }
  }

  /** What has been counted stays, and is gone on with. */
  async stop(): Promise<void> {
    this.#reading?.end.abort()
    await this.#reading?.ended
    this.#reading = undefined
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { createKafka, topics, topicPrefix, log } = this.#options
    const groups = new Map(groupsOf(topics).map((group) => [topics.deadLetters[group].name, group]))
    try {
      this.#positions = await readTopics({
        kafka: createKafka(),
        topics: [...groups.keys()],
        from: { offsets: this.#positions },
        until: 'forever',
        onRecords: (topic, _partition, records) => {
          this.#counts[groups.get(topic)!]! += records.length
        },
        onCaughtUp: () => {
          this.#isComplete = true
        },
        gatherMs: GATHER_MS,
        groupPrefix: `${topicPrefix}dashboard-dead-letters`,
        signal,
        log,
      })
    } catch (error) {
      log.error(`the dashboard cannot count dead letters: ${describe(error)}`)
    }
  }
}
