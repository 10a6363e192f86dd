import type { Batch, Consumer, Kafka } from 'kafkajs'
import { Deciding, type Decision, endSpans, toTransactionRecord, toTransactionRecords } from './deciding.ts'
import { canRetry, describe } from './errors.ts'
import type { Logger } from './log.ts'
import { passProbe } from './probes.ts'
import type { ProcessorCounters } from './processorCounters.ts'
import type { Outgoing } from './record.ts'
import type { Sealer } from './sealing.ts'
import { LEDGER_READ_BACK } from './settledLetters.ts'
import { fetchStartingPoints } from './startingPoints.ts'
import { TaskInput } from './taskInput.ts'
import { TaskInputs } from './taskInputs.ts'
import { sendTraced } from './tracing.ts'
import { TransactionWriter } from './transaction.ts'
import { WakeUp } from './wakeUp.ts'
import type { Offsets, Work } from './work.ts'

/** When there is nothing to do but to move past control records: they are not worth a transaction each. */
const TAIL_COMMIT_AFTER_MS = 200
/**
 * A transaction costs the same whatever is in it, and when they come to take longer the machine is short of time: so many
 * times as long as the last one took passes from one beginning to the next, within bounds. Behind, all of that time.
 */
const COMMIT_SPACING = 6
/** For work that others wait for with each record. */
const PROMPT_COMMIT_SPACING = 1
const MAX_COMMIT_INTERVAL_MS = 500
/** Batches beyond the position that may still arrive after a seek, before the position itself is in doubt. */
const MAX_GAPS = 5
/** A failure so long ago has nothing to do with the next one. */
const FORGOTTEN_FAILURE_MS = 10_000
/** How often a work is asked what is overdue. */
const OVERDUE_LOOK_MS = 1_000

export interface TaskContext<Event, State> {
  group: string
  partition: number
  work: Work<Event, State>
  retryTopic: string
  deadLetterTopic: string
  seal: Sealer
  commitIntervalMs: number
  isPrompt: boolean
  consumer: Consumer
  /** Not the consumer's: see {@link createKafka}. */
  producerKafka: Kafka
  /** Asked before each round: whether there is to be none. */
  isPaused(): boolean
  /** Resolves when the group has confirmed, after this call, that the consumer is a member; or on the signal. */
  membershipConfirmed(signal: AbortSignal): Promise<void>
  counters: ProcessorCounters
  log: Logger
}

/** What waits in one input of a task. */
export interface InputLag {
  topic: string
  partition: number
  /** Not committed yet, control records included, as far as known. */
  records: number
  /** Since the oldest of those that were fetched was sent to Kafka; 0 while none is here. */
  seconds: number
}

/** Thrown through the work of a task that is to end. */
class TaskEnded extends Error {}

/**
 * Partition k of all input topics of a group: consumed, decided and published by one loop with one transactional
 * producer. Batches are handed in by the consumer and wait in bounded queues, so the consumer is never held up.
 */
export class Task<Event, State> {
  readonly partition: number
  readonly #context: TaskContext<Event, State>
  readonly #inputs: TaskInputs
  #deciding: Deciding<Event, State>
  #writer: TransactionWriter | undefined
  /** Set once the positions are known; before that batches are refused. */
  #opened = false
  readonly #ending = new AbortController()
  #abandoned = false
  #gaps = 0
  #lastBeginMs = 0
  /** How long the last transaction took. */
  #lastCommitMs = 0
  #lastLookMs = 0
  readonly #wakeUp = new WakeUp()
  readonly finished: Promise<void>

  constructor(context: TaskContext<Event, State>) {
    this.#context = context
    this.partition = context.partition
    const { partition, work, retryTopic, deadLetterTopic } = context
    this.#inputs = new TaskInputs([
      ...work.inputs.map(({ name }) => new TaskInput(name, partition)),
      new TaskInput(retryTopic, partition, deadLetterTopic),
    ])
    this.#deciding = this.#createDeciding(new Map())
    this.finished = this.#run()
  }

  get state(): State {
    return this.#deciding.state
  }

  /** Records not yet committed over all inputs. */
  get lag(): number {
    return this.#inputs.lag
  }

  get lags(): InputLag[] {
    const nowMs = Date.now()
    return [...this.#inputs].map(({ topic, partition, lag, oldestTimestampMs = nowMs }) => {
      return { topic, partition, records: lag, seconds: Math.max(0, nowMs - oldestTimestampMs) / 1_000 }
    })
  }

  /** Records fetched and not taken up yet, over all inputs. */
  get queued(): number {
    return this.#inputs.queued
  }

  /** Whether an input waits at the broker because its queue is full. */
  get isHeldUp(): boolean {
    for (const input of this.#inputs) if (this.#opened && input.paused) return true
    return false
  }

  /** Takes in what the consumer fetched. Never waits and never throws: both would hold up or end the consumer. */
  accept(batch: Batch): void {
    const input = this.#inputs.get(batch.topic)
    if (!input || !this.#opened || this.#isEnding) return
    this.#follow(input, input.take(batch))
    if (input.isFull) this.#pause(input)
    this.#wakeUp.wake()
  }

  /** Records of a batch that held nothing to work on: control records, or an aborted transaction. */
  skip(topic: string, firstOffset: number, lastOffset: number, endOffset: number): void {
    const input = this.#inputs.get(topic)
    if (!input || !this.#opened || this.#isEnding) return
    this.#follow(input, input.skip(firstOffset, lastOffset, endOffset))
    this.#wakeUp.wake()
  }

  /** Seeks back after a batch that did not follow the one before; after several of them all is looked at anew. */
  #follow(input: TaskInput, follows: boolean): void {
    if (follows) this.#gaps = 0
    else if (++this.#gaps > MAX_GAPS) this.#opened = false
    else this.#seek(input)
  }

  /** Looks again whether there is something to do. */
  look(): void {
    this.#wakeUp.wake()
  }

  /** Finishes the transaction in hand and ends. */
  end(): void {
    this.#ending.abort()
    this.#wakeUp.wake()
  }

  /** Ends without another commit: the partition belongs to somebody else now. */
  abandon(): void {
    this.#abandoned = true
    this.end()
  }

  async #run(): Promise<void> {
    const { log, counters } = this.#context
    for (let failures = 0, failedAtMs = 0; !this.#isEnding; ) {
      try {
        await this.#open()
        while (!this.#isEnding) await this.#workOnce()
      } catch (error) {
        if (this.#isEnding || error instanceof TaskEnded) break
        // Not counted by rounds: one that fails only now and then, between good ones, is not to go on unseen.
        failures = Date.now() - failedAtMs > FORGOTTEN_FAILURE_MS ? 1 : failures + 1
        failedAtMs = Date.now()
        counters.restarts++
        // Another owner's fence is how a partition changes hands; the group says who is right.
        const level = failures > 1 ? 'warn' : 'debug'
        log[level]({ task: this.partition }, `task ${this.partition} starts again: ${describe(error)}`)
        this.#close()
        await this.#wakeUp.backOff(failures, this.#ending.signal)
      }
    }
    this.#close()
  }

  /**
   * Fence, then look again. In this order, or what the owner before had under way commits between our look at the
   * offsets and our first transaction, and is done twice:
   *
   *   1. the group confirms that we are still a member; a zombie that woke up would else fence the owner, who
   *      fences it in turn, and so on
   *   2. the fence completes or aborts the transaction of whoever had this task
   *   3. only now are the committed offsets final: they are the floor of each input
   *   4. the consumer is told to read from there, or from further back for what has to be remembered
   */
  async #open(): Promise<void> {
    const { group, partition, producerKafka, work, retryTopic, log } = this.#context
    // Until we say where to read. By itself the client would fetch what is dropped; and where the committed offset
    // is out of range it would, before we have looked, commit another one over it.
    for (const input of this.#inputs) this.#pause(input)
    await this.#context.membershipConfirmed(this.#ending.signal)
    if (this.#isEnding) throw new TaskEnded()
    const writer = await TransactionWriter.open(producerKafka, group, partition)
    this.#writer = writer
    passProbe('fenced')
    const readBack = work.keepFrom ? ('kept' as const) : work.readBack
    const inputs = this.#inputs.topics.map((topic) => ({
      topic,
      readBack:
        topic === retryTopic ? { orders: LEDGER_READ_BACK, ageMs: Number.POSITIVE_INFINITY } : readBack,
    }))
    const starts = await fetchStartingPoints({ kafka: producerKafka, group, partition, inputs, log })
    for (const input of this.#inputs) {
      const { position, floor } = starts.get(input.topic)!
      input.reset(position, floor)
      log.debug(`task ${partition} reads ${input.topic} from ${position}, done below ${floor}`)
    }
    this.#deciding = this.#createDeciding(
      new Map([...starts].map(([topic, { position }]) => [topic, position])),
    )
    if (this.#isEnding) throw new TaskEnded()
    for (const input of this.#inputs) {
      this.#seek(input)
      this.#context.consumer.resume([{ topic: input.topic, partitions: [partition] }])
    }
    this.#gaps = 0
    this.#opened = true
  }

  #seek({ topic, partition, position }: TaskInput): void {
    this.#context.consumer.seek({ topic, partition, offset: String(position) })
  }

  #pause(input: TaskInput): void {
    if (input.paused) return
    input.paused = true
    this.#context.consumer.pause([{ topic: input.topic, partitions: [this.partition] }])
  }

  #resume(input: TaskInput): void {
    if (!input.paused || !input.hasRoom) return
    input.paused = false
    this.#context.consumer.resume([{ topic: input.topic, partitions: [this.partition] }])
  }

  /** After a rebalance kafkajs may hold flags of an assignment before: ours are what counts. */
  restorePauses(): void {
    for (const { topic, paused } of this.#inputs) {
      this.#context.consumer[paused ? 'pause' : 'resume']([{ topic, partitions: [this.partition] }])
    }
  }

  /** One round: wait until there is something due, decide it, commit results and offsets together. */
  async #workOnce(): Promise<void> {
    await this.#untilDue()
    if (this.#isEnding) return
    if (!this.#opened) throw new Error('the position was lost, looking again')
    const records = this.#inputs.shift(this.#context.work.maxBatchRecords)
    for (const input of this.#inputs) this.#resume(input)
    const decisions = await this.#deciding.decideAll(records)
    // What is said and committed stands on all that is to be remembered.
    if (this.#inputs.isRemembering) return
    try {
      await this.#commit(decisions)
      endSpans(decisions)
    } catch (error) {
      endSpans(decisions, 'not-committed')
      throw error
    }
  }

  async #commit(decisions: readonly Decision[]): Promise<void> {
    const overdue = await this.#findOverdue()
    if (this.#abandoned) throw new TaskEnded()
    // Effects are done before anything is added to the transaction: an open one holds up every reader behind it.
    const offsets = this.#inputs.uncommitted
    if (offsets.size === 0 && overdue.length === 0) return
    passProbe('effects-done')
    this.#lastBeginMs = Date.now()
    const { work, group, deadLetterTopic, seal } = this.#context
    const keepFrom = work.keepFrom?.(this.state)
    // It can move without a record of its topic, and has to be that of this very transaction.
    for (const topic of keepFrom?.keys() ?? []) offsets.set(topic, this.#inputs.get(topic)!.nextToCommit)
    const outgoing = [
      ...toTransactionRecords(decisions, deadLetterTopic, seal),
      ...overdue.map((one) => toTransactionRecord(one, seal)),
    ]
    const written = () => this.#writer!.commit(outgoing, offsets, keepFrom)
    await sendTraced(outgoing, { partition: this.partition, group }, written).catch((error) => {
      this.#context.counters.transactions.aborted++
      throw error
    })
    this.#lastCommitMs = Date.now() - this.#lastBeginMs
    for (const [topic, offset] of offsets) this.#inputs.get(topic)!.commit(offset)
    this.#count(decisions)
    for (const { topic } of overdue) this.#context.counters.wrote(topic)
  }

  async #untilDue(): Promise<void> {
    const { work } = this.#context
    while (!this.#isEnding && this.#opened) {
      if (this.#context.isPaused()) {
        await this.#wakeUp.wait(Number.POSITIVE_INFINITY)
        continue
      }
      const { ready, isRemembering, isBehind } = this.#inputs
      if (ready >= work.maxBatchRecords) return
      const sinceBeginMs = Date.now() - this.#lastBeginMs
      const tail = !isRemembering && this.#inputs.uncommitted.size > 0
      let dueAfterMs = tail ? TAIL_COMMIT_AFTER_MS : Number.POSITIVE_INFINITY
      if (ready > 0) dueAfterMs = this.#commitInterval(isBehind)
      const asks = work.overdue !== undefined && !isRemembering
      const untilLookMs = asks ? this.#lastLookMs + OVERDUE_LOOK_MS - Date.now() : Number.POSITIVE_INFINITY
      if (sinceBeginMs >= dueAfterMs || untilLookMs <= 0) return
      await this.#wakeUp.wait(Math.min(dueAfterMs - sinceBeginMs, untilLookMs))
    }
  }

  #commitInterval(isBehind: boolean): number {
    const { commitIntervalMs, isPrompt } = this.#context
    const spacing = isPrompt ? PROMPT_COMMIT_SPACING : COMMIT_SPACING
    // The end of a log that others write to in transactions is ahead of what can be read: that is not being behind.
    const spacedMs = isBehind && !isPrompt ? MAX_COMMIT_INTERVAL_MS : this.#lastCommitMs * spacing
    return Math.max(commitIntervalMs, Math.min(spacedMs, MAX_COMMIT_INTERVAL_MS))
  }

  /** What the work has to say by now without a record that asks for it, with all that was taken out behind it. */
  async #findOverdue(): Promise<Outgoing[]> {
    const { work, counters } = this.#context
    if (!work.overdue || Date.now() - this.#lastLookMs < OVERDUE_LOOK_MS) return []
    this.#lastLookMs = Date.now()
    try {
      return await work.overdue(this.state, this.#inputs.handled)
    } catch (error) {
      if (!canRetry(error)) throw error
      counters.outage(describe(error))
      return []
    }
  }

  #createDeciding(starts: Offsets): Deciding<Event, State> {
    const { work, group, retryTopic, counters, log } = this.#context
    const beforeAttempt = (attempt: number) => this.#beforeAttempt(attempt)
    return new Deciding({ work, group, retryTopic, starts, counters, log, beforeAttempt })
  }

  /** Lets the end finish what is in hand, but does not let it wait for a dependency. */
  async #beforeAttempt(attempt: number): Promise<void> {
    if (attempt > 1) await this.#wakeUp.backOff(attempt - 1, this.#ending.signal)
    if (this.#abandoned || (attempt > 1 && this.#isEnding)) throw new TaskEnded()
  }

  #count(decisions: readonly Decision[]): void {
    const { counters, retryTopic } = this.#context
    const nowMs = Date.now()
    counters.committed(decisions.length, this.#lastCommitMs)
    for (const [raw, outcome, placedAtMs] of decisions) {
      counters.done(raw.settles === undefined ? raw.topic : retryTopic, raw, outcome, nowMs, placedAtMs)
    }
  }

  #close(): void {
    this.#opened = false
    // Not awaited: kafkajs waits for answers that a dead broker will not give.
    void this.#writer?.close(this.#context.log)
    this.#writer = undefined
  }

  get #isEnding(): boolean {
    return this.#ending.signal.aborted
  }
}
