import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { awaitTopics } from './awaitTopics.ts'
import type { Database } from './database.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { RepeatedWarning } from './repeatedWarning.ts'
import { listRoutes, type Route } from './routes.ts'
import { fetchTargets, type RouteTarget } from './routeTargets.ts'

/** A change of a route takes effect within a second. */
const LOOK_AGAIN_MS = 250
/** What becomes of a topic is no change of a route: it is made, deleted, given another size. */
const LOOK_FOR_TARGETS_MS = 5_000

interface RegistryOptions {
  database: Database
  kafka: Kafka
  sourceTopic: string
  /** Those that have to be there first: else what comes for them meanwhile would be refused. */
  topics: readonly string[]
  log: Logger
  /** Ends the waiting for the first look. */
  signal: AbortSignal
}

/**
 * The routes as they were a moment ago, by worker, and what is known of the topics that they lead to. While PostgreSQL or
 * Kafka do not answer it stays as it is.
 */
export class RouteRegistry {
  readonly #options: RegistryOptions
  readonly #warning: RepeatedWarning
  #routes: ReadonlyMap<string, Route> = new Map()
  #targets: ReadonlyMap<string, RouteTarget> = new Map()
  #stamp = ''
  #targetsAtMs = 0
  readonly #closing = new AbortController()
  #following: Promise<void> = Promise.resolve()

  private constructor(options: RegistryOptions) {
    this.#options = options
    this.#warning = new RepeatedWarning(options.log)
  }

  /** Waits for the topics and for the first look, as long as it takes, or for the signal. */
  static async open(options: RegistryOptions): Promise<RouteRegistry> {
    const registry = new RouteRegistry(options)
    while (!options.signal.aborted && !(await registry.#begin())) await sleep(LOOK_AGAIN_MS, options.signal)
    registry.#following = registry.#follow()
    return registry
  }

  /** The route for a worker, enabled or not. */
  routeFor(workerName: string): Route | undefined {
    return this.#routes.get(workerName)
  }

  /** The topic, if it exists. */
  target(topic: string): RouteTarget | undefined {
    return this.#targets.get(topic)
  }

  get size(): number {
    return this.#routes.size
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#following
  }

  /** @returns whether all is there */
  async #begin(): Promise<boolean> {
    const { kafka, topics, log, signal } = this.#options
    try {
      await awaitTopics(kafka, topics, log, signal)
    } catch (error) {
      this.#warning.say(`Kafka: ${describe(error)} - waiting`)
      return false
    }
    return this.#look()
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      await sleep(LOOK_AGAIN_MS, signal)
      if (!signal.aborted) await this.#look()
    }
  }

  /** @returns whether it could be looked at */
  async #look(): Promise<boolean> {
    const { database, sourceTopic, log } = this.#options
    try {
      const routes = await listRoutes(database, sourceTopic)
      const stamp = routes.map(({ routeId, version }) => `${routeId}.${version}`).join(' ')
      const areOld = Date.now() - this.#targetsAtMs > LOOK_FOR_TARGETS_MS
      if (stamp !== this.#stamp || areOld) await this.#lookForTargets(routes)
      if (stamp !== this.#stamp)
        log.info(`${routes.length} routes, ${countDisabled(routes)} of them disabled`)
      this.#routes = new Map(routes.map((route) => [route.workerName, route]))
      this.#stamp = stamp
      this.#warning.over()
      return true
    } catch (error) {
      this.#warning.say(`the routes stay as they were: ${describe(error)}`)
      return false
    }
  }

  async #lookForTargets(routes: readonly Route[]): Promise<void> {
    const admin = this.#options.kafka.admin()
    await admin.connect()
    try {
      const topics = routes.map(({ targetTopic }) => targetTopic)
      this.#targets = await fetchTargets(admin, topics)
      this.#targetsAtMs = Date.now()
    } finally {
      await admin.disconnect()
    }
  }
}

function countDisabled(routes: readonly Route[]): number {
  return routes.filter(({ isEnabled }) => !isEnabled).length
}
