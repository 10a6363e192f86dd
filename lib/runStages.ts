import { type Config, createKafka } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { GroupBooks } from './dashboardBooks.ts'
import { InstanceWatch } from './dashboardInstances.ts'
import type { DashboardGroup, StageState } from './dashboardSnapshot.ts'
import { describe } from './errors.ts'
import { SETTLERS } from './judges.ts'
import type { Logger } from './log.ts'
import { LagTrend, RateMeter } from './rateMeter.ts'
import type { Figures } from './tally.ts'
import { type GroupName, groupsOf } from './topics.ts'

/** A stage of the pipeline as `npm start` shows it. */
export interface RunStage {
  name: string
  state: StageState
  perSecond: number
  /** In records; undefined while Kafka does not tell. */
  lag: number | undefined
  isGrowing: boolean
}

const LOOK_MS = 2_000
/** A look costs a request for each group, and is not worth repeating soon when nobody has answered. */
const AWAY_MS = 5_000
const SETTLE = 'settle'

/**
 * What the stages of most records for one order have done, in orders, so that all of them can be compared. The others
 * say themselves how many records they read.
 */
const COUNTED: Readonly<Partial<Record<GroupName | typeof SETTLE, (figures: Figures) => number>>> = {
  inventory: ({ reserved, notReserved }) => reserved + notReserved,
  payment: ({ authorised, declined }) => authorised + declined,
  fulfilment: ({ confirmed, cancelledOrders }) => confirmed + cancelledOrders,
  // Inventory settles each that it has reserved for, once.
  [SETTLE]: ({ committed, released }) => committed + released,
}

/** Follows the stages: how each is by its health ports, and what waits by Kafka's own books. */
export class StageWatch {
  readonly #config: Config
  readonly #log: Logger
  readonly #figures: Figures
  readonly #names: readonly GroupName[]
  readonly #instances: InstanceWatch
  readonly #books: GroupBooks
  readonly #rates = new RateMeter()
  readonly #trends: ReadonlyMap<string, LagTrend>
  readonly #ending = new AbortController()
  #looking: Promise<unknown> | undefined
  /** Undefined while Kafka does not answer. */
  #groups: DashboardGroup[] | undefined

  /** @param figures of the run, which go on while it is watched */
  constructor(config: Config, log: Logger, figures: Figures) {
    this.#config = config
    this.#log = log
    this.#figures = figures
    this.#names = groupsOf(config.topics)
    this.#trends = new Map([...this.#names, SETTLE].map((name) => [name, new LagTrend()]))
    this.#instances = new InstanceWatch(config.instancesDir)
    const kafka = createKafka(config, 'stages', log, { requestTimeout: LOOK_MS, retry: { retries: 0 } })
    this.#books = new GroupBooks({ kafka, topics: config.topics, topicPrefix: config.topicPrefix })
  }

  start(): void {
    this.#looking = Promise.all([this.#followInstances(), this.#followBooks()])
  }

  /** Looks at all now. */
  async refresh(): Promise<void> {
    await Promise.all([this.#instances.look(), this.#readBooks()])
  }

  async stop(): Promise<void> {
    this.#ending.abort()
    await this.#looking
    await this.#books.close()
  }

  /** In the order in which orders pass them. */
  get stages(): RunStage[] {
    const lastJudged = this.#names.indexOf('fulfilment') + 1
    return [
      ...this.#names.slice(0, lastJudged).map((name) => this.#stage(name)),
      this.#settling(),
      ...this.#names.slice(lastJudged).map((name) => this.#stage(name)),
    ]
  }

  async #followInstances(): Promise<void> {
    const { signal } = this.#ending
    for (; !signal.aborted; await sleep(LOOK_MS, signal)) await this.#instances.look()
  }

  async #followBooks(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      await this.#readBooks()
      await sleep(this.#groups ? LOOK_MS : AWAY_MS, signal)
    }
  }

  async #readBooks(): Promise<void> {
    try {
      this.#groups = await this.#books.read()
      for (const [name, trend] of this.#trends) trend.note(this.#lagOf(name))
    } catch (error) {
      this.#log.debug(`the lag cannot be told: ${describe(error)}`)
      this.#groups = undefined
    }
  }

  #stage(name: GroupName): RunStage {
    const { state, inPerSecond } = this.#instances.stage(name, undefined)
    return { name, state, perSecond: this.#ordersPerSecond(name) ?? inPerSecond, ...this.#waiting(name) }
  }

  /** What inventory and payment do once an order is decided. */
  #settling(): RunStage {
    const states = SETTLERS.map((name) => this.#instances.stage(name, undefined).state)
    const state = states.find((each) => each !== 'running') ?? 'running'
    return { name: SETTLE, state, perSecond: this.#ordersPerSecond(SETTLE)!, ...this.#waiting(SETTLE) }
  }

  #ordersPerSecond(name: GroupName | typeof SETTLE): number | undefined {
    const count = COUNTED[name]?.(this.#figures)
    return count === undefined ? undefined : this.#rates.rate(name, count)
  }

  #waiting(name: string): Pick<RunStage, 'lag' | 'isGrowing'> {
    return { lag: this.#lagOf(name), isGrowing: this.#trends.get(name)!.isGrowing }
  }

  /** Decisions that wait to be carried out are the lag of {@link SETTLE}, not of the judge. */
  #lagOf(name: string): number | undefined {
    const { topics, topicPrefix } = this.#config
    const decisions = topics.ordersCompleted.name.slice(topicPrefix.length)
    const settlers: readonly string[] = SETTLERS
    const groups = this.#groups?.filter(({ group }) =>
      name === SETTLE ? settlers.includes(group) : group === name,
    )
    const isIts = ({ topic }: { topic: string }) =>
      name === SETTLE ? topic === decisions : !(settlers.includes(name) && topic === decisions)
    return groups
      ?.flatMap(({ partitions }) => partitions.filter(isIts))
      .reduce((sum, { lag }) => sum + lag, 0)
  }
}
