import type { Admin, Kafka } from 'kafkajs'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { runScript, type ScriptRun } from './childProcesses.ts'
import { type Database, openDatabase } from './database.ts'
import { describe, PipelineError } from './errors.ts'
import { fetchLag, workingGroups } from './groupLag.ts'
import { JUDGE_NAMES } from './judges.ts'
import type { Logger } from './log.ts'
import { deleteGroups } from './readerGroups.ts'
import { listTopics } from './topics.ts'
import { TourMembers } from './tourMembers.ts'
import { type TourRecord, TourRecords } from './tourRecords.ts'
import { type TourServers, tourEnvironment } from './tourServers.ts'

/** What was waited for did not come about. */
export class TourTimeoutError extends PipelineError {
  readonly code = 'TOUR_TIMEOUT'
  readonly canRetry = true
}

/** Somebody asked it to end. */
export class TourInterruptedError extends PipelineError {
  readonly code = 'INTERRUPTED'
  readonly canRetry = true
}

export interface TourPipelineOptions {
  servers: TourServers
  log: Logger
  signal: AbortSignal
}

/** The scripts of which one instance runs when a step begins. */
const SCRIPTS = [
  'paymentGateway',
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
]
const WAIT_MS = 60_000
const POLL_MS = 50
const LAST_WORDS = 4

/**
 * The pipeline that the tour goes through: topics of its own by a prefix, a database of its own, and each service as a
 * process that can be started, stopped and killed. An instance is called `<script>-<number>`.
 */
export class TourPipeline {
  /** Stands before each topic and group. */
  readonly prefix: string
  readonly config: Config
  readonly records: TourRecords
  readonly members: TourMembers
  readonly kafka: Kafka
  readonly admin: Admin
  readonly database: Database
  readonly gatewayUrl: string
  readonly signal: AbortSignal
  readonly log: Logger
  readonly #environment: NodeJS.ProcessEnv
  readonly #reading = new AbortController()
  /** What ended or failed though nobody had told it to. */
  #failure: string | undefined

  private constructor({ servers, log, signal }: TourPipelineOptions) {
    this.prefix = servers.topicPrefix
    this.gatewayUrl = `http://127.0.0.1:${servers.gatewayPort}`
    this.#environment = tourEnvironment(servers)
    this.config = parseConfig(this.#environment)
    this.log = log
    this.signal = signal
    this.records = new TourRecords(this.prefix)
    this.members = new TourMembers(this.#environment, this.prefix, (failure) => {
      this.#failure ??= failure
    })
    this.kafka = createKafka(this.config, 'tour', log)
    this.admin = this.kafka.admin()
    this.database = openDatabase(this.config.databaseUrl, 2, log)
  }

  /** Makes the topics and starts the services; those that need longer are waited for by {@link ready}. */
  static async start(options: TourPipelineOptions): Promise<TourPipeline> {
    const pipeline = new TourPipeline(options)
    try {
      for (const script of SCRIPTS) pipeline.members.start(script)
      pipeline.members.start('analytics', ['--json'])
      await pipeline.admin.connect()
      await ensureTopics(pipeline.config, () => undefined)
      pipeline.#follow()
      return pipeline
    } catch (error) {
      await pipeline.close()
      throw error
    }
  }

  #follow(): void {
    const names = listTopics(this.config.topics).map(({ name }) => name)
    this.records.follow(this.kafka, names, this.log, this.#reading.signal).catch((error) => {
      this.#failure ??= `the topics cannot be read: ${describe(error)}`
    })
  }

  /** A process has ended or failed though nobody had told it to: no step can be taken any more. */
  get isBroken(): boolean {
    return this.#failure !== undefined
  }

  /** Waits until each service has its place in its group. */
  async ready(): Promise<void> {
    await this.until('all services are ready', () => this.members.areReady)
  }

  /** Runs one of the scripts to its end, in the pipeline's environment. @returns what it said to standard output, or else */
  async tryRun(script: string, args: string[]): Promise<ScriptRun> {
    const said: string[] = []
    const { status, lines } = await runScript({
      script,
      args,
      env: this.#environment,
      print: (line) => void said.push(line),
      signal: this.signal,
    })
    this.#goOn()
    const shown = lines.length > 0 ? lines : said.slice(-LAST_WORDS)
    return { status, lines: shown.map((line) => line.replaceAll(this.prefix, '')) }
  }

  /** @returns what it said to standard output. @throws Error when it fails */
  async run(script: string, args: string[]): Promise<string[]> {
    const { status, lines } = await this.tryRun(script, args)
    if (status === 0) return lines
    const words = lines.slice(-LAST_WORDS).join('\n')
    throw new Error(`${script} ${args.join(' ')} ended with ${status}: ${words}`)
  }

  /** Has the simulator place orders. @returns their records, as they lie in orders.raw */
  async place(orders: number): Promise<TourRecord[]> {
    const before = new Set(this.records.of('orders.raw'))
    await this.run('producer.ts', ['--orders', String(orders), '--max', '--seed', '7'])
    const added = () => this.records.of('orders.raw').filter((record) => !before.has(record))
    await this.until(`${orders} orders lie in Kafka`, () => added().length === orders)
    return added()
  }

  /** Waits until each of these has come to its one end, a decision. */
  async untilDecided(placed: readonly TourRecord[]): Promise<void> {
    const orderIds = placed.map(({ orderId }) => orderId!)
    await this.until(`${orderIds.length} orders are decided`, () =>
      [...this.records.countByOrder('orders.completed', orderIds).values()].every((count) => count > 0),
    )
  }

  /** Waits until nothing is left to be done for any group, by Kafka's own books. */
  async untilDrained(): Promise<void> {
    const groups = workingGroups(this.prefix, this.config.topics)
    await this.until(
      'all groups have done their work',
      async () => (await fetchLag(this.kafka, groups)) === 0,
    )
  }

  /** Waits for something that comes by itself. @throws as {@link until} */
  async inTime<Result>(what: string, wanted: Promise<Result>): Promise<Result> {
    let isThere = false
    const noted = wanted.finally(() => {
      isThere = true
    })
    noted.catch(() => undefined)
    await this.until(what, () => isThere)
    return noted
  }

  /** Lets some time pass. */
  async wait(ms: number): Promise<void> {
    await sleep(ms, this.signal)
    this.#goOn()
  }

  /**
   * @throws TourTimeoutError when it is not so in time, TourInterruptedError when the signal came first, Error when a
   *   process has failed
   */
  async until(what: string, isSo: () => boolean | Promise<boolean>, withinMs = WAIT_MS): Promise<void> {
    const endMs = performance.now() + withinMs
    for (;;) {
      this.#goOn()
      if (await isSo()) return
      if (performance.now() > endMs) {
        throw new TourTimeoutError(`not within ${withinMs / 1_000} s: ${what}${this.members.lastWords}`)
      }
      await sleep(POLL_MS, this.signal)
    }
  }

  /** All processes, topics and groups. What is not there any more is no failure. */
  async close(): Promise<void> {
    this.#reading.abort()
    await this.members.stopAll()
    await this.database.end()
    try {
      await this.#removeTraces()
    } catch (error) {
      this.log.warn(`topics and groups ${this.prefix}* could not be removed: ${describe(error)}`)
    } finally {
      await this.admin.disconnect()
    }
  }

  async #removeTraces(): Promise<void> {
    const isOurs = (name: string) => name.startsWith(this.prefix)
    const { groups } = await this.admin.listGroups()
    await deleteGroups(this.kafka, groups.map(({ groupId }) => groupId).filter(isOurs), this.log)
    const topics = (await this.admin.listTopics()).filter(isOurs)
    if (topics.length > 0) await this.admin.deleteTopics({ topics })
  }

  #goOn(): void {
    if (this.signal.aborted) throw new TourInterruptedError('interrupted')
    if (this.#failure !== undefined) throw new Error(this.#failure)
  }
}
