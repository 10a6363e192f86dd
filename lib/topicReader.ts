import { randomUUID } from 'node:crypto'
import type { Batch, Consumer, Kafka } from 'kafkajs'
import { sleep, untilAborted, within } from './async.ts'
import { describe, PipelineError } from './errors.ts'
import { requirePatchedKafkajs } from './kafkaPatchCheck.ts'
import type { Logger } from './log.ts'
import type { EmptyBatch, PartitionCursor, TopicRecord } from './partitionCursor.ts'
import { deleteGroups } from './readerGroups.ts'
import { type Loss, ReadProgress } from './readProgress.ts'
import { RepeatedWarning } from './repeatedWarning.ts'
import { fetchBounds, missingTopicsError, type OffsetsByPartition } from './topicBounds.ts'

export type { TopicRecord } from './partitionCursor.ts'
export type { OffsetsByPartition } from './topicBounds.ts'

/** `{ offsets }` is what {@link readTopics} returned; a partition that is not in it is read from its beginning. */
export type ReadFrom = 'beginning' | { timestampMs: number } | { offsets: OffsetsByPartition }

export interface ReadOptions {
  kafka: Kafka
  topics: readonly string[]
  from: ReadFrom
  /** 'end' is the end as it is when the reading begins; what is written later is left out. */
  until: 'end' | 'forever'
  /** Takes records of one partition, in order and each once. What it throws ends the reading. */
  onRecords(topic: string, partition: number, records: TopicRecord[]): void
  /** Called once, when all partitions have been read to where they ended as the reading began. */
  onCaughtUp?(): void
  /** Ends the reading early, without an error. */
  signal?: AbortSignal
  log: Logger
  /** What the consumer group's name begins with; the rest is made up. */
  groupPrefix?: string
  /** How long the broker may gather records before it answers: more is cheaper, less is sooner. */
  gatherMs?: number
}

/** The log that was being read is not there any more: the topic was deleted and made anew, or lost its end. */
export class LogReplacedError extends PipelineError {
  readonly code = 'LOG_REPLACED'
  readonly canRetry = false
}

const SESSION_TIMEOUT_MS = 6_000
const GATHER_BYTES = 1024 * 1024
const MAX_RESTART_MS = 5_000
const DISCONNECT_DEADLINE_MS = 15_000
/** A session that held for so long was a good one: the next failure is a new one. */
const GOOD_SESSION_MS = 60_000
/** How long a partition may stand still before its end before the broker is asked why. */
const STALL_MS = 1_000
/** Batches in a row that do not follow the one before, until all is looked at anew. */
const MAX_GAPS = 5

/**
 * Reads whole topics as a read-committed reader, outside of any working group: nothing is committed and no group
 * is left behind (but for a process that is killed: the broker removes such a group within minutes).
 *
 * To the end means to the high watermark, so a transaction that is open is waited for, until it ends or the broker
 * aborts it. Whatever goes wrong with the broker is waited out, and the reading goes on from where it was.
 *
 * Records that are deleted before they were read are passed over with a warning. Should the log be replaced by
 * another one, reading for ever starts that one at its beginning. Partitions added meanwhile are not read.
 *
 * @returns the position reached in each partition
 * @throws ConfigurationError when a topic does not exist (with `until: 'forever'` it is waited for);
 *   LogReplacedError with `until: 'end'`; what `onRecords` or `onCaughtUp` throws
 */
export async function readTopics(options: ReadOptions): Promise<OffsetsByPartition> {
  requirePatchedKafkajs()
  const reader = new TopicReader(options)
  return reader.run()
}

/** Carries what must end the reading past the loop that starts it again. */
class Fatal extends Error {}

class TopicReader {
  readonly #options: ReadOptions
  readonly #signal: AbortSignal
  readonly #progress = new ReadProgress()
  readonly #groups: string[] = []
  #saidCaughtUp = false
  #gaps = 0
  readonly #wait: RepeatedWarning
  /** The consumer of the session under way: another one may still hand over batches while it is closed. */
  #consumer: Consumer | undefined
  /** Ends the session under way: with an error, it is started again. */
  #endSession: (error?: Error) => void = () => undefined

  constructor(options: ReadOptions) {
    this.#options = options
    this.#wait = new RepeatedWarning(options.log)
    this.#signal = options.signal ?? new AbortController().signal
  }

  async run(): Promise<OffsetsByPartition> {
    try {
      for (let failures = 0; !this.#isOver; ) {
        const startedMs = Date.now()
        try {
          await this.#readSession()
        } catch (error) {
          if (error instanceof Fatal) throw error.cause
          failures = Date.now() - startedMs > GOOD_SESSION_MS ? 1 : failures + 1
          this.#wait.say(`Kafka: ${describe(error)} - waiting, nothing is lost`)
          await sleep(Math.min(MAX_RESTART_MS, 50 * 2 ** failures), this.#signal)
        }
      }
    } finally {
      await deleteGroups(this.#options.kafka, this.#groups, this.#options.log)
    }
    return this.#progress.positions
  }

  get #isOver(): boolean {
    return this.#signal.aborted || (this.#saidCaughtUp && this.#options.until === 'end')
  }

  /** One consumer, from its start to its end, in a group of its own. @throws what ended it early */
  async #readSession(): Promise<void> {
    await untilAborted(this.#lookAtBounds(), this.#signal)
    if (this.#isOver) return
    // Another group each time: a consumer that crashed can still be a member of the one before.
    const groupId = `${this.#options.groupPrefix ?? 'reader'}-${randomUUID()}`
    this.#groups.push(groupId)
    const ended = new Promise<void>((resolve, reject) => {
      this.#endSession = (error) => {
        this.#consumer = undefined
        if (error) reject(error)
        else resolve()
      }
    })
    // Whoever waits for it may not have begun to.
    ended.catch(() => undefined)
    const consumer = this.#createConsumer(groupId)
    this.#consumer = consumer
    const watch = this.#watchForStalls()
    try {
      await consumer.connect()
      await consumer.subscribe({ topics: [...this.#options.topics], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        // Never throws: an error would use up retries that are counted for good.
        eachBatch: async ({ batch }) => this.#endOnError(consumer, () => this.#take(consumer, batch)),
      })
      await untilAborted(ended, this.#signal)
    } finally {
      this.#endSession()
      clearInterval(watch)
      await within(
        DISCONNECT_DEADLINE_MS,
        consumer.disconnect().catch(() => undefined),
      )
    }
  }

  #createConsumer(groupId: string): Consumer {
    const { gatherMs } = this.#options
    const consumer = this.#options.kafka.consumer({
      groupId,
      sessionTimeout: SESSION_TIMEOUT_MS,
      heartbeatInterval: SESSION_TIMEOUT_MS / 4,
      allowAutoTopicCreation: false,
      readUncommitted: false,
      maxWaitTimeInMs: gatherMs ?? 100,
      ...(gatherMs !== undefined && { minBytes: GATHER_BYTES }),
      // Ours is the only hand that restarts it.
      retry: { restartOnFailure: async () => false },
    })
    const { GROUP_JOIN, END_BATCH_PROCESS, CRASH } = consumer.events
    consumer.on(GROUP_JOIN, () => {
      this.#wait.over()
      for (const cursor of this.#progress.cursors()) seek(consumer, cursor)
    })
    // Control records and aborted ones never reach eachBatch.
    consumer.on(END_BATCH_PROCESS, ({ payload }) => {
      if (payload.batchSize === 0) this.#endOnError(consumer, () => this.#skip(consumer, payload))
    })
    consumer.on(CRASH, ({ payload }) => {
      if (consumer === this.#consumer) this.#endSession(payload.error)
    })
    return consumer
  }

  #endOnError(consumer: Consumer, action: () => void): void {
    if (consumer !== this.#consumer) return
    try {
      action()
    } catch (error) {
      this.#endSession(error as Error)
    }
  }

  #take(consumer: Consumer, batch: Batch): void {
    const cursor = this.#findUnfinished(consumer, batch)
    if (!cursor) return
    const { topic, partition, position, end } = cursor
    if (Number(batch.highWatermark) < position)
      throw new Error(`${topic}/${partition} ends before its position`)
    const records = cursor.take(batch, this.#options.until === 'end' ? end : Number.POSITIVE_INFINITY)
    if (!records) {
      this.#seekAgain(consumer, cursor)
      return
    }
    if (records.length > 0) callBack(() => this.#options.onRecords(topic, partition, records))
    this.#advanced(consumer, cursor)
  }

  #skip(consumer: Consumer, batch: EmptyBatch & { topic: string; partition: number }): void {
    const cursor = this.#findUnfinished(consumer, batch)
    if (!cursor) return
    if (cursor.skip(batch)) this.#advanced(consumer, cursor)
    else this.#seekAgain(consumer, cursor)
  }

  /** The partition that a batch is of; none when it is at its end, past which a batch can have been under way. */
  #findUnfinished(
    consumer: Consumer,
    { topic, partition }: { topic: string; partition: number },
  ): PartitionCursor | undefined {
    const cursor = this.#progress.find(topic, partition)
    if (this.#options.until !== 'end' || !cursor?.isAtEnd) return cursor
    consumer.pause([{ topic, partitions: [partition] }])
    return undefined
  }

  #seekAgain(consumer: Consumer, cursor: PartitionCursor): void {
    if (++this.#gaps > MAX_GAPS) throw new Error(`lost the position in ${cursor.topic}/${cursor.partition}`)
    seek(consumer, cursor)
  }

  #advanced(consumer: Consumer, cursor: PartitionCursor): void {
    this.#gaps = 0
    if (!this.#progress.noteEnd(cursor)) return
    if (this.#options.until === 'end') {
      consumer.pause([{ topic: cursor.topic, partitions: [cursor.partition] }])
    }
    this.#lookWhetherCaughtUp()
  }

  #lookWhetherCaughtUp(): void {
    if (this.#saidCaughtUp || !this.#progress.isCaughtUp) return
    this.#saidCaughtUp = true
    callBack(() => this.#options.onCaughtUp?.())
    if (this.#isOver) this.#endSession()
  }

  /** Where the logs begin and end: at first to know where to read, later to see what became of them. */
  async #lookAtBounds(): Promise<void> {
    const { kafka, topics, from } = this.#options
    try {
      const timestampMs = typeof from === 'object' && 'timestampMs' in from ? from.timestampMs : undefined
      const { bounds, since } = await fetchBounds(kafka, topics, timestampMs)
      if (!this.#progress.hasBegun) {
        this.#progress.begin(bounds, typeof from === 'object' && 'offsets' in from ? from.offsets : since)
      }
      for (const loss of this.#progress.compare(bounds)) this.#tellLoss(loss)
    } catch (error) {
      const missing = missingTopicsError(error, topics)
      if (!missing || this.#options.until === 'forever' || this.#progress.hasBegun) throw error
      throw new Fatal('', { cause: missing })
    }
    this.#lookWhetherCaughtUp()
  }

  #tellLoss({ cursor, lost, low }: Loss): void {
    const { log, until } = this.#options
    const name = `${cursor.topic}/${cursor.partition}`
    if (lost !== 'log') {
      log.warn(`${lost} records of ${name} were deleted before they were read`)
      return
    }
    const message = `${name} ends before offset ${cursor.position}, up to which it was read: it was made anew or lost records`
    if (until === 'end') throw new Fatal('', { cause: new LogReplacedError(message) })
    log.error(`${message}; reading it from its beginning`)
    cursor.position = low
  }

  /** Asks the broker when nothing moves: it does not say by itself that what is asked for was deleted. */
  #watchForStalls(): NodeJS.Timeout {
    let before = ''
    return setInterval(async () => {
      const standing = [...this.#progress.behind].map(({ position }) => position).join()
      const isStalled = standing !== '' && standing === before
      before = standing
      if (!isStalled) return
      const found = await fetchBounds(this.#options.kafka, this.#options.topics).catch(() => undefined)
      for (const { topic, partition, position } of found ? this.#progress.behind : []) {
        const low = found?.bounds.get(topic)?.get(partition)?.low ?? 0
        if (position < low) this.#endSession(new Error(`${topic}/${partition} begins after ${position}`))
        else
          this.#wait.say(`waiting at ${topic}/${partition}/${position}: a transaction there seems to be open`)
      }
    }, STALL_MS)
  }
}

function callBack(call: () => void): void {
  try {
    call()
  } catch (error) {
    throw new Fatal('', { cause: error })
  }
}

function seek(consumer: Consumer, cursor: PartitionCursor): void {
  consumer.seek({ topic: cursor.topic, partition: cursor.partition, offset: String(cursor.position) })
  cursor.sought()
}
