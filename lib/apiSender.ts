import { type Kafka, type KafkaConfig, Partitioners, type Producer } from 'kafkajs'
import { sleep } from './async.ts'
import { describe, UnavailableError } from './errors.ts'
import type { Logger } from './log.ts'
import { RepeatedWarning } from './repeatedWarning.ts'
import type { Sealer } from './sealing.ts'
import { sendTraced, withTraceparent } from './tracing.ts'

export interface ApiRecord {
  key: string
  value: Buffer
  /** The context of the trace that it continues. */
  traceparent?: string | undefined
}

export interface ApiSenderOptions {
  /** A client of its own with {@link kafkaLimits}; asked again after each failure: kafkajs keeps a broken one broken. */
  createKafka: () => Kafka
  topic: string
  /** Seals what is sent, where that is asked for. */
  seal?: Sealer
  /** How long Kafka may take to acknowledge. */
  timeoutMs: number
  log: Logger
  signal: AbortSignal
}

const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 1_000
/**
 * Nobody waits for this. A broker that is frozen answers when it is thawed, and each try that was given up before holds on
 * to its connection until then: so not too many of them.
 */
const CONNECT_WITHIN_MS = 10_000

/**
 * What `createKafka` has to give its clients: a producer that was dropped goes on with what it sends until its own tries
 * are over, and would send beside its successor. Two tries, which end by about that time.
 */
export function kafkaLimits(timeoutMs: number) {
  return {
    connectionTimeout: 1_000,
    requestTimeout: Math.floor(timeoutMs * 0.45),
    retry: { initialRetryTime: 100, maxRetryTime: 200, retries: 1 },
  } satisfies Partial<KafkaConfig>
}

/**
 * Sends records to Kafka within a bounded time, or says that nobody knows what became of them: somebody waits for the
 * answer. (`OrderSender` is for those who wait as long as it takes.) While Kafka is away it says so at once, and looks
 * by itself whether it is back.
 */
export class ApiSender {
  readonly #options: ApiSenderOptions
  readonly #outage: RepeatedWarning
  #producer: Producer | undefined
  #connecting: Promise<void> | undefined

  constructor(options: ApiSenderOptions) {
    this.#options = options
    this.#outage = new RepeatedWarning(options.log)
  }

  /** Kafka answered when it was last asked. */
  get isConnected(): boolean {
    return this.#producer !== undefined
  }

  /** Begins to connect, for as long as it takes. To be called once. */
  open(): void {
    this.#connecting ??= this.#connectPatiently().finally(() => {
      this.#connecting = undefined
    })
  }

  /**
   * Resolves when all are acknowledged. One call at a time: more in flight, and a timeout reorders and duplicates. What
   * is sent at once is one batch for each partition, so the caller keeps it below `max.message.bytes`.
   *
   * @throws UnavailableError: some of them may have been written, and may yet be
   */
  async send(records: readonly ApiRecord[]): Promise<void> {
    const producer = this.#producer
    if (!producer) throw new UnavailableError('Kafka', new Error('it is being looked for'))
    const { topic, seal = (record) => record, timeoutMs } = this.#options
    const sealed = records.map(({ key, value, traceparent }) =>
      withTraceparent(seal({ topic, key, value }), traceparent),
    )
    const sent = () => producer.send({ topic: sealed[0]?.topic ?? topic, messages: sealed, acks: -1 })
    try {
      await withTimeout(timeoutMs, sendTraced(sealed, {}, sent))
    } catch (error) {
      this.#drop(producer)
      this.open()
      this.#outage.say(`Kafka does not take orders (${describe(error)}); looking whether it is back`)
      throw new UnavailableError('Kafka', error)
    }
  }

  async close(): Promise<void> {
    if (this.#producer) this.#drop(this.#producer)
    await this.#connecting
  }

  /** Not awaited: a broker that hangs would hold us. */
  #drop(producer: Producer): void {
    if (this.#producer === producer) this.#producer = undefined
    void producer
      .disconnect()
      .catch((error) => this.#options.log.debug(`closing a producer: ${describe(error)}`))
  }

  async #connectPatiently(): Promise<void> {
    const { log, signal } = this.#options
    let waitMs = FIRST_WAIT_MS
    for (let hasFailed = false; !signal.aborted; hasFailed = true) {
      const producer = this.#createProducer()
      try {
        await withTimeout(CONNECT_WITHIN_MS, producer.connect())
        if (signal.aborted) return this.#drop(producer)
        this.#producer = producer
        if (hasFailed) log.info('Kafka is back')
        this.#outage.over()
        return
      } catch (error) {
        this.#drop(producer)
        this.#outage.say(`Kafka does not answer (${describe(error)}); looking whether it is back`)
        await sleep(waitMs, signal)
        waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)
      }
    }
  }

  #createProducer(): Producer {
    return this.#options.createKafka().producer({
      // What kafkajs tries again by itself is written once.
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
    })
  }
}

/** @throws when it takes longer; what it comes to then is of no interest any more */
async function withTimeout<Result>(ms: number, wanted: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  })
  wanted.catch(() => undefined)
  try {
    return await Promise.race([wanted, late])
  } finally {
    clearTimeout(timer)
  }
}
