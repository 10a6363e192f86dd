import type { Batch, Consumer, Kafka } from 'kafkajs'
import { Deciding, type Decision, endSpans, toTransactionRecord, toTransactionRecords } from './deciding.ts'
import { canRetry, describe } from './errors.ts'
import type { GroupCommit } from './groupCommit.ts'
import type { Logger } from './log.ts'
import type { Membership } from './membership.ts'
import { passProbe } from './probes.ts'
import type { ProcessorCounters } from './processorCounters.ts'
import type { Outgoing } from './record.ts'
import type { Sealer } from './sealing.ts'
import { LEDGER_READ_BACK } from './settledLetters.ts'
import { fetchStartingPoints, type StartingPoint } from './startingPoints.ts'
import { TaskInput } from './taskInput.ts'
import { TaskInputs } from './taskInputs.ts'
import { sendTraced } from './tracing.ts'
import type { TaskCommit } from './transaction.ts'
import { WakeUp } from './wakeUp.ts'
import type { Offsets, Work } from './work.ts'

/** When there is nothing to do but to move past control records: they are not worth a transaction each. */
const TAIL_COMMIT_AFTER_MS = 200
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
  consumer: Consumer
  /** Not the consumer's: see {@link createKafka}. */
  producerKafka: Kafka
  /** Asked before each round: whether there is to be none. */
  isPaused(): boolean
  membership: Membership
  /** Shared by all tasks of the process. */
  commits: GroupCommit
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
 * Partition k of all input topics of a group: consumed and decided by one loop, and published in transactions together
 * with the other tasks of the process. Batches are handed in by the consumer and wait in bounded queues, so the consumer
 * is never held up.
 */
export class Task<Event, State> {
  readonly partition: number
  readonly #context: TaskContext<Event, State>
  readonly #inputs: TaskInputs
  #deciding: Deciding<Event, State>
  /** Set once the positions are known; before that batches are refused. */
  #opened = false
  readonly #ending = new AbortController()
  #abandoned = false
  #gaps = 0
  #lastLookMs = 0
  /** What was submitted last, while it is under way: the next round is being decided meanwhile. */
  #committing: Promise<void> | undefined
  /** What it failed with: known here also while the loop waits for something to do. */
  #failure: { error: unknown } | undefined
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

  /** Whether much more lies at the broker than has been fetched, and there is room for it. */
  get isBehind(): boolean {
    return this.#inputs.isBehind
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
        // One failure can be no more than that a broker was busy; what goes on failing is to be told.
        const level = failures > 1 ? 'warn' : 'debug'
        log[level]({ task: this.partition }, `task ${this.partition} starts again: ${describe(error)}`)
        this.#opened = false
        await this.#committing?.catch(() => undefined)
        this.#failure = undefined
        await this.#wakeUp.backOff(failures, this.#ending.signal)
      }
    }
    this.#opened = false
    await this.#committing?.catch(() => undefined)
  }

  /**
   * Look once it stands still (KIP-447). In this order, or what the owner before had under way commits between our look at
   * the offsets and our first transaction, and is done twice:
   *
   *   1. the group confirms that we are still a member: whoever had this task before is refused its offsets from then on,
   *      unless they are in an open transaction already
   *   2. that is ended, if its owner is gone; if not, it is waited for
   *   3. now the committed offsets are final: they are the floor of each input
   *   4. the consumer is told to read from there, or from further back for what has to be remembered
   */
  async #open(): Promise<void> {
    const { group, partition, producerKafka, work, retryTopic, membership, commits, log } = this.#context
    // Until we say where to read. By itself the client would fetch what is dropped; and where the committed offset
    // is out of range it would, before we have looked, commit another one over it.
    for (const input of this.#inputs) this.#pause(input)
    await membership.confirmed(this.#ending.signal)
    if (this.#isEnding) throw new TaskEnded()
    await commits.open()
    passProbe('fenced')
    const readBack = work.keepFrom ? ('kept' as const) : work.readBack
    const inputs = this.#inputs.topics.map((topic) => ({
      topic,
      readBack:
        topic === retryTopic ? { orders: LEDGER_READ_BACK, ageMs: Number.POSITIVE_INFINITY } : readBack,
    }))
    const { signal } = this.#ending
    const fence = (writer: string | undefined) => commits.fence(writer)
    const starts = await fetchStartingPoints({
      kafka: producerKafka,
      group,
      partition,
      inputs,
      fence,
      signal,
      log,
    })
    await this.#claim(starts)
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

  /** Commits where it begins, so that whoever comes after knows whose transaction may be open before it writes anything. */
  async #claim(starts: ReadonlyMap<string, StartingPoint>): Promise<void> {
    const { partition, commits, work } = this.#context
    if ([...starts.values()].every(({ writer }) => writer === commits.writerId)) return
    const offsets = new Map([...starts].map(([topic, { floor }]) => [topic, floor]))
    const keepFrom = new Map([...starts].map(([topic, { position }]) => [topic, position]))
    const claim = { partition, records: [], offsets, keepFrom: work.keepFrom && keepFrom }
    await commits.submit(claim, 0, () => !this.#abandoned)
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

  /**
   * One round: wait until there is something due, decide it, hand results and offsets over to be committed together.
   * While that is under way the next round begins.
   */
  async #workOnce(): Promise<void> {
    await this.#untilDue()
    if (this.#isEnding) return
    if (!this.#opened) throw new Error('the position was lost, looking again')
    const records = this.#inputs.shift(this.#context.work.maxBatchRecords)
    for (const input of this.#inputs) this.#resume(input)
    const submitted = this.#context.commits.expect(this.partition)
    try {
      const decisions = await this.#deciding.decideAll(records)
      try {
        await this.#committing
        // What stands on something that was not committed is not to be committed either.
        if (this.#failure) throw this.#failure.error
        // What is said and committed stands on all that is to be remembered.
        if (!this.#inputs.isRemembering) await this.#submit(decisions)
      } catch (error) {
        endSpans(decisions, 'not-committed')
        throw error
      }
    } finally {
      submitted()
    }
  }

  async #submit(decisions: readonly Decision[]): Promise<void> {
    const overdue = await this.#findOverdue()
    if (this.#abandoned) throw new TaskEnded()
    // What is overdue moves no offset, and is not to be said without one: see `TaskCommit`.
    const offsets = overdue.length > 0 ? this.#inputs.handled : this.#inputs.uncommitted
    if (offsets.size === 0) return
    // Effects are done before anything is added to the transaction: an open one holds up every reader behind it.
    passProbe('effects-done')
    const { work, deadLetterTopic, seal } = this.#context
    const keepFrom = work.keepFrom?.(this.state)
    // It can move without a record of its topic, and has to be that of this very transaction.
    for (const topic of keepFrom?.keys() ?? []) offsets.set(topic, this.#inputs.get(topic)!.nextToCommit)
    const records = [
      ...toTransactionRecords(decisions, deadLetterTopic, seal),
      ...overdue.map((one) => toTransactionRecord(one, seal)),
    ]
    const committing = this.#commit(
      { partition: this.partition, records, offsets, keepFrom },
      decisions,
      overdue,
    )
    this.#committing = committing
    committing
      .catch((error) => {
        this.#failure = { error }
      })
      .finally(() => {
        if (this.#committing === committing) this.#committing = undefined
        this.#wakeUp.wake()
      })
  }

  async #commit(commit: TaskCommit, decisions: readonly Decision[], overdue: Outgoing[]): Promise<void> {
    const { group, commits, counters } = this.#context
    const { partition, records } = commit
    try {
      await sendTraced(records, { partition, group }, () =>
        commits.submit(commit, decisions.length, () => !this.#abandoned),
      )
    } catch (error) {
      endSpans(decisions, 'not-committed')
      throw error
    }
    for (const [topic, offset] of commit.offsets) this.#inputs.get(topic)!.commit(offset)
    this.#count(decisions)
    for (const { topic } of overdue) counters.wrote(topic)
    endSpans(decisions)
  }

  async #untilDue(): Promise<void> {
    const { work } = this.#context
    while (!this.#isEnding && this.#opened) {
      if (this.#failure) throw this.#failure.error
      if (this.#context.isPaused()) {
        await this.#wakeUp.wait(Number.POSITIVE_INFINITY)
        continue
      }
      const { ready, isRemembering } = this.#inputs
      if (ready >= work.maxBatchRecords) return
      const sinceBeginMs = Date.now() - this.#context.commits.lastBeginMs
      const tail = !isRemembering && !this.#committing && this.#inputs.uncommitted.size > 0
      let dueAfterMs = tail ? TAIL_COMMIT_AFTER_MS : Number.POSITIVE_INFINITY
      if (ready > 0) dueAfterMs = this.#context.commits.intervalMs
      const asks = work.overdue !== undefined && !isRemembering
      const untilLookMs = asks ? this.#lastLookMs + OVERDUE_LOOK_MS - Date.now() : Number.POSITIVE_INFINITY
      if (sinceBeginMs >= dueAfterMs || untilLookMs <= 0) return
      await this.#wakeUp.wait(Math.min(dueAfterMs - sinceBeginMs, untilLookMs))
    }
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
    for (const [raw, outcome, placedAtMs] of decisions) {
      counters.done(raw.settles === undefined ? raw.topic : retryTopic, raw, outcome, nowMs, placedAtMs)
    }
  }

  get #isEnding(): boolean {
    return this.#ending.signal.aborted
  }
}
