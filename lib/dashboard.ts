/** The dashboard of analytics: a page on this machine that shows the pipeline while it runs. */
import type { FastifyInstance } from 'fastify'
import type { Kafka, KafkaConfig } from 'kafkajs'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { startDashboardServer } from './dashboardServer.ts'
import { DashboardState } from './dashboardState.ts'
import { EventStream, toEvent } from './dashboardStream.ts'
import { openDatabase } from './database.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import type { OrderEvent } from './orderStatistics.ts'
import type { LiveTable } from './replayWatchComparison.ts'
import type { Service } from './service.ts'

/** What other parts of the page are given: those that answer to requests of their own. */
export interface DashboardContext {
  config: Config
  /** A client of connections of its own, for each call. @param limits for whoever has to give up sooner */
  createKafka(
    clientId: string,
    limits: Pick<KafkaConfig, 'connectionTimeout' | 'requestTimeout' | 'retry'>,
  ): Kafka
  /** What analytics shows, as of the last second. */
  live(): LiveTable
  log: Logger
  /** Aborted when the process is asked to end. */
  signal: AbortSignal
}

/** Adds what it answers to. */
export type AddRoutes = (server: FastifyInstance, context: DashboardContext) => void

/** Between two looks of one page there is a moment, for example while it is loaded anew. */
const REST_AFTER_MS = 10_000

/** Serves the page, and tells it each second how things are, as long as anybody looks. */
export class Dashboard {
  readonly #state: DashboardState
  readonly #stream: EventStream
  readonly #log: Logger
  #live: LiveTable = { statistics: [], partitions: { shown: 0, of: undefined }, lag: 0 }
  #isLooking = false
  #seenMs = Number.NEGATIVE_INFINITY
  #isResting = true

  constructor(state: DashboardState, stream: EventStream, log: Logger) {
    this.#state = state
    this.#stream = stream
    this.#log = log
  }

  /** What was shown last. */
  get live(): LiveTable {
    return this.#live
  }

  /** Takes an order's event. @param arrivedMs when the record was sent to Kafka */
  add(event: OrderEvent, arrivedMs: number): void {
    this.#state.recentOrders.add(event, arrivedMs)
  }

  /** To be called each second. */
  tick(live: LiveTable): void {
    const nowMs = Date.now()
    this.#live = live
    this.#state.addPoint(live.statistics, nowMs)
    if (this.#isLooking) return
    if (this.#stream.size > 0) {
      this.#seenMs = nowMs
      void this.#look(live)
    } else if (!this.#isResting && nowMs - this.#seenMs > REST_AFTER_MS) {
      void this.#rest()
    }
  }

  async #look({ statistics, partitions }: LiveTable): Promise<void> {
    this.#isResting = false
    await this.#alone(async () => {
      this.#stream.send(toEvent('snapshot', await this.#state.look(statistics, partitions)))
    })
  }

  async #rest(): Promise<void> {
    this.#isResting = true
    await this.#alone(() => this.#state.rest())
  }

  /** One look at a time. A dashboard that fails is no reason for analytics to end. */
  async #alone(work: () => Promise<void>): Promise<void> {
    this.#isLooking = true
    try {
      await work()
    } catch (error) {
      this.#log.error({ error }, `the dashboard failed: ${describe(error)}`)
    } finally {
      this.#isLooking = false
    }
  }
}

/**
 * Starts the dashboard of this process; it ends with it.
 *
 * @param routes more that the page can ask for
 * @returns undefined when no port can be had: that is said, and analytics does without
 */
export async function startDashboard(
  { config, log, signal, onClose }: Service,
  routes: readonly AddRoutes[] = [],
): Promise<Dashboard | undefined> {
  const database = openDatabase(config.databaseUrl, 1, log)
  onClose(() => database.end())
  const state = new DashboardState({ config, database, log })
  const stream = new EventStream()
  const dashboard = new Dashboard(state, stream, log)
  const context: DashboardContext = {
    config,
    createKafka: (clientId, limits) => createKafka(config, clientId, log, limits),
    live: () => dashboard.live,
    log,
    signal,
  }
  try {
    const server = await startDashboardServer({
      port: config.dashboardPort,
      demo: config.demo,
      instancesDir: config.instancesDir,
      stream,
      greeting: () => toEvent('history', state.history),
      routes: routes.map((add) => async (instance) => add(instance, context)),
      log,
    })
    onClose(() => state.rest())
    onClose(() => server.close())
    log.info(`dashboard at ${server.url}`)
    if (config.demo.controls) log.info('its controls need the token, DEMO_TOKEN')
    return dashboard
  } catch (error) {
    log.warn(`no dashboard, analytics goes on without: ${describe(error)}`)
    return undefined
  }
}
