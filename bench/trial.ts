/** A whole pipeline under a load that can be changed while it runs: what the cases pipeline, latency and soak stand on. */
import { createKafka } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { TrialPipeline } from '../lib/trialPipeline.ts'
import type { BenchContext } from './context.ts'
import { furthestOf, LagReader, readingGroups } from './lag.ts'
import { type Load, startLoad } from './load.ts'
import { type Pids, type ProcessUse, readUse } from './processUse.ts'

export const SERVICES = [
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
  'mailService',
  'analytics',
  'orderView',
] as const

export interface TrialSettings {
  context: Pick<BenchContext, 'say' | 'signal'>
  /** Of its own, and empty. */
  dataDir: string
  services: readonly string[]
  /** The groups whose lag is watched; all unless told otherwise. */
  groups?: readonly string[]
  scriptOf(name: string): string
  settings?: Record<string, string>
  tickMs: number
}

export interface Trial {
  pipeline: TrialPipeline
  load: Load
  lag: LagReader
  /** All processes, broker, database, load and this one among them. */
  pids(): Pids
  /** What each has taken of the machine. @throws Error when one has ended that nobody ended */
  use(): Record<string, ProcessUse>
  stop(): Promise<void>
}

/** The gateway that all cases have, also those of others. */
const GATEWAY_LATENCY_MS = 20

/** Brings up servers and services, and resolves when orders can be placed. */
export async function startTrial(options: TrialSettings): Promise<Trial> {
  const { context, dataDir, services, groups, scriptOf, settings, tickMs } = options
  const { say } = context
  const pipeline = await TrialPipeline.start({
    dataDir,
    brokers: 1,
    ratePerSecond: 0,
    scriptOf,
    settings: {
      GATEWAY_LATENCY_MS: String(GATEWAY_LATENCY_MS),
      DASHBOARD_PORT: '0',
      INSTANCES_DIR: `${dataDir}/instances`,
      // Half a minute of what each does would be lines for each second.
      LOG_LEVEL: 'warn',
      ...settings,
    },
    say,
  })
  const log = createLogger('bench', { level: 'warn', format: 'pretty', color: false })
  const closers: (() => Promise<unknown>)[] = [() => pipeline.stop()]
  const stop = async () => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    for (const name of services) pipeline.startMember(`${name}-1`)
    const load = await startLoad({ env: pipeline.environment, tickMs, print: say })
    closers.push(() => load.stop())
    const all = readingGroups(pipeline.config.topics)
    const watched = all.filter(({ group }) => groups?.includes(group) ?? true)
    const lag = await LagReader.open(createKafka(pipeline.config, 'bench', log), watched)
    closers.push(() => lag.close())
    const pids = () => ({ ...pipeline.pids, load: load.pid, bench: process.pid })
    const use = () => {
      const [ended] = pipeline.unaskedEnds
      if (ended) throw new Error(`${ended.id} ended with ${ended.status}; see ${dataDir}/logs`)
      return readUse(pids())
    }
    return { pipeline, load, lag, pids, use, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** One in each partition may stand behind the last that was read. */
const MAX_CONTROL_RECORDS = 24

/** Places nothing, and resolves when nothing is left to do. @throws Error when that takes longer than the time given */
export async function drain({ load, lag }: Trial, withinMs: number, signal: AbortSignal): Promise<void> {
  load.tell({ ratePerSecond: 0 })
  const endMs = performance.now() + withinMs
  for (;;) {
    await sleep(500, signal)
    signal.throwIfAborted()
    const [place, most] = furthestOf(await lag.read())
    if (most <= MAX_CONTROL_RECORDS) return
    if (performance.now() > endMs) throw new Error(`${place} still has ${most} records to do`)
  }
}

/** After the warm-up: more that is left is worked off first. */
const WARM_LAG_SECONDS = 1
const WARM_DRAIN_MS = 180_000

/**
 * Places orders at this rate for so long, and works off what came while the services started. Orders flow from the
 * beginning: nothing is compiled before it is needed.
 */
export async function warmUp(
  trial: Trial,
  { name, ratePerSecond, seconds }: { name: string; ratePerSecond: number; seconds: number },
  { progress, signal }: Pick<BenchContext, 'progress' | 'signal'>,
): Promise<void> {
  trial.load.tell({ ratePerSecond })
  for (let left = seconds; left > 0; left--) {
    progress(`${name}: warming up at ${ratePerSecond}/s for ${left} s`)
    await sleep(1_000, signal)
    signal.throwIfAborted()
  }
  const [, most] = furthestOf(await trial.lag.read())
  if (most > WARM_LAG_SECONDS * ratePerSecond) await drain(trial, WARM_DRAIN_MS, signal)
}
