import type { Batch, Consumer, Kafka } from 'kafkajs'
import { Deciding, type Decision, toTransactionRecords } from './deciding.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { passProbe } from './probes.ts'
import type { ProcessorCounters } from './processorCounters.ts'
import type { RawRecord } from './record.ts'
import { LEDGER_READ_BACK } from './settledLetters.ts'
import { fetchStartingPoints } from './startingPoints.ts'
import { TaskInput } from './taskInput.ts'
import { TransactionWriter } from './transaction.ts'
import { WakeUp } from './wakeUp.ts'
import type { Work } from './work.ts'

/** When there is nothing to do but to move past control records: they are not worth a transaction each. */
const TAIL_COMMIT_AFTER_MS = 200
/** Behind, a transaction waits so many intervals for a full batch: each costs the same, whatever is in it. */
const CATCHING_UP_FACTOR = 5
/** Batches beyond the position that may still arrive after a seek, before the position itself is in doubt. */
const MAX_GAPS = 5

export interface TaskContext<Event, State> {
  group: string
  partition: number
  work: Work<Event, State>
  retryTopic: string
  deadLetterTopic: string
  commitIntervalMs: number
  consumer: Consumer
  /** Not the consumer's: see {@link createKafka}. */
  producerKafka: Kafka
  /** Resolves when the group has confirmed, after this call, that the consumer is a member; or on the signal. */
  membershipConfirmed(signal: AbortSignal): Promise<void>
  counters: ProcessorCounters
  log: Logger
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
  readonly #inputs: Map<string, TaskInput>
  #deciding: Deciding<Event, State>
  #writer: TransactionWriter | undefined
  /** Set once the positions are known; before that batches are refused. */
  #opened = false
  readonly #ending = new AbortController()
  #abandoned = false
  #gaps = 0
  #rounds = 0
  #lastBeginMs = 0
  readonly #wakeUp = new WakeUp()
  readonly finished: Promise<void>

  constructor(context: TaskContext<Event, State>) {
    this.#context = context
    this.partition = context.partition
    const { partition, work, retryTopic, deadLetterTopic } = context
    const inputs = [
      ...work.inputs.map(({ name }) => new TaskInput(name, partition)),
      new TaskInput(retryTopic, partition, deadLetterTopic),
    ]
    this.#inputs = new Map(inputs.map((input) => [input.topic, input]))
    this.#deciding = this.#createDeciding()
    this.finished = this.#run()
  }

  get state(): State {
    return this.#deciding.state
  }

  /** Records not yet committed over all inputs. */
  get lag(): number {
    let lag = 0
    for (const input of this.#inputs.values()) lag += input.lag
    return lag
  }

  /** Records fetched and not taken up yet, over all inputs. */
  get queued(): number {
    let queued = 0
    for (const input of this.#inputs.values()) queued += input.queued
    return queued
  }

  /** Whether an input waits at the broker because its queue is full. */
  get isHeldUp(): boolean {
    for (const input of this.#inputs.values()) if (this.#opened && input.paused) return true
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
    for (let failures = 0; !this.#isEnding; ) {
      try {
        await this.#open()
        while (!this.#isEnding) {
          await this.#workOnce()
          failures = 0
        }
      } catch (error) {
        if (this.#isEnding || error instanceof TaskEnded) break
        failures++
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
    for (const input of this.#inputs.values()) this.#pause(input)
    await this.#context.membershipConfirmed(this.#ending.signal)
    if (this.#isEnding) throw new TaskEnded()
    const writer = await TransactionWriter.open(producerKafka, group, partition)
    this.#writer = writer
    passProbe('fenced')
    this.#deciding = this.#createDeciding()
    const inputs = [...this.#inputs.keys()].map((topic) => ({
      topic,
      readBack:
        topic === retryTopic ? { orders: LEDGER_READ_BACK, ageMs: Number.POSITIVE_INFINITY } : work.readBack,
    }))
    const starts = await fetchStartingPoints({ kafka: producerKafka, group, partition, inputs, log })
    for (const input of this.#inputs.values()) {
      const { position, floor } = starts.get(input.topic)!
      input.reset(position, floor)
      log.debug(`task ${partition} reads ${input.topic} from ${position}, done below ${floor}`)
    }
    if (this.#isEnding) throw new TaskEnded()
    for (const input of this.#inputs.values()) {
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
    for (const { topic, paused } of this.#inputs.values()) {
      this.#context.consumer[paused ? 'pause' : 'resume']([{ topic, partitions: [this.partition] }])
    }
  }

  /** One round: wait until there is something due, decide it, commit results and offsets together. */
  async #workOnce(): Promise<void> {
    await this.#untilDue()
    if (this.#isEnding) return
    if (!this.#opened) throw new Error('the position was lost, looking again')
    const records = this.#shift()
    const decisions = await this.#deciding.decideAll(records)
    if (this.#abandoned) throw new TaskEnded()
    // Effects are done before anything is added to the transaction: an open one holds up every reader behind it.
    const offsets = this.#uncommittedOffsets()
    if (offsets.size === 0) return
    passProbe('effects-done')
    this.#lastBeginMs = Date.now()
    await this.#writer!.commit(toTransactionRecords(decisions, this.#context.deadLetterTopic), offsets)
    for (const [topic, offset] of offsets) this.#inputs.get(topic)!.committed = offset
    this.#count(decisions)
  }

  async #untilDue(): Promise<void> {
    const { commitIntervalMs, work } = this.#context
    while (!this.#isEnding && this.#opened) {
      const queued = this.queued
      if (queued >= work.maxBatchRecords) return
      const sinceBeginMs = Date.now() - this.#lastBeginMs
      const tail = this.#uncommittedOffsets().size > 0
      let dueAfterMs = tail ? TAIL_COMMIT_AFTER_MS : Number.POSITIVE_INFINITY
      if (queued > 0) dueAfterMs = commitIntervalMs * (this.#isBehind ? CATCHING_UP_FACTOR : 1)
      if (sinceBeginMs >= dueAfterMs) return
      await this.#wakeUp.wait(dueAfterMs - sinceBeginMs)
    }
  }

  /** Whether more lies at the broker than has been fetched. */
  get #isBehind(): boolean {
    for (const { position, endOffset } of this.#inputs.values()) if (position < endOffset) return true
    return false
  }

  /** Begins with another input each time: a backlog of one must not keep the others waiting until it is gone. */
  #shift(): RawRecord[] {
    let room = this.#context.work.maxBatchRecords
    const records: RawRecord[] = []
    const inputs = [...this.#inputs.values()]
    const first = this.#rounds++ % inputs.length
    for (const input of [...inputs.slice(first), ...inputs.slice(0, first)]) {
      const taken = input.shift(room)
      room -= taken.length
      records.push(...taken)
      this.#resume(input)
    }
    return records
  }

  #uncommittedOffsets(): Map<string, number> {
    const offsets = new Map<string, number>()
    for (const input of this.#inputs.values()) {
      const next = input.nextToCommit
      if (next > input.committed) offsets.set(input.topic, next)
    }
    return offsets
  }

  #createDeciding(): Deciding<Event, State> {
    const { work, counters, log } = this.#context
    return new Deciding({ work, counters, log, beforeAttempt: (attempt) => this.#beforeAttempt(attempt) })
  }

  /** Lets the end finish what is in hand, but does not let it wait for a dependency. */
  async #beforeAttempt(attempt: number): Promise<void> {
    if (attempt > 1) await this.#wakeUp.backOff(attempt - 1, this.#ending.signal)
    if (this.#abandoned || (attempt > 1 && this.#isEnding)) throw new TaskEnded()
  }

  #count(decisions: readonly Decision[]): void {
    const now = Date.now()
    for (const [raw, outcome] of decisions)
      this.#context.counters.done(raw, outcome, now - raw.readTimestampMs)
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
