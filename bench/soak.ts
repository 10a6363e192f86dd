/**
 * All services at a steady rate for half an hour: memory and latency must stay flat. What it sees is written as it goes,
 * a line of JSON for each interval, to .data/bench/soak.jsonl: it is there also when this is ended early.
 */
import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { judgeTopics } from '../lib/topics.ts'
import type { BenchContext, BenchTable, BenchTarget, CaseResult } from './context.ts'
import { type LatencyReader, type Quantiles, startLatencyReader } from './latencyWindow.ts'
import { formatStep, OURS, QUICK_PACING, runPipeline, USUAL_PACING } from './pipelineRun.ts'
import { type Step, slopeOf, takeStep } from './rateStep.ts'
import { SERVICES, startTrial, warmUp } from './trial.ts'

export interface SoakOptions {
  /** Without it, 70 % of the rate that is sustained, which is then looked for. */
  ratePerSecond?: number
  minutes?: number
}

interface Interval {
  minutes: number
  step: Step
  /** From due to decided, of what was due in this interval. */
  latency: Quantiles | undefined
}

const SHARE_OF_SUSTAINED = 0.7
const MINUTES = { usual: 30, quick: 2 }
const INTERVAL_SECONDS = { usual: 30, quick: 10 }
const WARM_UP_SECONDS = { usual: 90, quick: 15 }
const LINES = fileURLToPath(new URL('../.data/bench/soak.jsonl', import.meta.url))
const HOP = 'placed to decided'
const TICK_MS = 25
/** What is due at the end of an interval has so long to be decided until the next is told to the reader. */
const ARRIVAL_SECONDS = 3
/** From the first third to the last. Memory grows until the collector sees a reason, and noise is a few percent. */
const MAX_MEMORY_GROWTH = 1.1
const MAX_LATENCY_GROWTH = 1.25
const MAX_MEMORY_MIB = 200

export async function runSoakCase(context: BenchContext, options: SoakOptions = {}): Promise<CaseResult> {
  const of = <Value>({ usual, quick }: { usual: Value; quick: Value }) => (context.isQuick ? quick : usual)
  const rate = options.ratePerSecond ?? (await findRate(context))
  const minutes = options.minutes ?? of(MINUTES)
  const intervals = await soak(context, rate, {
    ...{ minutes, intervalSeconds: of(INTERVAL_SECONDS), warmUpSeconds: of(WARM_UP_SECONDS) },
  })
  return {
    name: 'soak',
    tables: toTables(rate, intervals),
    targets: toTargets(intervals),
    raw: { ratePerSecond: rate, intervals },
  }
}

async function findRate(context: BenchContext): Promise<number> {
  const { best } = await runPipeline(context, OURS, context.isQuick ? QUICK_PACING : USUAL_PACING)
  if (!best) throw new Error('no rate was sustained: there is none to go on with')
  return Math.round(best.ratePerSecond * SHARE_OF_SUSTAINED)
}

async function soak(
  context: BenchContext,
  ratePerSecond: number,
  lasting: { minutes: number; intervalSeconds: number; warmUpSeconds: number },
): Promise<Interval[]> {
  const { say, signal } = context
  const dataDir = join(context.dataDir, 'soak')
  await mkdir(dataDir, { recursive: true })
  await mkdir(dirname(LINES), { recursive: true })
  await writeFile(LINES, '')
  const scriptOf = (name: string) => `${name}.ts`
  const trial = await startTrial({ context, dataDir, services: SERVICES, scriptOf, tickMs: TICK_MS })
  let reader: LatencyReader | undefined
  try {
    const { environment: env, config } = trial.pipeline
    const { ordersValidated, ordersCompleted } = config.topics
    const topics = [ordersValidated, ...judgeTopics(config.topics), ordersCompleted].map(({ name }) => name)
    reader = await startLatencyReader({ env, topics, print: say })
    await warmUp(trial, { name: 'soak', ratePerSecond, seconds: lasting.warmUpSeconds }, context)
    const intervals: Interval[] = []
    const startedMs = performance.now()
    const elapsedMinutes = () => (performance.now() - startedMs) / 60_000
    while (elapsedMinutes() < lasting.minutes) {
      const fromMs = Date.now()
      const dueSeconds = lasting.intervalSeconds - ARRIVAL_SECONDS
      reader.tell({ fromMs, toMs: fromMs + dueSeconds * 1_000 })
      const windowSeconds = lasting.intervalSeconds
      const step = await takeStep({ trial, ratePerSecond, settleSeconds: 0, windowSeconds, signal })
      const { hops } = await reader.ask()
      const interval = { minutes: elapsedMinutes(), step, latency: hops[HOP] }
      intervals.push(interval)
      await appendFile(LINES, `${JSON.stringify(interval)}\n`)
      say(`soak, ${interval.minutes.toFixed(1)} min: ${formatStep(step)}, p99 ${hops[HOP]?.p99} ms`)
    }
    return intervals
  } finally {
    await reader?.stop()
    await trial.stop()
  }
}

function toTables(ratePerSecond: number, intervals: readonly Interval[]): BenchTable[] {
  const lastMinutes = intervals.at(-1)?.minutes ?? 0
  const memory = namesOf(intervals).map((name) => {
    const values = valuesOf(intervals, (interval) => interval.step.use[name]?.memoryMiB)
    const [first, last] = thirdsOf(values)
    const perHour = slopeOf(values) * 60
    const peak = intervals.at(-1)!.step.use[name]?.peakMiB
    return [
      name,
      ...[first, last, perHour, peak].map((value) => (value === undefined ? '' : value.toFixed(0))),
    ]
  })
  const latency = (['p50', 'p99', 'p999', 'max'] as const).map((quantile) => {
    const values = valuesOf(intervals, (interval) => interval.latency?.[quantile])
    const [first, last] = thirdsOf(values)
    return [quantile, first.toFixed(0), last.toFixed(0), (slopeOf(values) * 60).toFixed(0)]
  })
  return [
    {
      title: `Soak: memory in MiB over ${lastMinutes.toFixed(0)} minutes at ${ratePerSecond} orders/s`,
      header: ['process', 'first third', 'last third', 'slope per hour', 'peak'],
      rows: memory,
    },
    {
      title: 'Soak: from due to decided, in milliseconds, medians over intervals',
      header: ['quantile', 'first third', 'last third', 'slope per hour'],
      rows: latency,
    },
  ]
}

function toTargets(intervals: readonly Interval[]): BenchTarget[] {
  const growths = serviceNames(intervals).map((name) => {
    const [first, last] = thirdsOf(valuesOf(intervals, ({ step }) => step.use[name]?.memoryMiB))
    return { name, growth: last / first }
  })
  const worst = growths.sort((a, b) => b.growth - a.growth)[0]!
  const [firstP99, lastP99] = thirdsOf(valuesOf(intervals, ({ latency }) => latency?.p99))
  // One that is not known is no number, and meets nothing.
  const peaks = serviceNames(intervals).map((name) => intervals.at(-1)!.step.use[name]?.peakMiB ?? Number.NaN)
  const peak = Math.max(...peaks)
  const behind = intervals.filter(({ step }) => !step.isSustained).length
  const target = (what: string, wanted: string, got: string, isMet: boolean) => ({ what, wanted, got, isMet })
  return [
    target('intervals in which it did not keep up', '0', String(behind), behind === 0),
    target(
      'memory of a service, last third against first',
      `at most ${MAX_MEMORY_GROWTH}`,
      `${worst.growth.toFixed(2)} (${worst.name})`,
      worst.growth <= MAX_MEMORY_GROWTH,
    ),
    target(
      'p99 from due to decided, last third against first',
      `at most ${MAX_LATENCY_GROWTH}`,
      (lastP99 / firstP99).toFixed(2),
      lastP99 / firstP99 <= MAX_LATENCY_GROWTH && intervals.every(({ latency }) => latency),
    ),
    target(
      'most memory of a service',
      `under ${MAX_MEMORY_MIB} MiB`,
      Number.isNaN(peak) ? 'not known' : `${Math.round(peak)} MiB`,
      peak < MAX_MEMORY_MIB,
    ),
  ]
}

function namesOf(intervals: readonly Interval[]): string[] {
  return Object.keys(intervals[0]?.step.use ?? {}).filter((name) => !['load', 'bench'].includes(name))
}

/** Without the servers, whose caches grow by their own rules. */
function serviceNames(intervals: readonly Interval[]): string[] {
  return namesOf(intervals).filter((name) => name !== 'postgres' && !name.startsWith('broker'))
}

/** By minutes. */
function valuesOf(
  intervals: readonly Interval[],
  read: (interval: Interval) => number | undefined,
): [minutes: number, value: number][] {
  return intervals.flatMap((interval) => {
    const value = read(interval)
    return value === undefined ? [] : [[interval.minutes, value] as [number, number]]
  })
}

/** The medians of the first and of the last third. */
function thirdsOf(values: readonly (readonly [number, number])[]): [first: number, last: number] {
  const third = Math.max(1, Math.floor(values.length / 3))
  const medianOf = (some: typeof values) =>
    some.map(([, value]) => value).sort((a, b) => a - b)[some.length >> 1] ?? Number.NaN
  return [medianOf(values.slice(0, third)), medianOf(values.slice(-third))]
}
