import { type Kafka, type Message, Partitioners, type Producer, type TopicMessages } from 'kafkajs'
import { sleep, untilAborted, within } from './async.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import type { Sealer } from './sealing.ts'
import { sendTraced, type TracedRecord, tracing, withTraceparent } from './tracing.ts'
import { splitIntoSends } from './transaction.ts'

export interface SentRecord {
  key: string | null
  /** null is a tombstone */
  value: Buffer | null
}

export interface OrderSenderOptions {
  /** A client of the sender's own; asked again after each failure, since kafkajs keeps a broken one broken. */
  createKafka: () => Kafka
  /** For what is said about waiting. */
  brokers: readonly string[]
  /** Topics that have to be there: the sender waits for them and makes none. */
  topics: readonly string[]
  /** Seals what is sent, where that is asked for. */
  seal?: Sealer
  log: Logger
  /** Ends the waiting. */
  signal: AbortSignal
}

const FIRST_WAIT_MS = 250
const LONGEST_WAIT_MS = 2_000
/** What is on its way when the signal comes gets so long to be acknowledged. */
const LAST_CHANCE_MS = 5_000
const CLOSE_TIMEOUT_MS = 1_000

/**
 * Sends records to Kafka for as long as it takes, in order and one send at a time.
 *
 * At least once: when kafkajs gives up on a send, nobody knows whether it was written, and it is sent again by
 * a new producer, which the broker cannot recognise. The validator refuses such a repeat as a duplicate.
 */
export class OrderSender {
  readonly #options: OrderSenderOptions
  #producer: Producer | undefined
  /** Records without a key go round; a record keeps its partition when kafkajs tries it again. */
  readonly #withoutKey = new WeakMap<Message, number>()
  #turn = 0
  #before: Promise<unknown> = Promise.resolve()

  constructor(options: OrderSenderOptions) {
    this.#options = options
  }

  /** Waits until Kafka answers and has the topics. */
  async open(): Promise<void> {
    await this.#retry('Kafka does not answer', () => this.#connect())
  }

  /**
   * Resolves when all are acknowledged, or when the signal came while Kafka was away.
   *
   * @returns how many are acknowledged, from the first on
   */
  send(topic: string, records: readonly SentRecord[]): Promise<number> {
    // Whoever calls meanwhile waits for the one before, whatever became of it.
    const sent = this.#before.then(() => this.#send(topic, records))
    this.#before = sent.catch(() => undefined)
    return sent
  }

  async #send(topic: string, records: readonly SentRecord[]): Promise<number> {
    let acknowledged = 0
    const { seal } = this.#options
    const plain = records.map(({ key, value }) => ({ topic, key, value, headers: {} }))
    const sealed = seal ? plain.map(seal) : plain
    const sends = splitIntoSends(sealed.map((record) => withTraceparent(record, undefined)))
    for (const topicMessages of sends) {
      const count = topicMessages.reduce((sum, { messages }) => sum + messages.length, 0)
      const sent = await this.#retry('Kafka does not take records', async () => {
        const producer = this.#producer ?? (await this.#connect())
        await sendTraced(tracing ? listRecords(topicMessages) : [], {}, () =>
          producer.sendBatch({ topicMessages, acks: -1 }),
        )
      })
      if (!sent) break
      acknowledged += count
    }
    return acknowledged
  }

  async close(): Promise<void> {
    const producer = this.#producer
    this.#producer = undefined
    if (producer === undefined) return
    const closing = producer
      .disconnect()
      .catch((error) => this.#options.log.debug(`closing a producer: ${describe(error)}`))
    await within(CLOSE_TIMEOUT_MS, closing)
  }

  /** Tries until it works or the signal comes; says once that it waits, and once that it is over. */
  async #retry(waitingFor: string, attempt: () => Promise<unknown>): Promise<boolean> {
    const { log, signal, brokers } = this.#options
    let said = ''
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
      try {
        await this.#finish(attempt())
        if (said) log.info('Kafka is back')
        return true
      } catch (error) {
        await this.close()
        if (signal.aborted) return false
        const reason =
          error instanceof MissingTopicsError
            ? 'topics are missing'
            : `${waitingFor} at ${brokers.join(', ')}`
        // Told apart without the cause, which changes from one attempt to the next (refused, timed out).
        if (reason !== said) log.warn(`${reason} (${describe(error)}); trying until it works`)
        said = reason
        await sleep(waitMs, signal)
        if (signal.aborted) return false
      }
    }
  }

  /** Waits for an attempt, but after the signal only so long: a broker that hangs would hold us for minutes. */
  async #finish(attempt: Promise<unknown>): Promise<void> {
    let isDone = false
    const done = attempt.then(() => {
      isDone = true
    })
    await untilAborted(done, this.#options.signal)
    if (!isDone) await within(LAST_CHANCE_MS, done)
    if (!isDone) throw new Error('it was asked to end')
  }

  async #connect(): Promise<Producer> {
    const kafka = this.#options.createKafka()
    await this.#findTopics(kafka)
    const producer = kafka.producer({
      idempotent: true,
      // More in flight, and a timeout reorders, loses and duplicates.
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: () => this.#createPartitioner(),
    })
    try {
      await producer.connect()
    } catch (error) {
      void producer.disconnect().catch(() => undefined)
      throw error
    }
    this.#producer = producer
    return producer
  }

  /** @throws MissingTopicsError */
  async #findTopics(kafka: Kafka): Promise<void> {
    const admin = kafka.admin()
    try {
      await admin.connect()
      const existing = new Set(await admin.listTopics())
      const missing = this.#options.topics.filter((topic) => !existing.has(topic))
      if (missing.length > 0) throw new MissingTopicsError(missing)
    } finally {
      await admin.disconnect().catch(() => undefined)
    }
  }

  #createPartitioner(): ReturnType<typeof Partitioners.DefaultPartitioner> {
    const byKey = Partitioners.DefaultPartitioner()
    return (args) => {
      const { message, partitionMetadata } = args
      if (message.key !== null && message.key !== undefined) return byKey(args)
      let partition = this.#withoutKey.get(message)
      if (partition === undefined) {
        partition = this.#turn++ % partitionMetadata.length
        this.#withoutKey.set(message, partition)
      }
      return partition
    }
  }
}

function listRecords(topicMessages: readonly TopicMessages[]): TracedRecord[] {
  return topicMessages.flatMap(({ topic, messages }) => messages.map(({ headers }) => ({ topic, headers })))
}

class MissingTopicsError extends Error {
  constructor(topics: readonly string[]) {
    super(`${topics.join(', ')}: ensureTopics() makes them, see README.md`)
  }
}
