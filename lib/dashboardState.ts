/** Puts together what the page is told: from the statistics of analytics, the processes, and Kafka's own books. */
import { randomUUID } from 'node:crypto'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { GroupBooks } from './dashboardBooks.ts'
import { DeadLetterCount } from './dashboardDeadLetters.ts'
import { FaultLog } from './dashboardFaults.ts'
import { InstanceWatch } from './dashboardInstances.ts'
import { RecentOrders } from './dashboardRecentOrders.ts'
import { Recurring } from './dashboardRecurring.ts'
import {
  type DashboardGroup,
  type DashboardHistory,
  type DashboardPoint,
  type DashboardSnapshot,
  type DashboardStage,
  HISTORY_SECONDS,
} from './dashboardSnapshot.ts'
import { type Database, query } from './database.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { type OrderStatistics, summarise, sumRolling } from './orderStatistics.ts'
import { groupsOf } from './topics.ts'

/** Just under two seconds, since it is asked each second. To be asked is what a page costs all others. */
const LOOK_EVERY_MS = 1_900
/** Once is a moment in which a partition moves; twice is an outage. */
const FAILED_LOOKS = 2
const SHOWN_MINUTES = 30
/** Whoever looks wants to know soon that nobody answers, and asks again by himself. */
const GIVE_UP_SOON = {
  connectionTimeout: 1_000,
  requestTimeout: 3_000,
  retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 1 },
}

export interface DashboardStateOptions {
  config: Config
  database: Database
  log: Logger
}

export class DashboardState {
  readonly recentOrders = new RecentOrders()
  readonly #serverId = randomUUID()
  readonly #config: Config
  readonly #points: DashboardPoint[] = []
  readonly #instances: InstanceWatch
  readonly #books: GroupBooks
  readonly #deadLetters: DeadLetterCount
  readonly #faults = new FaultLog()
  readonly #lookAtBooks: Recurring<DashboardGroup[]>
  readonly #lookAtDatabase: Recurring<unknown>
  readonly #lookAtInstances: Recurring<void>

  constructor({ config, database, log }: DashboardStateOptions) {
    this.#config = config
    const { topics, topicPrefix } = config
    this.#instances = new InstanceWatch(config.instancesDir)
    this.#lookAtInstances = new Recurring(LOOK_EVERY_MS, FAILED_LOOKS, () => this.#instances.look())
    this.#books = new GroupBooks({
      kafka: createKafka(config, 'dashboard', log, GIVE_UP_SOON),
      topics,
      topicPrefix,
    })
    this.#deadLetters = new DeadLetterCount({
      createKafka: () => createKafka(config, 'dashboard-dead-letters', log),
      topics,
      topicPrefix,
      log,
    })
    this.#lookAtBooks = new Recurring(LOOK_EVERY_MS, FAILED_LOOKS, () => this.#books.read())
    this.#lookAtDatabase = new Recurring(LOOK_EVERY_MS, FAILED_LOOKS, () =>
      query(database, { text: 'SELECT 1' }),
    )
  }

  get history(): DashboardHistory {
    return { serverId: this.#serverId, points: this.#points }
  }

  /** The next point of the charts: cheap, and made whether anybody looks or not. */
  addPoint(statistics: readonly OrderStatistics[], nowMs: number): void {
    const { ordersPerSecond, ...revenue } = sumRolling(statistics, nowMs)
    this.#points.push({
      atMs: nowMs,
      ordersPerSecond,
      bookedPerMinuteMinor: revenue.bookedRevenuePerMinuteMinor,
      capturedPerMinuteMinor: revenue.capturedRevenuePerMinuteMinor,
    })
    if (this.#points.length > HISTORY_SECONDS) this.#points.shift()
  }

  /** Looks at everything, for whoever looks at the page. After {@link addPoint}, and one at a time. */
  async look(
    statistics: readonly OrderStatistics[],
    partitions: DashboardSnapshot['partitions'],
  ): Promise<DashboardSnapshot> {
    this.#deadLetters.start()
    // They may take long, and are shown as they were until they are done.
    this.#lookAtBooks.begin()
    this.#lookAtDatabase.begin()
    this.#lookAtInstances.begin()
    await this.#lookAtInstances.ended()
    const point = this.#points.at(-1)!
    const deadLettered = this.#deadLetters.byGroup
    this.#faults.note({
      atMs: point.atMs,
      instances: this.#instances.seen,
      groups: this.#lookAtBooks.latest,
      deadLetters: deadLettered,
      dependencies: {
        ...(this.#lookAtBooks.isKnown && { Kafka: problemOf(this.#lookAtBooks) }),
        ...(this.#lookAtDatabase.isKnown && { PostgreSQL: problemOf(this.#lookAtDatabase) }),
      },
    })
    const rate = this.#instances.simulatorRate
    return {
      ...point,
      serverId: this.#serverId,
      partitions,
      ...figuresOf(statistics, this.#config.analytics.graceMs, deadLettered),
      stages: this.#stages(deadLettered),
      groups: this.#lookAtBooks.latest ?? [],
      faults: this.#faults.latest,
      recentOrders: this.recentOrders.latest,
      controls: this.#config.demo.controls,
      ...(rate !== undefined && { simulator: { ratePerSecond: rate } }),
    }
  }

  /** Nobody looks any more, or not for now. */
  async rest(): Promise<void> {
    await this.#deadLetters.stop()
    await this.#lookAtBooks.ended()
    await this.#books.close()
  }

  #stages(deadLettered: Readonly<Record<string, number>>): DashboardStage[] {
    const lags = new Map(this.#lookAtBooks.latest?.map(({ group, lag }) => [group, lag]))
    return ['producer', 'api', ...groupsOf(this.#config.topics), 'gateway'].map((name) => {
      const stage = this.#instances.stage(name, lags.get(name))
      return { ...stage, deadLetters: deadLettered[name] ?? stage.deadLetters }
    })
  }
}

function problemOf({ error }: Recurring<unknown>): string | undefined {
  return error === undefined ? undefined : describe(error)
}

/** Orders, money and ends, of the partitions of this instance. */
function figuresOf(
  statistics: readonly OrderStatistics[],
  graceMs: number,
  deadLettered: Record<string, number>,
) {
  const summary = summarise(statistics, graceMs)
  const since = Math.min(...statistics.map(({ sinceMs }) => sinceMs))
  return {
    sinceMs: Number.isFinite(since) ? since : undefined,
    orders: summary.orders,
    bookedMinor: summary.bookedRevenueMinor,
    capturedMinor: summary.capturedRevenueMinor,
    ends: {
      confirmed: summary.confirmed,
      cancelled: summary.cancelled,
      rejected: { orders: summary.rejected.orders, reasons: summary.rejected.reasons },
      deadLettered,
    },
    topProducts: summary.topProducts.byQuantity,
    minutes: summary.minutes.slice(-SHOWN_MINUTES),
  }
}
