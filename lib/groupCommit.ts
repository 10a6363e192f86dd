import { setImmediate } from 'node:timers/promises'
import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import type { Membership } from './membership.ts'
import type { ProcessorCounters } from './processorCounters.ts'
import { fenceWriter, isStaleMember, type TaskCommit, TransactionWriter } from './transaction.ts'

/**
 * A transaction costs the same whatever is in it, and when they come to take longer the machine is short of time: so many
 * times as long as the last one took passes from one beginning to the next, within bounds.
 */
const COMMIT_SPACING = 3
/** For work that others wait for with each record. */
const PROMPT_COMMIT_SPACING = 1
const MAX_COMMIT_INTERVAL_MS = 500
const MAX_GATHER_MS = 100
/** After a failure each task commits by itself for so long: what one of them has may be what the broker refuses. */
const ALONE_MS = 5_000

export interface GroupCommitOptions {
  kafka: Kafka
  group: string
  /** The transactional id: of this process alone. */
  writerId: string
  membership: Membership
  /** Least time between the beginnings of two transactions, unless a batch is full. */
  commitIntervalMs: number
  /** Each record is waited for: commits soon, at what that costs. */
  isPrompt: boolean
  counters: ProcessorCounters
  log: Logger
}

interface Waiting {
  commit: TaskCommit
  decided: number
  /** Whether its partition is still ours. */
  isOurs(): boolean
  resolve(): void
  reject(error: unknown): void
}

/**
 * One transaction for all tasks of a process, at a time: what is submitted while one is under way goes together into
 * the next. A transaction costs broker and client the same whatever is in it, so there are to be few (group commit, as
 * databases do it with their log).
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions
  #waiting: Waiting[] = []
  #isRunning = false
  #opening: Promise<TransactionWriter> | undefined
  readonly #fences = new Map<string, Promise<void>>()
  /** Tasks that are about to submit. */
  readonly #expected = new Set<{ partition: number }>()
  /** Called when somebody has submitted, or is not expected any more. */
  #onChange: () => void = () => undefined
  #aloneUntilMs = 0
  /** When the last transaction began. */
  lastBeginMs = 0
  /** How long it took. */
  #lastMs = 0

  constructor(options: GroupCommitOptions) {
    this.#options = options
  }

  /** How long after the beginning of one transaction the next one is due. */
  get intervalMs(): number {
    const { commitIntervalMs, isPrompt } = this.#options
    const spacedMs = this.#lastMs * (isPrompt ? PROMPT_COMMIT_SPACING : COMMIT_SPACING)
    return Math.max(commitIntervalMs, Math.min(spacedMs, MAX_COMMIT_INTERVAL_MS))
  }

  get writerId(): string {
    return this.#options.writerId
  }

  /** Resolves once there is a writer: whoever held this id before can commit nothing from here on. */
  async open(): Promise<void> {
    await this.#open()
  }

  /**
   * Ends what the writer of an owner before has left open, unless that is a member of the group: it will do so itself. At
   * once, instead of when its time is up, which holds up the readers behind it. Where that was ourselves, a writer that is
   * open has left nothing.
   */
  async fence(writer: string | undefined): Promise<void> {
    const { kafka, group, writerId, membership, log } = this.#options
    if (writer === writerId) return this.open()
    if (writer === undefined || membership.isWriter(writer)) return
    let fence = this.#fences.get(writer)
    if (!fence) {
      fence = fenceWriter(kafka, group, writer, log)
      this.#fences.set(writer, fence)
      fence
        .then(() => log.info(`what ${writer} has left open is ended`))
        // Only those under way are shared: it may wake up, be a member again, and be killed.
        .finally(() => this.#fences.delete(writer))
        .catch(() => undefined)
    }
    await fence
  }

  /** Says that a task is about to submit something. @returns to be called when it has, or will not */
  expect(partition: number): () => void {
    const task = { partition }
    this.#expected.add(task)
    return () => {
      this.#expected.delete(task)
      this.#onChange()
    }
  }

  /**
   * Commits it, together with what others submit.
   *
   * @param decided records worked on
   * @param isOurs asked at the last moment: what belongs to somebody else by then is left out
   * @throws what the transaction failed with; nothing of it counts, unless only the answer to the commit was lost
   */
  submit(commit: TaskCommit, decided: number, isOurs: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ commit, decided, isOurs, resolve, reject })
      this.#onChange()
      if (!this.#isRunning) void this.#run()
    })
  }

  /** Gives the writer up; the next submission opens another. */
  close(): void {
    const { log } = this.#options
    // Not awaited: kafkajs waits for answers that a dead broker will not give.
    void this.#opening?.then(
      (writer) => writer.close(log),
      () => undefined,
    )
    this.#opening = undefined
  }

  #open(): Promise<TransactionWriter> {
    const { kafka, group, writerId } = this.#options
    if (!this.#opening) {
      const opening = TransactionWriter.open(kafka, group, writerId)
      this.#opening = opening
      opening.catch(() => {
        if (this.#opening === opening) this.#opening = undefined
      })
    }
    return this.#opening
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#waiting.length > 0) {
      await this.#gather()
      await this.#commit(
        this.#waiting.splice(0, Date.now() < this.#aloneUntilMs ? 1 : Number.POSITIVE_INFINITY),
      )
    }
    this.#isRunning = false
  }

  /** Waits for those that are about to submit; not for long: one of them may wait for a dependency that is away. */
  async #gather(): Promise<void> {
    // All that waited for the transaction before goes on at the same time.
    await setImmediate()
    if (this.#isComplete) return
    const complete = new AbortController()
    this.#onChange = () => this.#isComplete && complete.abort()
    await sleep(Math.min(this.intervalMs, MAX_GATHER_MS), complete.signal)
    this.#onChange = () => undefined
  }

  /** Whoever has something waiting can have nothing more in the same transaction. */
  get #isComplete(): boolean {
    const here = new Set(this.#waiting.map(({ commit }) => commit.partition))
    for (const { partition } of this.#expected) if (!here.has(partition)) return false
    return true
  }

  /** Once more without what is not ours any more, when the group has moved on in between. */
  async #commit(submitted: readonly Waiting[]): Promise<void> {
    const { membership, counters, log } = this.#options
    for (;;) {
      const { member } = membership
      const ours = submitted.filter(({ isOurs, reject }) => {
        const mine = isOurs()
        if (!mine) reject(new Error('the partition has moved'))
        return mine
      })
      if (ours.length === 0) return
      const opening = this.#open()
      try {
        // Without a name the group would take it from anybody.
        if (!member) throw new Error('no member of the group any more')
        const writer = await opening
        this.lastBeginMs = Date.now()
        await writer.commit(
          ours.map(({ commit }) => commit),
          member,
        )
        this.#lastMs = Date.now() - this.lastBeginMs
        counters.committed(
          ours.reduce((sum, { decided }) => sum + decided, 0),
          this.#lastMs,
        )
        for (const { resolve } of ours) resolve()
        return
      } catch (error) {
        // Another session may have another one by now.
        if (this.#opening === opening) this.close()
        counters.transactions.aborted++
        if (isStaleMember(error) && (await membership.changedFrom(member))) {
          log.debug(`commits once more: ${describe(error)}`)
          continue
        }
        this.#aloneUntilMs = Date.now() + ALONE_MS
        for (const { reject } of ours) reject(error)
        return
      }
    }
  }
}
