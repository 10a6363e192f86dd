import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Kafka } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { ConfigurationError, describe, UnavailableError } from './errors.ts'
import { type Injection, injectFault } from './faultInjection.ts'
import { type FaultReport, summariseRun } from './faultReport.ts'
import { type Fault, planFaults, type ScheduleShape, standingProcesses } from './faultSchedule.ts'
import { fetchLag, fetchPositions, type WorkingGroup, workingGroups } from './groupLag.ts'
import { LiveTable, rowsView } from './liveTable.ts'
import type { Logger } from './log.ts'
import { RecoveryWatch } from './recoveryWatch.ts'
import type { TerminalOutput } from './terminal.ts'
import { formatSeconds } from './text.ts'
import { auditTrial } from './trialAudit.ts'
import { TrialPipeline } from './trialPipeline.ts'
import { UndecidedOrders } from './undecided.ts'

export interface FaultRunOptions extends Omit<ScheduleShape, 'sessionTimeoutMs'> {
  /** Orders per second. */
  rate: number
  guarantee: 'exactly-once' | 'naive'
  /** Settings over the defaults, for every script. */
  settings?: Record<string, string>
  /** Keeps state and logs also when all went well. */
  keep: boolean
  output: TerminalOutput
  signal: AbortSignal
  log: Logger
}

const START_DEADLINE_MS = 90_000
/** After the last fault, all that was placed is to have come to its end within this. */
const DRAIN_DEADLINE_MS = 120_000
const POLL_MS = 200
/** The services that there are of the usual kind too; all others are what they are. */
const NAIVE_SERVICES = ['validator', 'inventoryService', 'paymentService']

/**
 * Puts a pipeline of its own under load and faults, lets it drain, and audits it.
 *
 * @throws PipelineError or InfrastructureError when the pipeline does not come up
 */
export async function runFaults(options: FaultRunOptions): Promise<FaultReport> {
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-chaos-'))
  const table = new LiveTable(options.output)
  let report: FaultReport | undefined
  try {
    report = await new FaultRun(options, dataDir, table).run()
    return report
  } finally {
    table.end()
    if (report?.ok && !options.keep) await rm(dataDir, { recursive: true, force: true })
    else table.print(`State and the log of each process are in ${dataDir}.`)
  }
}

class FaultRun {
  readonly #options: FaultRunOptions
  readonly #dataDir: string
  readonly #table: LiveTable
  readonly #injections: Injection[] = []
  readonly #inHand = new Set<string>()
  readonly #failures: string[] = []
  #startedMs = 0

  constructor(options: FaultRunOptions, dataDir: string, table: LiveTable) {
    this.#options = options
    this.#dataDir = dataDir
    this.#table = table
  }

  async run(): Promise<FaultReport> {
    const { brokers, rate, guarantee, settings, log } = this.#options
    const pipeline = await TrialPipeline.start({
      dataDir: this.#dataDir,
      brokers,
      ratePerSecond: rate,
      scriptOf: (name) =>
        guarantee === 'naive' && NAIVE_SERVICES.includes(name) ? `test/naive/${name}.ts` : `${name}.ts`,
      ...(settings && { settings }),
      say: (line) => this.#table.print(line),
    })
    try {
      for (const id of standingProcesses()) pipeline.startMember(id)
      const { config } = pipeline
      const { ordersCompleted } = config.topics
      // Those of the usual kind carry no decision out: what lies there for them stays.
      const groups = workingGroups(config.topicPrefix, config.topics).filter(
        ({ topics }) => guarantee === 'exactly-once' || !topics.includes(ordersCompleted.name),
      )
      const kafka = createKafka(config, 'chaos', log)
      const isFlowing = await this.#until(START_DEADLINE_MS, async () => {
        const positions = await fetchPositions(kafka, groups)
        return groups.every(({ group }) => positions.some((at) => at.group === group && at.committed > 0))
      })
      if (!isFlowing) throw new UnavailableError('the pipeline', new Error('no orders flow through it'))
      const { looks, drainedMs } = await this.#load(pipeline, kafka, groups)
      return summariseRun({
        options: this.#options,
        injections: this.#injections,
        looks,
        failures: this.#failures,
        unaskedEnds: pipeline.unaskedEnds,
        drainedMs,
        audit: await auditTrial(pipeline, (line) => this.#table.print(line)),
      })
    } finally {
      this.#table.end()
      await pipeline.stop()
    }
  }

  /** All faults, under load; then the load ends, and what there is drains. */
  async #load(pipeline: TrialPipeline, kafka: Kafka, groups: readonly WorkingGroup[]) {
    this.#startedMs = performance.now()
    const watch = new RecoveryWatch(kafka, groups, this.#startedMs)
    const following = new AbortController()
    this.#showProgress(watch)
    try {
      await this.#injectAll(pipeline)
      await pipeline.stopMember('producer-1')
      const drainStartedMs = performance.now()
      const undecided = new UndecidedOrders()
      undecided
        .follow(pipeline.config.topics, { kafka, log: this.#options.log, signal: following.signal })
        .catch((error) => this.#failures.push(`decisions cannot be counted: ${describe(error)}`))
      const isDrained = await this.#until(
        DRAIN_DEADLINE_MS,
        async () => undecided.isCaughtUp && undecided.count === 0 && (await fetchLag(kafka, groups)) === 0,
      )
      if (this.#options.signal.aborted) throw new ConfigurationError('interrupted: no audit, no report')
      if (!isDrained) {
        this.#failures.push(
          `not drained within ${DRAIN_DEADLINE_MS / 1_000} s: ${undecided.count} orders undecided`,
        )
      }
      return {
        looks: watch.looks,
        drainedMs: isDrained ? performance.now() - drainStartedMs : undefined,
      }
    } finally {
      following.abort()
      await watch.stop()
      this.#table.end()
    }
  }

  /** Each at its time, whether those before it are healed or not; resolves when all are. */
  async #injectAll(pipeline: TrialPipeline): Promise<void> {
    const { seconds, signal } = this.#options
    const { sessionTimeoutMs } = pipeline.config.kafka
    const injected: Promise<void>[] = []
    for (const fault of planFaults({ ...this.#options, sessionTimeoutMs })) {
      await this.#sleepUntil(fault.atMs)
      if (signal.aborted) break
      injected.push(this.#inject(pipeline, fault))
    }
    await this.#sleepUntil(seconds * 1_000)
    await Promise.all(injected)
  }

  async #inject(pipeline: TrialPipeline, fault: Fault): Promise<void> {
    try {
      const injection = await injectFault(
        pipeline,
        fault,
        this.#inHand,
        this.#startedMs,
        this.#options.signal,
      )
      this.#injections.push(injection)
      const { number, kind, target, point } = fault
      const times = `${formatSeconds(injection.startedMs)} to ${formatSeconds(injection.healedMs)}`
      const note = injection.note === undefined ? '' : ` (${injection.note})`
      this.#table.print(`${times}  fault ${number}: ${kind} ${target}${point ? ` at ${point}` : ''}${note}`)
    } catch (error) {
      this.#failures.push(`fault ${fault.number}, ${fault.kind} ${fault.target}: ${describe(error)}`)
    }
  }

  #showProgress(watch: RecoveryWatch): void {
    const { faults, seconds } = this.#options
    const rows = (): [string, string][] => [
      ['time', `${formatSeconds(performance.now() - this.#startedMs)} of ${seconds} s`],
      ['faults', `${this.#injections.length} of ${faults}`],
      ['standing still', watch.looks.at(-1)?.stalled.join(' ') || 'nobody'],
    ]
    this.#table.begin(rowsView(rows))
  }

  async #sleepUntil(atMs: number): Promise<void> {
    const leftMs = this.#startedMs + atMs - performance.now()
    if (leftMs > 0) await sleep(leftMs, this.#options.signal)
  }

  /** @returns whether it came about; not when the signal came first */
  async #until(deadlineMs: number, isSo: () => Promise<boolean>): Promise<boolean> {
    const { signal, log } = this.#options
    const endMs = performance.now() + deadlineMs
    while (performance.now() < endMs && !signal.aborted) {
      try {
        if (await isSo()) return true
      } catch (error) {
        log.debug(`cannot be told yet: ${describe(error)}`)
      }
      await sleep(POLL_MS, signal)
    }
    return false
  }
}
