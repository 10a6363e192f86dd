import type { ApiSender } from './apiSender.ts'
import { within } from './async.ts'
import { describe, PipelineError, UnavailableError } from './errors.ts'
import {
  type AcceptedOrder,
  type Claim,
  type Finding,
  type IdempotencyStore,
  UNDER_WAY_MS,
} from './idempotency.ts'
import type { Logger } from './log.ts'
import { Problem } from './problem.ts'
import { RepeatedWarning } from './repeatedWarning.ts'
import { MAX_SEND_BYTES, MAX_SEND_RECORDS } from './transaction.ts'

/** A request to place an order. */
export interface PlacementRequest extends Claim {
  /** About what it takes in memory. */
  bytes: number
  /** The context of the trace that its order continues. */
  traceparent?: string | undefined
  /** The record for Kafka: the same bytes for the same id and time. */
  encode(accepted: AcceptedOrder): Buffer
}

export interface IntakeOptions {
  store: Pick<IdempotencyStore, 'claim' | 'takeOver' | 'settle'>
  sender: Pick<ApiSender, 'isConnected' | 'send'>
  /**
   * Whether an order has come to Kafka, of which nobody knows whether it was sent.
   *
   * @throws UnavailableError when that cannot be told at present
   */
  wasPlaced(orderId: string): Promise<boolean>
  /** How long a request is let wait. */
  timeoutMs: number
  maxWaitingRequests: number
  maxWaitingBytes: number
  log: Logger
}

interface Waiting {
  request: PlacementRequest
  deadlineMs: number
  isAnswered: boolean
  answer(accepted: AcceptedOrder): void
  refuse(error: Error): void
}

/** What is to be sent, and the batch that it is written down in. */
interface Parcel {
  batchId: number
  /** Before it was written down. */
  begunMs: number
  waiting: Waiting[]
  orders: AcceptedOrder[]
}

/** What comes meanwhile goes together. A second beside it would make both smaller, and a batch costs what it costs. */
const MAX_BATCHES_UNDER_WAY = 1
/** Doubtful orders that are looked into at the same time; they are few, but for an outage with many clients. */
const MAX_INVESTIGATIONS = 16
const LOOK_AT_DEADLINES_MS = 250
/** How long an answer waits for what is acknowledged to be written down. */
const SETTLED_WITHIN_MS = 1_000
/** With time to spare for the send itself. */
const SENT_WITHIN_MS = UNDER_WAY_MS / 2

/**
 * Takes orders in: what arrives within a tick, and while others are under way, goes together into one statement and one
 * send. An order is written down first, with its idempotency key, then sent, then settled, then answered.
 *
 * When Kafka's answer is lost nobody knows whether the order is there, and its client hears 503. It may ask again with
 * the same key, of whichever instance, also after this process was killed. Then:
 *
 *   1. The row says that the order was sent, perhaps. Whoever is asked makes it his own (`takeOver`), so one alone goes on.
 *   2. He looks whether it has come (`wasPlaced`): by what the validator has made of all that was in orders.raw when he
 *      began, so that it does not matter how long ago the first try was.
 *   3. It has: that is the answer. It has not: it is sent, with the same id.
 *
 * A first try that reaches the broker between 2 and 3 (it was in the buffers of a broker that was frozen) is followed by
 * the second at once, and the validator's window of duplicates refuses that. So is one of a producer that was dropped,
 * which tries on by itself for no longer than `kafkaLimits` says. Without the look the window would have to
 * do it alone, and it is over after some 20,000 orders.
 *
 * Bounded in number, bytes and time: beyond that, requests are refused with 503.
 */
export class OrderIntake {
  readonly #options: IntakeOptions
  readonly #outage: RepeatedWarning
  #queue: Waiting[] = []
  #head = 0
  /** Not yet answered, oldest first. */
  readonly #unanswered = new Set<Waiting>()
  #waitingBytes = 0
  #batchesUnderWay = 0
  #investigations = 0
  #isScheduled = false
  /** One send at a time, in the order in which batches were written down. */
  #sending: Promise<unknown> = Promise.resolve()
  readonly #deadlines: NodeJS.Timeout

  constructor(options: IntakeOptions) {
    this.#options = options
    this.#outage = new RepeatedWarning(options.log)
    this.#deadlines = setInterval(() => this.#refuseLate(), LOOK_AT_DEADLINES_MS)
  }

  get waiting(): number {
    return this.#unanswered.size
  }

  /** @throws Problem when nothing more can be taken now; to be asked before a body is read, too */
  requireRoom(): void {
    const { sender, maxWaitingRequests, maxWaitingBytes } = this.#options
    if (!sender.isConnected) throw new Problem('unavailable', 'Kafka does not answer')
    if (this.#unanswered.size >= maxWaitingRequests || this.#waitingBytes >= maxWaitingBytes) {
      throw new Problem('unavailable', 'too many orders are waiting for Kafka')
    }
  }

  /**
   * Resolves when Kafka has acknowledged the order, now or when the same was asked before.
   *
   * @throws Problem, UnavailableError
   */
  async place(request: PlacementRequest): Promise<AcceptedOrder> {
    this.requireRoom()
    return new Promise((resolve, reject) => {
      const settle = () => {
        const isFirst = !waiting.isAnswered
        waiting.isAnswered = true
        if (isFirst) this.#waitingBytes -= request.bytes
        this.#unanswered.delete(waiting)
      }
      const waiting: Waiting = {
        request,
        deadlineMs: Date.now() + this.#options.timeoutMs,
        isAnswered: false,
        answer(accepted) {
          settle()
          resolve(accepted)
        },
        refuse(error) {
          settle()
          reject(error)
        },
      }
      this.#queue.push(waiting)
      this.#unanswered.add(waiting)
      this.#waitingBytes += request.bytes
      this.#schedule()
    })
  }

  /** Stops looking at deadlines: nobody waits any more. */
  close(): void {
    clearInterval(this.#deadlines)
  }

  #schedule(): void {
    if (this.#isScheduled || this.#batchesUnderWay >= MAX_BATCHES_UNDER_WAY) return
    this.#isScheduled = true
    // What else arrives in this tick comes along.
    setImmediate(() => {
      this.#isScheduled = false
      const batch = this.#takeBatch()
      if (batch.length === 0) return
      this.#batchesUnderWay++
      void this.#process(batch).finally(() => {
        this.#batchesUnderWay--
        this.#schedule()
      })
      this.#schedule()
    })
  }

  #takeBatch(): Waiting[] {
    const batch: Waiting[] = []
    for (let bytes = 0; this.#head < this.#queue.length && batch.length < MAX_SEND_RECORDS; this.#head++) {
      const waiting = this.#queue[this.#head]!
      // It was refused while it waited.
      if (waiting.isAnswered) continue
      bytes += waiting.request.bytes
      if (batch.length > 0 && bytes > MAX_SEND_BYTES) break
      batch.push(waiting)
    }
    if (this.#head === this.#queue.length) {
      this.#queue = []
      this.#head = 0
    } else if (this.#head > MAX_SEND_RECORDS) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
    return batch
  }

  /** Answers all of a batch, whatever happens. */
  async #process(batch: Waiting[]): Promise<void> {
    const begunMs = Date.now()
    let claimed: { batchId: number; findings: Finding[] }
    try {
      claimed = await this.#options.store.claim(batch.map(({ request }) => request))
    } catch (error) {
      refuseAll(batch, error)
      return
    }
    const parcel: Parcel = { batchId: claimed.batchId, begunMs, waiting: [], orders: [] }
    for (const [index, waiting] of batch.entries()) {
      const finding = claimed.findings[index]!
      if (finding.kind === 'new') {
        parcel.waiting.push(waiting)
        parcel.orders.push(waiting.request)
      } else this.#answerKnown(waiting, finding)
    }
    if (parcel.orders.length > 0) await this.#deliver(parcel)
  }

  #answerKnown(waiting: Waiting, finding: Exclude<Finding, { kind: 'new' }>): void {
    if (finding.kind === 'repeated') waiting.answer(finding)
    else if (finding.kind === 'mismatched') {
      waiting.refuse(
        new Problem('key-used', 'this Idempotency-Key came with another body before: take a new one'),
      )
    } else if (finding.kind === 'underWay') {
      waiting.refuse(new Problem('request-under-way', 'ask again in a moment, with the same key'))
    } else void this.#investigate(waiting, finding)
  }

  /** Finds out what became of an order of which nobody knows, and sends it if it has not come. */
  async #investigate(waiting: Waiting, order: { batchId: number } & AcceptedOrder): Promise<void> {
    if (this.#investigations >= MAX_INVESTIGATIONS) {
      waiting.refuse(new Problem('unavailable', 'it is being found out what became of the first request'))
      return
    }
    this.#investigations++
    const begunMs = Date.now()
    try {
      const batchId = await this.#options.store.takeOver(order)
      if (batchId === undefined) {
        waiting.refuse(new Problem('request-under-way', 'ask again in a moment, with the same key'))
        return
      }
      const parcel: Parcel = { batchId, begunMs, waiting: [waiting], orders: [order] }
      try {
        if (await this.#options.wasPlaced(order.orderId)) await this.#settle(parcel)
        else await this.#deliver(parcel)
      } catch (error) {
        await this.#giveUp(parcel, error)
      }
    } catch (error) {
      refuseAll([waiting], error)
    } finally {
      this.#investigations--
    }
  }

  /** Sends, after those before it, and answers. */
  async #deliver(parcel: Parcel): Promise<void> {
    const records = parcel.waiting.map(({ request }, index) => {
      const order = parcel.orders[index]!
      return { key: order.orderId, value: request.encode(order), traceparent: request.traceparent }
    })
    const sent = this.#sending.then(() => {
      // Frozen for long, or behind others that took long: by now somebody else may have made them his own.
      if (Date.now() - parcel.begunMs < SENT_WITHIN_MS) return this.#options.sender.send(records)
      throw new UnavailableError('Kafka', new Error('it took too long to come to the turn of this order'))
    })
    this.#sending = sent.catch(() => undefined)
    try {
      await sent
    } catch (error) {
      await this.#giveUp(parcel, error)
      return
    }
    await this.#settle(parcel)
  }

  /** They are accepted, whatever PostgreSQL says to that. Until it is looked into, a repetition is told to wait. */
  async #settle({ batchId, waiting, orders }: Parcel): Promise<void> {
    for (const one of waiting) one.deadlineMs = Number.POSITIVE_INFINITY
    const settled = this.#options.store.settle(batchId, 'acknowledged').then(
      () => this.#outage.over(),
      (error) => this.#outage.say(`orders are accepted, and it cannot be written down (${describe(error)})`),
    )
    await within(SETTLED_WITHIN_MS, settled)
    for (const [index, one] of waiting.entries()) one.answer(orders[index]!)
  }

  /** Nobody knows whether they were written. */
  async #giveUp({ batchId, waiting }: Parcel, error: unknown): Promise<void> {
    refuseAll(waiting, error)
    try {
      await this.#options.store.settle(batchId, 'unknown')
      this.#outage.over()
    } catch (problem) {
      // Those who ask again hear that it is under way, until it counts as gone.
      this.#outage.say(`cannot write down that Kafka did not answer (${describe(problem)})`)
    }
  }

  #refuseLate(): void {
    const nowMs = Date.now()
    for (const waiting of this.#unanswered) {
      if (waiting.deadlineMs > nowMs) continue
      waiting.refuse(
        new Problem('unavailable', 'Kafka takes too long: ask again with the same Idempotency-Key'),
      )
    }
    // What nobody waits for is not kept until the batch before it ends.
    this.#queue = this.#queue.slice(this.#head).filter(({ isAnswered }) => !isAnswered)
    this.#head = 0
  }
}

function refuseAll(waiting: readonly Waiting[], error: unknown): void {
  const reason = error instanceof PipelineError ? error : new UnavailableError('the order intake', error)
  for (const one of waiting) one.refuse(reason)
}
