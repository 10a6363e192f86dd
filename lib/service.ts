/**
 * What every service does around its own work: configuration, flags, log, health, one line a second while it
 * works, and an orderly end. A service script calls {@link runService} and nothing else.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { type Config, createKafka, loadConfig } from '../kafkaConfig.ts'
import { type Database, migrateDatabase, openDatabase } from './database.ts'
import { ConfigurationError, describe, PipelineError } from './errors.ts'
import { type Routes, startHealthServer } from './health.ts'
import { createLogger, type Logger } from './log.ts'
import { Processor, type ProcessorStatus, type Work } from './processor.ts'
import { DeadLetter, type Outcome, type RawRecord } from './record.ts'
import { withRequests } from './requests.ts'
import { createSealer } from './sealing.ts'
import { type GroupName, isOfRouting, type TopicSettings } from './topics.ts'

export interface Service {
  config: Config
  log: Logger
  /** Aborted when the process is asked to end. */
  signal: AbortSignal
  /** Something to be closed at the end, in reverse order. */
  onClose(close: () => unknown): void
  /** A migrated database; waits until it is there. */
  openDatabase(connections?: number): Promise<Database>
}

/** How a service's part in the pipeline is described; see {@link Work}. */
export interface ServiceWork<Event, State> extends Omit<Work<Event, State>, 'maxBatchRecords'> {
  outputs: readonly TopicSettings[]
  maxBatchRecords?: number
  /** Least time between two transactions of a task; as configured unless told otherwise. */
  commitIntervalMs?: number
  /** Each record is waited for; see {@link Processor}. */
  isPrompt?: boolean
  /** More lines for the status, by name: shown with the counters each second and in the health report. */
  details?: () => Record<string, string | number>
  /** What it can be asked on its health port, beside its health. */
  routes?: Routes
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
const DEFAULT_BATCH_RECORDS = 2_000
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
  await runMain(group, purpose, SERVICE_FLAGS, async (service, { verbose }) => {
    const work = withRequests(group, await setUp(service), service.config.topics)
    await serve(service, group, work, verbose === true)
  })
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
  const report = () => healthOf(group, processor, work.details)
  const health = await startHealthServer(config.healthPort, log, report, work.routes)
  service.onClose(() => health.close())
  const ticker = setInterval(() => {
    if (work.report) work.report(processor.states, processor.status)
    else reportStatus(processor, log, work.details)
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
    const service: Service = {
      config,
      log,
      signal,
      onClose: (close) => closers.push(close),
      async openDatabase(connections = 4) {
        const database = openDatabase(config.databaseUrl, connections, log)
        closers.push(() => database.end())
        await migrateDatabase(database, log, signal)
        return database
      },
    }
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

type AnyProcessor = Pick<Processor<never, never>, 'counters' | 'status'>

/** One line, and only while there is something to say. */
const reportStatus = (() => {
  let before = { in: 0, out: new Map<string, number>(), deadLetters: 0 }
  return (
    { counters, status }: AnyProcessor,
    log: Logger,
    details?: () => Record<string, string | number>,
  ) => {
    if (counters.in === before.in && counters.deadLetters === before.deadLetters) return
    const parts = [`in ${counters.in - before.in}/s`]
    for (const [topic, count] of counters.out) {
      parts.push(`${topic} ${count - (before.out.get(topic) ?? 0)}/s`)
    }
    if (counters.deadLetters > 0) parts.push(`dead letters ${counters.deadLetters}`)
    parts.push(`lag ${status.lag}`, `p99 ${counters.drainLatency().p99} ms`)
    for (const [name, value] of Object.entries(details?.() ?? {})) parts.push(`${name} ${value}`)
    log.info(parts.join('  '))
    before = { in: counters.in, out: new Map(counters.out), deadLetters: counters.deadLetters }
  }
})()

function healthOf(
  group: string,
  { counters, status }: AnyProcessor,
  details?: () => Record<string, string | number>,
) {
  return {
    service: group,
    ready: status.state === 'running',
    ...status,
    in: counters.in,
    out: Object.fromEntries(counters.out),
    deadLetters: counters.deadLetters,
    restarts: counters.restarts,
    cpuSeconds: cpuSeconds(),
    memoryMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
    ...details?.(),
  }
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
