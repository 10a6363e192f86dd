import { type Kafka, Partitioners, type Producer } from 'kafkajs'
import { untilAborted, within } from './async.ts'
import { seal } from './crypto.ts'
import { UnavailableError, UnusableRecordError } from './errors.ts'
import type { OrderValidated } from './events.ts'
import { JUDGES } from './judges.ts'
import type { KeyRing } from './keyRing.ts'
import type { Logger } from './log.ts'
import { formatPosition, HOP_HEADER, headerText, SOURCE_HEADER } from './record.ts'
import {
  type AnswerTopic,
  answerTopics,
  isJudge,
  missingAnswers,
  type Said,
  verdictOf,
} from './sendAnswers.ts'
import { cancellationOf, type RequestEvent } from './sendRequest.ts'
import { type HopStep, RequestTrail, type Step } from './sendTrail.ts'
import { fetchBounds, missingTopicsError, type OffsetsByPartition } from './topicBounds.ts'
import { readTopics, type TopicRecord } from './topicReader.ts'
import type { TopicTable } from './topics.ts'

export const SENDER = 'send'
const ARRIVAL_MS = 2_000

export interface SendOptions {
  /** Makes a Kafka client of its own connections. */
  createKafka(purpose: string): Kafka
  topics: TopicTable
  keys: KeyRing
  worker: string
  request: RequestEvent
  /** From sending on. */
  timeoutMs: number
  onStep(step: Step, sentAtMs: number): void
  log: Logger
  /** Ends the waiting. */
  signal: AbortSignal
}

export interface SendResult {
  requestId: string
  worker: string
  sentAtMs: number
  waitedMs: number
  steps: Step[]
  /** What has not been said, in words. */
  missing: string[]
  /** The hop at which its way ended. */
  refused: HopStep | undefined
  /** The worker was told to undo what it does for it. */
  tookBack: boolean
}

/**
 * Sends one request to a worker by way of the Command Center, and watches until all has been said about it. What a judge
 * alone has done for it is taken back.
 *
 * @throws ConfigurationError when topics are missing, or there is no key for the worker; UnavailableError
 */
export async function sendRequest(options: SendOptions): Promise<SendResult> {
  const { topics, createKafka, log, signal, timeoutMs } = options
  const exchange = new Exchange(options)
  const names = [topics.hops.name, ...exchange.topics]
  // Before it is sent, so that nothing is missed however long the reader takes to begin.
  const offsets = await findEnds(createKafka('ends'), [...names, topics.inbox.name])
  const producer = await connect(createKafka('producer'))
  const done = new AbortController()
  const reading = readTopics({
    kafka: createKafka('reader'),
    topics: names,
    from: { offsets },
    until: 'forever',
    onRecords: (topic, partition, records) => exchange.take(topic, partition, records),
    signal: done.signal,
    log,
    groupPrefix: `${SENDER}-reader`,
  })
  // Also while it is not waited for yet.
  reading.catch(() => undefined)
  try {
    await exchange.send(producer)
    try {
      await within(timeoutMs, untilAborted(Promise.race([exchange.over, reading]), signal))
    } finally {
      await exchange.leave()
    }
  } finally {
    done.abort()
    await Promise.allSettled([reading, producer.disconnect()])
  }
  return exchange.result
}

async function findEnds(kafka: Kafka, topics: readonly string[]): Promise<OffsetsByPartition> {
  try {
    const { bounds } = await fetchBounds(kafka, topics)
    const ends = [...bounds].map(([topic, partitions]) => {
      return [topic, new Map([...partitions].map(([partition, { high }]) => [partition, high]))] as const
    })
    return new Map(ends)
  } catch (error) {
    throw missingTopicsError(error, topics) ?? new UnavailableError('Kafka', error)
  }
}

async function connect(kafka: Kafka): Promise<Producer> {
  const producer = kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  try {
    await producer.connect()
    return producer
  } catch (error) {
    throw new UnavailableError('Kafka', error)
  }
}

/** What is sent, and what comes back. */
class Exchange {
  readonly result: SendResult
  /** Resolves when all has been said, or can no longer be. */
  readonly over: Promise<void>
  readonly #options: SendOptions
  readonly #trail: RequestTrail
  readonly #answerTopics: ReadonlyMap<string, AnswerTopic>
  /** Where a judge that carries out decisions finds its requests. */
  readonly #requests: string | undefined
  /** The position of our request there: what a decision on it has to name. */
  #position: string | undefined
  readonly #arrived: Promise<void>
  #arrive!: () => void
  readonly #said: Said[] = []
  #producer: Producer | undefined
  #undoing: Promise<void> | undefined
  #end!: (error?: unknown) => void

  constructor(options: SendOptions) {
    const { topics, worker, request } = options
    this.#options = options
    this.#trail = new RequestTrail(request.orderId)
    this.#answerTopics = new Map(answerTopics(topics, worker).map((topic) => [topic.name, topic]))
    if (isJudge(worker) && JUDGES[worker].settles) this.#requests = topics[`${worker}Requests`].name
    this.result = {
      ...{ requestId: request.orderId, worker, sentAtMs: 0, waitedMs: 0, steps: [] },
      ...{ refused: undefined, tookBack: false },
      missing: ['word of the Command Center (does commandCenter.ts run?)'],
    }
    this.#arrived = new Promise((resolve) => {
      this.#arrive = resolve
    })
    this.over = new Promise((resolve, reject) => {
      this.#end = (error) => (error === undefined ? resolve() : reject(error))
    })
    this.over.catch(() => undefined)
  }

  /** Those to be watched beside the hops. */
  get topics(): string[] {
    return [...this.#answerTopics.keys(), ...(this.#requests === undefined ? [] : [this.#requests])]
  }

  async send(producer: Producer): Promise<void> {
    this.#producer = producer
    this.result.sentAtMs = Date.now()
    await this.#write(this.#options.request, {})
  }

  /** Sealed for the worker and into the inbox, in the partition of its key. @throws UnavailableError */
  async #write(event: RequestEvent, headers: Record<string, string>): Promise<void> {
    const { keys, topics, worker } = this.#options
    const label = { requestId: event.orderId, workerName: worker, sender: SENDER, eventId: event.eventId }
    const message = { key: event.orderId, value: seal(keys, label, JSON.stringify(event)), headers }
    try {
      await this.#producer!.send({ topic: topics.inbox.name, acks: -1, messages: [message] })
    } catch (error) {
      throw new UnavailableError('Kafka', error)
    }
  }

  take(topic: string, partition: number, records: readonly TopicRecord[]): void {
    for (const record of records) {
      if (topic === this.#options.topics.hops.name) this.#takeHops(partition, record)
      else if (record.key?.toString() !== this.result.requestId || record.value === null) continue
      else if (topic === this.#requests) this.#noteArrival(formatPosition(topic, partition, record.offset))
      else this.#takeAnswer(this.#answerTopics.get(topic)!, record.value, record)
    }
  }

  /** The first is the request, and what comes later a decision of ours on it. */
  #noteArrival(position: string): void {
    this.#position ??= position
    this.#arrive()
  }

  #takeHops(partition: number, { value, offset }: TopicRecord): void {
    const { hops } = this.#options.topics
    if (value === null) return
    try {
      this.#tell(this.#trail.takeHops(partition, hops.decode(value)))
    } catch (error) {
      if (!(error instanceof UnusableRecordError)) throw error
      this.#options.log.warn(`${formatPosition(hops.name, partition, offset)}: ${error.message}`)
    }
  }

  #takeAnswer(topic: AnswerTopic, value: Buffer, { headers, timestampMs }: TopicRecord): void {
    const step = { kind: 'answer' as const, atMs: timestampMs, from: topic.from, event: topic.decode(value) }
    const source = headerText(headers, SOURCE_HEADER)
    if (this.#requests && source) this.#noteArrival(source)
    this.#tell(this.#trail.takeAnswer(headerText(headers, HOP_HEADER), step))
  }

  #tell(steps: readonly Step[]): void {
    const { result } = this
    for (const step of steps) {
      result.steps.push(step)
      if (step.kind === 'answer') this.#said.push(step)
      else if (step.error !== undefined) result.refused = step
      this.#options.onStep(step, result.sentAtMs)
    }
    if (steps.length === 0) return
    const { worker } = this.#options
    result.missing = missingAnswers(worker, this.#said)
    if (result.missing.length === 0 || result.refused) this.#end()
    else if (isJudge(worker) && verdictOf(worker, this.#said)) this.#takeBack().catch(this.#end)
  }

  /** A judge has its request and nobody waits for the verdict any more: whatever it is, nothing is to be left of it. */
  async leave(): Promise<void> {
    this.result.waitedMs = Date.now() - this.result.sentAtMs
    const { missing, steps } = this.result
    if (missing.length === 0) return
    const isForwarded = steps.some((step) => step.kind === 'hop' && step.error === undefined)
    // What the hop tells of may still be on its way to us.
    if (this.#requests && isForwarded) await within(ARRIVAL_MS, this.#arrived)
    await this.#takeBack()
  }

  /** Once, and only where there is something that can be undone. */
  async #takeBack(): Promise<void> {
    if (this.#position === undefined) return
    this.result.tookBack = true
    // What a judge takes, as it was checked.
    const order = this.#options.request as RequestEvent & OrderValidated
    const headers = { [SOURCE_HEADER]: this.#position }
    this.#undoing ??= this.#write(cancellationOf(order, Date.now()), headers)
    await this.#undoing
  }
}
