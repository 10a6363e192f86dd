/**
 * What every service does around its own work: configuration, flags, log, health, one line a second while it
 * works, and an orderly end. A service script calls {@link runService} and nothing else.
 */
import { once } from 'node:events'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { Registry } from 'prom-client'
import { type Config, createKafka, loadConfig } from '../kafkaConfig.ts'
import { Supervisor } from './childProcesses.ts'
import { type Controls, KILL } from './controls.ts'
import { type Database, migrateDatabase, openDatabase } from './database.ts'
import { ConfigurationError, describe, PipelineError } from './errors.ts'
import { type Routes, startHealthServer } from './health.ts'
import { registerInstance } from './instances.ts'
import { createLogger, type Logger } from './log.ts'
import { addProcessMetrics, metricsRoutes } from './metrics.ts'
import { readNumberFlag } from './numberFlag.ts'
import { Processor, type ProcessorStatus, type Work } from './processor.ts'
import { addProcessorMetrics } from './processorMetrics.ts'
import { DeadLetter, type Outcome, type RawRecord } from './record.ts'
import { withRequests } from './requests.ts'
import { createSealer } from './sealing.ts'
import { type Details, StatusLine } from './statusLine.ts'
import { type GroupName, isOfRouting, type TopicSettings } from './topics.ts'
import { startTracing } from './tracing.ts'

export interface Service {
  config: Config
  log: Logger
  /** Aborted when the process is asked to end. */
  signal: AbortSignal
  /** Something to be closed at the end, in reverse order. */
  onClose(close: () => unknown): void
  /** A migrated database; waits until it is there. */
  openDatabase(connections?: number): Promise<Database>
  /** Figures of this process; served by {@link serveHealth}. */
  metrics: Registry
  /** Makes it known that this process runs, and answers whoever asks how it is; until it ends. Once at most. */
  serveHealth(health: Health): Promise<void>
}

export interface Health {
  /** What to answer; see {@link startHealthServer}. */
  report(): { ready: boolean }
  /** What it can be asked beside its health and its metrics. */
  routes?: Routes
  /** What it can be told, if controls are on. */
  controls?: Controls
}

/** How a service's part in the pipeline is described; see {@link Work}. */
export interface ServiceWork<Event, State> extends Omit<Work<Event, State>, 'maxBatchRecords'> {
  outputs: readonly TopicSettings[]
  maxBatchRecords?: number
  /** Least time between two transactions of a task; as configured unless told otherwise. */
  commitIntervalMs?: number
  /** Each record is waited for; see {@link Processor}. */
  isPrompt?: boolean
  /** Shown with the counters each second and in the health report. */
  details?: Details
  /** What it can be asked on its health port, beside its health. */
  routes?: Routes
  /** What it can be told, beside to pause and to go on. */
  controls?: Controls
  /** Shows the figures each second in a way of its own, in place of the line that every service prints. */
  report?: (states: State[], status: ProcessorStatus) => void
}

type Flags = NonNullable<ParseArgsConfig['options']>
type FlagValues<Known extends Flags> = ReturnType<typeof parseArgs<{ options: Known }>>['values']

/** The flags of every service; see {@link runMain}. */
export const SERVICE_FLAGS = {
  verbose: { type: 'boolean', short: 'v' },
  help: { type: 'boolean', short: 'h' },
} as const
/** Those of a service that can be several processes at once. */
export const WORKER_FLAGS = { ...SERVICE_FLAGS, instances: { type: 'string' } } as const
const DEFAULT_BATCH_RECORDS = 1_000
/** Nobody waits for a service that writes to no topic, and a transaction costs the same when it carries offsets alone. */
const UNHURRIED_COMMIT_MS = 500

/**
 * Runs a service until it is told to end.
 *
 * @param group the consumer group, which is also what the service is called
 * @param purpose one line for --help
 * @param setUp makes what the service needs and says what its work is
 */
export async function runService<Event, State>(
  group: GroupName,
  purpose: string,
  setUp: (service: Service) => Promise<ServiceWork<Event, State>>,
): Promise<void> {
  await runMain(group, purpose, WORKER_FLAGS, async (service, { verbose, instances }) => {
    const count = readNumberFlag('instances', instances ?? '1', { min: 1, max: 1_000, isWhole: true })
    if (count > 1) return runInstances(count, verbose === true, service.signal)
    const work = withRequests(group, await setUp(service), service.config.topics)
    await serve(service, group, work, verbose === true)
  })
}

/** As many processes of this script, to use as many cores; one that ends is started again. */
async function runInstances(count: number, verbose: boolean, signal: AbortSignal): Promise<void> {
  const supervisor = new Supervisor()
  for (let index = 0; index < count; index++) {
    supervisor.keepRunning({
      script: process.argv[1]!,
      args: verbose ? ['--verbose'] : [],
      env: process.env,
      print: (line) => console.error(line),
      onOutput: (line) => console.log(line),
    })
  }
  if (!signal.aborted) await once(signal, 'abort')
  await supervisor.stop()
}

function defaultCommitInterval(
  { outputs }: Pick<ServiceWork<never, never>, 'outputs'>,
  config: Config,
): number {
  return outputs.length > 0 ? config.kafka.commitIntervalMs : UNHURRIED_COMMIT_MS
}

/** The part of {@link runService} for a script that has more to decide first: consumes until it is told to end. */
export async function serve<Event, State>(
  service: Service,
  group: GroupName,
  work: ServiceWork<Event, State>,
  verbose: boolean,
): Promise<void> {
  const { config, log, signal } = service
  if (signal.aborted) return
  const processor = new Processor({
    group: config.topicPrefix + group,
    work: { ...work, maxBatchRecords: work.maxBatchRecords ?? DEFAULT_BATCH_RECORDS },
    outputs: config.topics.isRouted ? [...work.outputs, config.topics.inbox] : work.outputs,
    deadLetters: config.topics.deadLetters[group],
    retries: config.topics.retries[group],
    createKafka: (role) => createKafka(config, `${group}-${role}`, log),
    // The Command Center and its log pass on and write nothing of their own, and must do without the keys.
    ...(!isOfRouting(group) && {
      seal: createSealer({ topics: config.topics, keys: config.keys, sender: group }),
    }),
    sessionTimeoutMs: config.kafka.sessionTimeoutMs,
    commitIntervalMs: work.commitIntervalMs ?? defaultCommitInterval(work, config),
    isPrompt: work.isPrompt === true,
    log,
    ...(verbose ? { onDone: printOutcome } : {}),
  })
  addProcessorMetrics(service.metrics, processor, config.topicPrefix)
  await service.serveHealth({
    report: () => healthOf(processor, work.details),
    ...(work.routes && { routes: work.routes }),
    controls: { ...controlsOf(processor), ...work.controls },
  })
  const statusLine = new StatusLine(processor, log, work.details)
  const ticker = setInterval(() => {
    if (work.report) work.report(processor.states, processor.status)
    else statusLine.report()
  }, 1_000)
  service.onClose(() => clearInterval(ticker))
  signal.addEventListener('abort', () => void processor.stop())
  if (!signal.aborted) await processor.run()
}

/**
 * The frame of every script: flags, configuration, first signal drains, second quits, errors as one sentence.
 *
 * @param flags in the form of node:util parseArgs
 * @param args the command line, without what the script itself has taken of it
 */
export async function runMain<Known extends Flags>(
  name: string,
  purpose: string,
  flags: Known,
  main: (service: Service, values: FlagValues<Known>) => Promise<void>,
  args: string[] = process.argv.slice(2),
): Promise<void> {
  const closers: (() => unknown)[] = []
  try {
    const values = readFlags(purpose, flags, args)
    const config = loadConfig()
    const log = createLogger(name, config.log)
    const signal = signalToEnd(log)
    const metrics = new Registry()
    const service: Service = {
      config,
      log,
      signal,
      metrics,
      onClose: (close) => closers.push(close),
      async openDatabase(connections = 4) {
        const database = openDatabase(config.databaseUrl, connections, log)
        closers.push(() => database.end())
        await migrateDatabase(database, log, signal)
        return database
      },
      async serveHealth({ report, routes, controls }) {
        const { healthPort, instancesDir, demo } = config
        addProcessMetrics(metrics)
        const whole = () => ({ service: name, ...report(), ...resourcesUsed() })
        const health = await startHealthServer(
          healthPort,
          log,
          whole,
          { ...metricsRoutes(metrics), ...routes },
          demo.controls ? { token: demo.token, controls: { ...KILL, ...controls } } : undefined,
        )
        closers.push(() => health.close())
        try {
          closers.push(registerInstance(instancesDir, name, health.port))
        } catch (error) {
          // Whoever works need not be found.
          log.warn(`neither dashboard nor Prometheus will find this process: ${describe(error)}`)
        }
      },
    }
    // The first to be opened, so that all that is done is in it.
    closers.push(await startTracing(name, config.tracing, service))
    await main(service, values)
  } catch (error) {
    // What a person can mend gets a sentence; the rest is a bug and gets its stack.
    console.error(error instanceof PipelineError ? `${name}: ${error.message}` : error)
    process.exitCode ??= 1
  } finally {
    for (const close of closers.reverse()) await close()
  }
  // Sockets to a broker that is gone can keep a process alive that has nothing left to do.
  process.exit()
}

function readFlags<Known extends Flags>(purpose: string, flags: Known, args: string[]): FlagValues<Known> {
  let values: FlagValues<Known>
  try {
    values = parseArgs({ options: flags, args }).values
  } catch (error) {
    throw new ConfigurationError(`${describe(error)} (see --help)`, { cause: error })
  }
  if ((values as { help?: boolean }).help) {
    const listed = Object.entries(flags).map(
      ([flag, { type }]) => `--${flag}${type === 'string' ? ' VALUE' : ''}`,
    )
    console.log(`${purpose}\n\nFlags: ${listed.join(' ')}\nSettings: .env.example explains each.`)
    process.exit(0)
  }
  return values
}

/** The same signal can come twice at once: from the terminal to the whole group, and from the parent. */
const SAME_SIGNAL_MS = 500

function signalToEnd(log: Logger): AbortSignal {
  const ending = new AbortController()
  let firstMs = 0
  const onSignal = (signal: NodeJS.Signals) => {
    if (!ending.signal.aborted) {
      firstMs = Date.now()
      log.info(`${signal}: finishing what is in hand (again to quit at once)`)
      ending.abort()
    } else if (Date.now() - firstMs > SAME_SIGNAL_MS) {
      process.exit(130)
    }
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  process.on('SIGHUP', onSignal)
  // Started by start.ts, which is gone: nobody is left to stop us.
  process.on('disconnect', () => onSignal('SIGTERM'))
  // It may have gone before we listened; undefined where there never was a channel.
  if (process.connected === false) onSignal('SIGTERM')
  return ending.signal
}

function printOutcome(record: RawRecord, outcome: Outcome): void {
  if (outcome instanceof DeadLetter) console.log(`${record.source} DEAD LETTER ${outcome.reason}`)
  else for (const { note } of outcome) console.log(note)
}

function healthOf(
  { counters, status }: Pick<Processor<never, never>, 'counters' | 'status'>,
  details?: Details,
) {
  return {
    ready: status.state === 'running',
    ...status,
    in: counters.in,
    out: Object.fromEntries(counters.out),
    deadLetters: counters.deadLetters,
    restarts: counters.restarts,
    ...(counters.latency && { latency: counters.latency }),
    ...details?.(),
  }
}

function controlsOf(processor: Pick<Processor<never, never>, 'pause' | 'resume' | 'status'>): Controls {
  return {
    pause() {
      processor.pause()
      return processor.status
    },
    resume() {
      processor.resume()
      return processor.status
    },
  }
}

function resourcesUsed() {
  const { user, system } = process.cpuUsage()
  return {
    cpuSeconds: (user + system) / 1e6,
    memoryMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }
}
