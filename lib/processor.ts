import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Consumer, ConsumerGroupJoinEvent, Kafka } from 'kafkajs'
import { coPartitioningAssigner, readWriters } from './assigner.ts'
import { sleep, untilAborted, within } from './async.ts'
import { awaitTopics } from './awaitTopics.ts'
import { describe } from './errors.ts'
import { GroupCommit } from './groupCommit.ts'
import { requirePatchedKafkajs } from './kafkaPatchCheck.ts'
import { leaveGroup } from './leaveGroup.ts'
import type { Logger } from './log.ts'
import { Membership } from './membership.ts'
import { passProbe } from './probes.ts'
import { ProcessorCounters } from './processorCounters.ts'
import type { Outcome, RawRecord } from './record.ts'
import { RepeatedWarning } from './repeatedWarning.ts'
import type { Sealer } from './sealing.ts'
import { type InputLag, Task } from './task.ts'
import type { TopicSettings } from './topics.ts'
import type { Member } from './transaction.ts'
import type { Work } from './work.ts'

export type { Work } from './work.ts'

export interface ProcessorOptions<Event, State> {
  group: string
  work: Work<Event, State>
  /** Topics that `handle` writes to: they must exist and have as many partitions as the inputs. */
  outputs: readonly TopicSettings[]
  deadLetters: TopicSettings
  retries: TopicSettings
  /** Makes a Kafka client of its own connections; called once for the consumer and once for the producers. */
  createKafka(purpose: string): Kafka
  sessionTimeoutMs: number
  /** Seals what leaves, where that is asked for; dead letters stay as they came. */
  seal?: Sealer
  /** Least time between the beginnings of two transactions, unless a batch is full. */
  commitIntervalMs: number
  /** Each record is waited for: it is fetched as it comes, and committed soon, at what that costs. */
  isPrompt?: boolean
  log: Logger
  /** Told of each record once it is committed. */
  onDone?: (record: RawRecord, outcome: Outcome) => void
}

/** What a processor says of itself. */
export interface ProcessorStatus {
  state: 'starting' | 'waiting' | 'running' | 'stopping'
  tasks: number[]
  /** Records known to be in the inputs of our tasks and not yet worked on. */
  lag: number
  /** Those of them that are in memory: bounded. */
  queued: number
  /** Tasks whose queue is full: what else there is waits at the broker. */
  paused: number[]
  /** Told to do nothing; see {@link Processor.pause}. */
  isPaused: boolean
}

/** The event of kafkajs, with what our patch adds to it. */
type GroupJoin = ConsumerGroupJoinEvent['payload'] & Member & { assignmentUserData: Buffer }

const MAX_RESTART_MS = 1_000
/** How long a fetch waits at the broker for the first record: a partition that is resumed meanwhile waits for it too. */
const FETCH_WAIT_MS = 100
/**
 * What trickles in is fetched together, since a fetch for each record is what costs, on both sides: no more often than it
 * would be committed, and at least after so long.
 */
const MAX_FETCH_INTERVAL_MS = 100
/** As many batches as a fetch may bring are handed over side by side: each of them waits for the next fetch. */
const FETCHED_BATCHES = 64
const DRAIN_DEADLINE_MS = 15_000

/**
 * Consumes, decides and publishes, exactly once: each input record has its effect in one committed transaction,
 * whatever is killed. A task for each partition does the work ({@link Task}); this runs the consumer that feeds
 * them, hands tasks out as the group assigns partitions, and starts the consumer again whenever it ends.
 */
export class Processor<Event, State> {
  readonly counters: ProcessorCounters
  readonly #options: ProcessorOptions<Event, State>
  readonly #producerKafka: Kafka
  readonly #tasks = new Map<number, Task<Event, State>>()
  /** Tasks that were taken away and have not come to their end yet. */
  readonly #ending = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  #state: ProcessorStatus['state'] = 'starting'
  readonly #membership = new Membership()
  readonly #commits: GroupCommit
  /** The member that we were in a session that crashed: the group still counts it in. */
  #deadMemberId: string | undefined
  readonly #outage: RepeatedWarning
  #running: Promise<void> | undefined
  #isPaused = false
  #fetchedAtMs = 0

  constructor(options: ProcessorOptions<Event, State>) {
    requirePatchedKafkajs()
    this.#options = options
    this.#producerKafka = options.createKafka('producer')
    this.#outage = new RepeatedWarning(options.log)
    this.counters = new ProcessorCounters((message) => this.#reportOutage(message), options.onDone)
    // A counter that is not there yet has no rate when it begins to count.
    for (const { name } of options.work.inputs) this.counters.inByTopic.set(name, 0)
    this.#commits = new GroupCommit({
      kafka: this.#producerKafka,
      group: options.group,
      writerId: `${options.group}-${randomUUID()}`,
      membership: this.#membership,
      commitIntervalMs: options.commitIntervalMs,
      isPrompt: options.isPrompt === true,
      counters: this.counters,
      log: options.log,
    })
  }

  get status(): ProcessorStatus {
    const tasks = [...this.#tasks.values()].sort((a, b) => a.partition - b.partition)
    return {
      state: this.#state,
      tasks: tasks.map(({ partition }) => partition),
      lag: tasks.reduce((sum, { lag }) => sum + lag, 0),
      queued: tasks.reduce((sum, { queued }) => sum + queued, 0),
      paused: tasks.filter(({ isHeldUp }) => isHeldUp).map(({ partition }) => partition),
      isPaused: this.#isPaused,
    }
  }

  /** What waits in each input of our tasks. */
  get lags(): InputLag[] {
    return [...this.#tasks.values()].flatMap(({ lags }) => lags)
  }

  /** The state of each task that is held at present. */
  get states(): State[] {
    return [...this.#tasks.values()].map(({ state }) => state)
  }

  /** Runs until {@link stop}. Whatever goes wrong with the broker is waited out. */
  run(): Promise<void> {
    this.#running ??= this.#runSessions()
    return this.#running
  }

  /** Finishes the transactions in hand and begins none, as a member of its group: what comes waits. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    for (const task of this.#tasks.values()) task.look()
  }

  /** Finishes the transactions in hand, leaves the group and disconnects. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #runSessions(): Promise<void> {
    const { log } = this.#options
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      const startedMs = Date.now()
      try {
        await this.#runSession()
        failures = 0
      } catch (error) {
        // A session that held for a while was a good one: the next failure is a new one.
        failures = Date.now() - startedMs > 60_000 ? 1 : failures + 1
        this.#state = 'waiting'
        this.#reportOutage(`Kafka: ${describe(error)}`)
        log.debug({ error }, 'the consumer ended')
        await sleep(Math.min(MAX_RESTART_MS, 100 * 2 ** failures), this.#stop.signal)
      }
    }
  }

  /** One consumer from its start to its end. @throws what ended it, unless that was {@link stop} */
  async #runSession(): Promise<void> {
    const kafka = this.#options.createKafka('consumer')
    const { work, outputs, deadLetters, retries, log } = this.#options
    const wanted = [...work.inputs, ...outputs, deadLetters, retries].map(({ name }) => name)
    await awaitTopics(kafka, wanted, log, this.#stop.signal)
    if (this.#stop.signal.aborted) return
    await this.#leaveForDead(kafka)
    const consumer = this.#createConsumer(kafka)
    const crashed = this.#listen(consumer)
    try {
      await consumer.connect()
      const topics = [...work.inputs, retries].map(({ name }) => name)
      await consumer.subscribe({ topics, fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        partitionsConsumedConcurrently: FETCHED_BATCHES,
        // Never throws: an error would use up retries that are counted for good.
        eachBatch: async ({ batch }) => {
          this.#tasks.get(batch.partition)?.accept(batch)
          await this.#untilNextFetch()
        },
      })
      await untilAborted(crashed, this.#stop.signal)
      this.#state = 'stopping'
    } finally {
      await this.#endTasks()
      await within(
        DRAIN_DEADLINE_MS,
        consumer.disconnect().catch((error) => this.#options.log.debug(describe(error))),
      )
    }
  }

  /** The next fetch from a broker waits for all batches of the one before. */
  async #untilNextFetch(): Promise<void> {
    // All that came with it is to be taken in first.
    await setImmediate()
    for (const { isBehind } of this.#tasks.values()) if (isBehind) return
    const intervalMs = Math.min(this.#commits.intervalMs, MAX_FETCH_INTERVAL_MS)
    const waitMs = this.#fetchedAtMs + intervalMs - Date.now()
    if (waitMs > 0) await sleep(waitMs, this.#stop.signal)
  }

  /**
   * Saves the group a wait for the session that crashed.
   *
   * @throws when the group cannot be asked: a broker that has just come back refuses that for a moment, and whoever
   *   joined without it would wait the whole session out
   */
  async #leaveForDead(kafka: Kafka): Promise<void> {
    if (this.#deadMemberId === undefined) return
    await leaveGroup(kafka, this.#options.group, this.#deadMemberId)
    this.#deadMemberId = undefined
  }

  #createConsumer(kafka: Kafka): Consumer {
    const { group, sessionTimeoutMs } = this.#options
    return kafka.consumer({
      groupId: group,
      sessionTimeout: sessionTimeoutMs,
      // A task that starts again waits for one.
      heartbeatInterval: Math.min(500, Math.floor(sessionTimeoutMs / 5)),
      rebalanceTimeout: sessionTimeoutMs * 2,
      partitionAssigners: [
        coPartitioningAssigner(() => ({ owned: [...this.#tasks.keys()], writer: this.#commits.writerId })),
      ],
      allowAutoTopicCreation: false,
      readUncommitted: false,
      minBytes: 1,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      maxBytesPerPartition: 256 * 1024,
      metadataMaxAge: 60_000,
      // Ours is the only hand that restarts it.
      retry: { restartOnFailure: async () => false },
    })
  }

  /** @returns a promise that rejects when the consumer crashes */
  #listen(consumer: Consumer): Promise<never> {
    const { GROUP_JOIN, FETCH, HEARTBEAT, END_BATCH_PROCESS, CRASH } = consumer.events
    consumer.on(GROUP_JOIN, ({ payload }) => {
      this.#assign(consumer, payload as GroupJoin)
    })
    consumer.on(FETCH, () => {
      this.#fetchedAtMs = Date.now()
    })
    consumer.on(HEARTBEAT, () => this.#membership.confirm())
    consumer.on(END_BATCH_PROCESS, ({ payload }) => {
      const { topic, partition, batchSize, firstOffset, lastOffset, highWatermark } = payload
      // Only what never reached eachBatch: control records and aborted ones. A batch with records in it may have
      // been refused by its task, and must not be passed over on the quiet.
      if (batchSize > 0) return
      const first = Number(firstOffset ?? lastOffset)
      this.#tasks.get(partition)?.skip(topic, first, Number(lastOffset), Number(highWatermark))
    })
    return new Promise((_, reject) => consumer.on(CRASH, ({ payload }) => reject(payload.error)))
  }

  /** The group has spoken: begin what is new, abandon what is gone, leave the rest alone. */
  #assign(
    consumer: Consumer,
    { memberId, generationId, assignmentUserData, memberAssignment }: GroupJoin,
  ): void {
    const member = { memberId, generationId }
    const partitions = Object.values(memberAssignment)[0] ?? []
    passProbe('joined')
    const isContinued = this.#membership.isContinuedBy(member)
    for (const [partition, task] of this.#tasks) {
      if (!isContinued || !partitions.includes(partition)) this.#retire(partition, task)
      else task.restorePauses()
    }
    for (const partition of partitions) {
      if (!this.#tasks.has(partition)) this.#tasks.set(partition, this.#createTask(consumer, partition))
    }
    this.#membership.join(member, readWriters(assignmentUserData))
    this.#state = 'running'
    this.#outage.over()
    this.#options.log.info(`has ${partitions.length === 0 ? 'no tasks' : `tasks ${partitions.join(' ')}`}`)
  }

  #createTask(consumer: Consumer, partition: number): Task<Event, State> {
    const { group, work, retries, deadLetters, seal, log } = this.#options
    return new Task({
      group,
      partition,
      work,
      retryTopic: retries.name,
      deadLetterTopic: deadLetters.name,
      seal: seal ?? ((record) => record),
      consumer,
      producerKafka: this.#producerKafka,
      isPaused: () => this.#isPaused,
      membership: this.#membership,
      commits: this.#commits,
      counters: this.counters,
      log,
    })
  }

  #retire(partition: number, task: Task<Event, State>): void {
    task.abandon()
    this.#tasks.delete(partition)
    this.#ending.add(task.finished)
    void task.finished.then(() => this.#ending.delete(task.finished))
  }

  async #endTasks(): Promise<void> {
    this.#membership.end()
    for (const task of this.#tasks.values()) task.end()
    const all = Promise.all([...this.#tasks.values()].map(({ finished }) => finished).concat(...this.#ending))
    await within(DRAIN_DEADLINE_MS, all)
    for (const task of this.#tasks.values()) task.abandon()
    this.#tasks.clear()
    // Known to its group only if it was given anything; an orderly end leaves by itself, and a second time is no harm.
    this.#deadMemberId = this.#membership.member?.memberId ?? this.#deadMemberId
    this.#membership.forget()
    this.#commits.close()
  }

  #reportOutage(message: string): void {
    this.#outage.say(`${message} - waiting, nothing is lost`)
  }
}
