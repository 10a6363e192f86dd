/** One kind of pipeline, ours or the naive one, brought up, warmed up, and taken to the rate that it sustains. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { BenchContext } from './context.ts'
import { type Step, takeStep } from './rateStep.ts'
import { type SearchResult, searchSustainedRate } from './sustainedRate.ts'
import { drain, SERVICES, startTrial, warmUp } from './trial.ts'

export interface PipelineKind {
  name: string
  /** Where the script of a service is; the gateway's as well. */
  scriptOf(name: string): string
  settings?: Record<string, string>
  warmUpRate: number
  firstRate: number
}

export const OURS: PipelineKind = {
  name: 'ours, exactly-once',
  scriptOf: (name) => `${name}.ts`,
  warmUpRate: 150,
  firstRate: 300,
}

export interface Pacing {
  warmUpSeconds: number
  settleSeconds: number
  windowSeconds: number
  maxSteps: number
  precision: number
}

export const USUAL_PACING: Pacing = {
  warmUpSeconds: 20,
  settleSeconds: 3,
  windowSeconds: 8,
  maxSteps: 6,
  precision: 1.1,
}
export const QUICK_PACING: Pacing = {
  warmUpSeconds: 6,
  settleSeconds: 2,
  windowSeconds: 4,
  maxSteps: 3,
  precision: 1.5,
}

const DRAIN_MS = 120_000
/** Each send costs the load a millisecond of CPU. */
const TICK_MS = 25

export interface PipelineFigures extends SearchResult<Step> {
  name: string
  /** Most memory of each process, over all that was done with it. */
  peakMiB: Record<string, number>
}

/**
 * Takes a pipeline to the rate that it sustains, or to one rate alone.
 *
 * @param ratePerSecond measures this rate once, in place of the search
 */
export async function runPipeline(
  context: BenchContext,
  kind: PipelineKind,
  pacing: Pacing,
  ratePerSecond?: number,
): Promise<PipelineFigures> {
  const { say, signal } = context
  const dataDir = join(context.dataDir, kind.name.replaceAll(/\W+/g, '-'))
  await mkdir(dataDir, { recursive: true })
  const { scriptOf, settings } = kind
  const trial = await startTrial({
    ...{ context, dataDir, services: SERVICES, scriptOf, tickMs: TICK_MS },
    ...(settings && { settings }),
  })
  const peakMiB: Record<string, number> = {}
  const step = async (rate: number) => {
    const result = await takeStep({ trial, ratePerSecond: rate, ...pacing, signal })
    for (const [name, { memoryMiB, peakMiB: peak }] of Object.entries(result.use)) {
      peakMiB[name] = Math.max(peakMiB[name] ?? 0, peak ?? memoryMiB)
    }
    say(`${kind.name}: ${formatStep(result)}`)
    if (!result.isSustained) await drain(trial, DRAIN_MS, signal)
    return result
  }
  try {
    const warmUpRate = Math.min(kind.warmUpRate, ratePerSecond ?? Number.POSITIVE_INFINITY)
    const { warmUpSeconds: seconds } = pacing
    await warmUp(trial, { name: kind.name, ratePerSecond: warmUpRate, seconds }, context)
    const { firstRate } = kind
    const options = ratePerSecond === undefined ? { ...pacing, firstRate } : atOnce(ratePerSecond)
    return { name: kind.name, ...(await searchSustainedRate({ ...options, step })), peakMiB }
  } finally {
    await trial.stop()
  }
}

function atOnce(ratePerSecond: number) {
  return { firstRate: ratePerSecond, maxSteps: 1, precision: 1 }
}

export function formatStep({
  ratePerSecond,
  isSustained,
  reason,
  cpuMsPerOrder,
  cores,
  furthestBehind,
}: Step): string {
  const cpu = Object.values(cpuMsPerOrder).reduce((sum, taken) => sum + taken, 0)
  const verdict = isSustained ? 'sustained' : `not sustained (${reason})`
  const { place, seconds } = furthestBehind
  return (
    `${ratePerSecond}/s ${verdict}, ${cpu.toFixed(2)} ms of CPU for each order, ${cores.toFixed(2)} cores, ` +
    `at most ${seconds.toFixed(2)} s behind (${place})`
  )
}
