import { resolve } from 'node:path'
import { bringUpInfrastructure } from '../infra/bringUp.ts'
import { freePort, isPortFree } from '../infra/ports.ts'
import { createKafka, ensureTopics } from '../kafkaConfig.ts'
import { sleep, untilAborted } from './async.ts'
import { ended, Supervisor, startScript, stopScript } from './childProcesses.ts'
import type { Database } from './database.ts'
import { describe } from './errors.ts'
import { fetchLag, workingGroups } from './groupLag.ts'
import { JUDGE_NAMES } from './judges.ts'
import { LiveTable, type LiveView } from './liveTable.ts'
import { RateMeter } from './rateMeter.ts'
import { compareAnalytics, compareStored, readStoredSums, replaySince, type StoredSums } from './runChecks.ts'
import { StageWatch } from './runStages.ts'
import { type RunFigures, runLine, runLines } from './runView.ts'
import type { Service } from './service.ts'
import { Tally } from './tally.ts'
import { formatCount } from './text.ts'
import { fetchBounds, type OffsetsByPartition } from './topicBounds.ts'
import { readTopics } from './topicReader.ts'
import type { TopicTable } from './topics.ts'

const SERVICES = [
  'paymentGateway',
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
  'mailService',
  'orderView',
  'api',
  'analytics',
]
/** What runs beside them when orders are routed. */
const ROUTING_SERVICES = ['commandCenter', 'metadataLog']

/** The scripts that make up the pipeline in this wiring. */
function servicesOf({ isRouted }: TopicTable): readonly string[] {
  return isRouted ? [...ROUTING_SERVICES, ...SERVICES] : SERVICES
}

const DATA_DIRECTORY = new URL('../.data', import.meta.url).pathname
/** Nothing came to an end for so long beyond the time that verdicts have, with all orders placed: it will not drain. */
const STALL_MS = 60_000

export interface RunOptions {
  /** How many orders the simulator places; without it and without `file` it places them for ever. */
  orders?: string
  /** A real order history to be placed, once. */
  file?: string
  rate?: string
  json?: boolean
  verbose?: boolean
}

/** One run of everything: started in order, watched, and stopped in order. */
export class PipelineRun {
  readonly #service: Service
  readonly #options: RunOptions
  readonly #supervisor = new Supervisor()
  readonly #tally: Tally
  readonly #table: LiveTable
  readonly #stages: StageWatch
  readonly #reading = new AbortController()
  #infrastructure: Awaited<ReturnType<typeof bringUpInfrastructure>> | undefined
  #producer: ReturnType<typeof startScript> | undefined
  /** What went wrong with keeping the books. */
  readonly #failures: string[] = []
  #gatewayPort = 0
  #apiPort = 0
  #dashboardPort = 0
  #database: Database | undefined
  /** Where this run begins: what is stored, and in the topics. */
  #stored: StoredSums | undefined
  #offsets: OffsetsByPartition = new Map()
  #startedMs = Date.now()

  constructor(service: Service, options: RunOptions) {
    this.#service = service
    this.#options = options
    this.#tally = new Tally(service.config.topics)
    this.#table = new LiveTable(process.stderr)
    this.#stages = new StageWatch(service.config, service.log, this.#tally.figures)
  }

  /** Brings everything up. The producer comes last, when what a run before left behind is done. */
  async start(): Promise<void> {
    const { config, signal } = this.#service
    const say = (line: string) => this.#table.print(line)
    this.#infrastructure = await bringUpInfrastructure({
      brokers: config.kafka.brokers,
      security: config.kafka.security,
      databaseUrl: config.databaseUrl,
      dataDir: DATA_DIRECTORY,
      say,
    })
    void this.#infrastructure.failed.then((sentence) => this.#table.print(sentence))
    await ensureTopics(config, say)
    if (signal.aborted) return
    this.#gatewayPort = await choosePort(config.gateway.port)
    this.#apiPort = await choosePort(config.api.port)
    this.#dashboardPort = await choosePort(config.dashboardPort)
    for (const name of servicesOf(config.topics)) this.#keepRunning(name)
    say(`API: http://${config.api.host}:${this.#apiPort}, described at /docs.`)
    say(`Dashboard: http://127.0.0.1:${this.#dashboardPort}`)
    say(`Metrics: a port of each process, listed for Prometheus in ${config.instancesDir}.`)
    this.#database = await this.#service.openDatabase(1)
    await this.#awaitDrained()
    if (signal.aborted) return
    await this.#beginBooks(this.#database)
    this.#startedMs = Date.now()
    this.#startProducer()
    this.#stages.start()
    this.#table.begin(this.#view())
  }

  #view(): LiveView {
    const rates = new RateMeter()
    const isColored = this.#service.config.log.color
    const run = (): RunFigures => {
      const { figures } = this.#tally
      return {
        ordersPerSecond: rates.rate('placed', figures.placed),
        figures,
        stages: this.#stages.stages,
      }
    }
    return {
      lines: (columns, rows) => runLines(run(), columns, rows, isColored),
      line: () => runLine(run()),
    }
  }

  /** The books of this run alone: from what is stored and from where the topics end now. */
  async #beginBooks(database: Database): Promise<void> {
    const { config, log } = this.#service
    const { bounds } = await fetchBounds(createKafka(config, 'start', log), this.#tally.topics)
    const ends = [...bounds].map(([topic, partitions]) => {
      return [topic, new Map([...partitions].map(([partition, { high }]) => [partition, high]))] as const
    })
    this.#offsets = new Map(ends)
    if (this.#willFinish) this.#stored = await readStoredSums(database)
    const reading = readTopics({
      kafka: createKafka(config, 'tally', log),
      topics: this.#tally.topics,
      from: { offsets: this.#offsets },
      until: 'forever',
      onRecords: (topic, partition, records) => this.#tally.take(topic, partition, records),
      signal: this.#reading.signal,
      log,
    })
    reading.catch((error) => {
      const failure = `the books cannot be kept: ${describe(error)}`
      this.#failures.push(failure)
      this.#table.print(failure)
    })
  }

  /** Whether there is an end at which all is compared. */
  get #willFinish(): boolean {
    return this.#options.orders !== undefined || this.#options.file !== undefined
  }

  /** Until Ctrl-C. */
  async watch(): Promise<void> {
    while (!this.#service.signal.aborted) await sleep(60_000, this.#service.signal)
  }

  /** Until all orders have come to their ends; prints the summary and sets the exit status. */
  async finish(): Promise<void> {
    const { signal } = this.#service
    const status = this.#producer && (await untilAborted(ended(this.#producer), signal))
    let complaints = status === 0 ? await this.#drain() : [`the producer ended with ${status}`]
    const seconds = (this.#tally.changedAtMs - this.#startedMs) / 1_000
    if (complaints.length === 0 && !signal.aborted) complaints = await this.#compare()
    if (signal.aborted) complaints = ['interrupted']
    const { placed } = this.#tally.figures
    const ok = complaints.length === 0
    const ordersPerSecond = Math.round(placed / seconds)
    if (ok) await this.#stages.refresh()
    this.#table.end()
    for (const complaint of complaints) this.#table.print(`NOT OK: ${complaint}`)
    this.#table.print(
      ok
        ? `OK: each of ${placed} orders came to its end exactly once, in ${seconds.toFixed(1)} s (${ordersPerSecond}/s)`
        : 'NOT OK',
    )
    if (this.#options.json)
      console.log(JSON.stringify({ ...this.#tally.figures, ordersPerSecond, seconds, ok }))
    if (!ok) process.exitCode = 1
  }

  /** The producer first, then all services at once: what they have in hand they finish, the rest waits in Kafka. */
  async stop(): Promise<void> {
    this.#table.end()
    // What is only watched must not hold up the end of what works.
    const unwatched = this.#stages.stop().catch((error) => this.#service.log.debug(describe(error)))
    if (this.#producer) await stopScript(this.#producer)
    await this.#supervisor.stop()
    this.#reading.abort()
    await unwatched
    await this.#infrastructure?.stop()
  }

  /** @returns what does not add up, nothing if all is well */
  async #drain(): Promise<string[]> {
    const { config, signal } = this.#service
    const stallMs = config.decisionTimeoutMs + STALL_MS
    while (!signal.aborted) {
      if (this.#failures.length > 0) return this.#failures
      // Even, and by Kafka's own books nothing left to do: nothing can come twice any more either.
      if (
        this.#tally.isEven &&
        this.#tally.figures.placed > 0 &&
        (await this.#lag()) === 0 &&
        this.#tally.isEven
      ) {
        return []
      }
      if (Date.now() - this.#tally.changedAtMs > stallMs) {
        return [`nothing has moved for ${stallMs / 1_000} s`, ...this.#tally.complaints()]
      }
      await sleep(100, signal)
    }
    return []
  }

  /** What the stock, the ledger and analytics have otherwise than the books. */
  async #compare(): Promise<string[]> {
    const { config, log, signal } = this.#service
    const { figures, unitsConfirmed } = this.#tally
    const [stored, summary] = await Promise.all([
      readStoredSums(this.#database!),
      replaySince(this.#offsets, {
        kafka: createKafka(config, 'start-analytics', log),
        topics: config.topics,
        groupPrefix: `${config.topicPrefix}start-analytics`,
        signal,
        log,
      }),
    ])
    const hasLedger = config.payment.gatewayUrl === undefined
    return [
      ...compareStored(this.#stored!, stored, figures, { unitsConfirmed, hasLedger }),
      ...compareAnalytics(summary, figures),
    ]
  }

  async #awaitDrained(): Promise<void> {
    const { signal } = this.#service
    let isSaid = false
    for (let lag = await this.#lag(); lag > 0 && !signal.aborted; lag = await this.#lag()) {
      if (!isSaid && Number.isFinite(lag)) {
        this.#table.print(`finishing what a run before has left (${formatCount(lag)} records)`)
        isSaid = true
      }
      await sleep(500, signal)
    }
  }

  /** By Kafka's own books; unknown, and so not zero, while the broker does not answer. */
  async #lag(): Promise<number> {
    const { config, log } = this.#service
    try {
      return await fetchLag(createKafka(config, 'lag', log), workingGroups(config.topicPrefix, config.topics))
    } catch (error) {
      log.debug(`the lag cannot be told: ${describe(error)}`)
      return Number.POSITIVE_INFINITY
    }
  }

  #keepRunning(name: string): void {
    const print = (line: string) => this.#table.print(line)
    // What analytics prints are the figures that stand in the table anyway.
    const onOutput = name === 'analytics' && !this.#options.verbose ? () => undefined : print
    // It can read nothing, also if it wanted to.
    const keys = ROUTING_SERVICES.includes(name) ? { ENCRYPTION_KEY: '', ENCRYPTION_KEYS_FILE: '' } : {}
    const env = { ...this.#environment(), ...keys }
    this.#supervisor.keepRunning({ script: `${name}.ts`, env, print, onOutput })
  }

  #startProducer(): void {
    const { orders, file, rate } = this.#options
    const args = [
      ...(file ? ['--file', resolve(process.env.INIT_CWD ?? '.', file)] : []),
      ...(orders ? ['--orders', orders, ...(rate ? [] : ['--max'])] : []),
      ...(rate ? ['--rate', rate] : []),
    ]
    const print = (line: string) => this.#table.print(line)
    this.#producer = startScript({ script: 'producer.ts', args, env: this.#environment(), print })
  }

  /** What a service is started with: the addresses in use, and less talk, since the table has the figures. */
  #environment(): NodeJS.ProcessEnv {
    const { config } = this.#service
    const { kafka, database } = this.#infrastructure!
    return {
      ...process.env,
      KAFKA_BROKERS: kafka.brokers.join(','),
      DATABASE_URL: database.url,
      GATEWAY_PORT: String(this.#gatewayPort),
      API_PORT: String(this.#apiPort),
      DASHBOARD_PORT: String(this.#dashboardPort),
      GATEWAY_URL: config.payment.gatewayUrl ?? `http://127.0.0.1:${this.#gatewayPort}`,
      LOG_LEVEL: this.#options.verbose || config.log.level !== 'info' ? config.log.level : 'warn',
    }
  }
}

/** The port that is configured, or where that is taken any free one. */
async function choosePort(configured: number): Promise<number> {
  return configured !== 0 && (await isPortFree(configured)) ? configured : freePort()
}
