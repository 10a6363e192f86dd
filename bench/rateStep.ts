/** One step of the search for the sustained rate: a running pipeline at one rate, and whether it keeps up with it. */
import { sleep } from '../lib/async.ts'
import { furthestOf, type Lags } from './lag.ts'
import { cpuBetween, type ProcessUse } from './processUse.ts'
import type { Trial } from './trial.ts'

export interface StepOptions {
  trial: Trial
  ratePerSecond: number
  /** At this rate before it is measured. */
  settleSeconds: number
  windowSeconds: number
  signal: AbortSignal
}

export interface Step {
  ratePerSecond: number
  /** What was placed a second in the window. */
  placedPerSecond: number
  isSustained: boolean
  /** Why not; empty when it is. */
  reason: string
  /** The group and topic furthest behind at the end, and by how many seconds of orders. */
  furthestBehind: { place: string; seconds: number }
  orders: number
  /** CPU of each process in the window, in milliseconds for each order placed. */
  cpuMsPerOrder: Record<string, number>
  /** Processors that were busy with all of it. */
  cores: number
  use: Record<string, ProcessUse>
}

/** What every group has left to do, at a moment. */
export interface Reading {
  atSeconds: number
  lags: Lags
}

/** Behind by more at the end of a window, and it does not keep up. */
const MAX_LAG_SECONDS = 3
/** Behind by less, a lag that grows is the beat of commits. */
const NOTICED_LAG_SECONDS = 1
/** Behind by more at any moment, and the step is over. */
const HOPELESS_LAG_SECONDS = 5
/** What a group may fall behind in each second, in seconds of orders. Less cannot be told from the beat of commits. */
const MAX_GROWTH = 0.05
const LEAST_PLACED = 0.98

/**
 * A rate is sustained when, over the window, every group's lag on every topic is below three seconds of orders at its end and,
 * where it is above one, does not grow (least squares over a reading a second; up to 5 % of the rate counts as flat), and the load was placed and
 * acknowledged, but for two seconds of it.
 */
export async function takeStep({
  trial,
  ratePerSecond,
  settleSeconds,
  windowSeconds,
  signal,
}: StepOptions): Promise<Step> {
  const { load, lag } = trial
  load.tell({ ratePerSecond })
  let isHopeless = false
  const readings: Reading[] = []
  const watch = async (seconds: number) => {
    const endMs = performance.now() + seconds * 1_000
    while (performance.now() < endMs && !isHopeless) {
      await sleep(Math.min(1_000, endMs - performance.now()), signal)
      signal.throwIfAborted()
      const lags = await lag.read()
      readings.push({ atSeconds: performance.now() / 1_000, lags })
      isHopeless = Object.values(lags).some((records) => records > HOPELESS_LAG_SECONDS * ratePerSecond)
    }
  }
  const sample = async () => ({ use: trial.use(), ...(await load.ask()), atMs: performance.now() })
  let from = await sample()
  await watch(settleSeconds)
  // What is hopeless already needs no window.
  if (!isHopeless) {
    readings.length = 0
    from = await sample()
    await watch(windowSeconds)
  }
  const to = await sample()
  const seconds = (to.atMs - from.atMs) / 1_000
  const orders = to.placed - from.placed
  const placedPerSecond = orders / seconds
  const cpu = cpuBetween(from.use, to.use)
  const furthest = furthestOf(readings.at(-1)!.lags)
  const { unacknowledged } = to
  const reason = whyNotSustained(readings, { ratePerSecond, placedPerSecond, unacknowledged })
  return {
    ratePerSecond,
    placedPerSecond,
    isSustained: reason === '',
    reason,
    furthestBehind: { place: furthest[0], seconds: furthest[1] / ratePerSecond },
    orders,
    cpuMsPerOrder: Object.fromEntries(
      Object.entries(cpu).map(([name, taken]) => [name, (taken * 1_000) / orders]),
    ),
    cores: Object.values(cpu).reduce((sum, taken) => sum + taken, 0) / seconds,
    use: to.use,
  }
}

/**
 * Why a rate is not sustained; empty when it is.
 *
 * @param readings over the window, a second apart
 * @param load `unacknowledged`: orders sent by its end that the broker had not answered for: they are behind, in no group's lag
 */
export function whyNotSustained(
  readings: readonly Reading[],
  load: { ratePerSecond: number; placedPerSecond: number; unacknowledged: number },
): string {
  const { ratePerSecond, placedPerSecond, unacknowledged } = load
  const lasting = readings.at(-1)!.lags
  const [place, records] = furthestOf(lasting)
  const behind = records / ratePerSecond
  if (behind > MAX_LAG_SECONDS) return `${place} is ${behind.toFixed(1)} s behind`
  if (unacknowledged > MAX_LAG_SECONDS * ratePerSecond) {
    return `the broker is ${(unacknowledged / ratePerSecond).toFixed(1)} s behind with the load`
  }
  if (placedPerSecond < LEAST_PLACED * ratePerSecond)
    return `only ${placedPerSecond.toFixed(0)}/s were placed`
  for (const name of Object.keys(lasting)) {
    const growth = slopeOf(readings.map(({ atSeconds, lags }) => [atSeconds, lags[name]!])) / ratePerSecond
    const isNoticed = lasting[name]! > NOTICED_LAG_SECONDS * ratePerSecond
    if (isNoticed && growth > MAX_GROWTH) return `${name} falls behind by ${(growth * 100).toFixed(0)} %`
  }
  return ''
}

/** Of the line of least squares through these points. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (axis: 0 | 1) => points.reduce((sum, point) => sum + point[axis], 0) / points.length
  const [meanX, meanY] = [mean(0), mean(1)]
  let covariance = 0
  let variance = 0
  for (const [x, y] of points) {
    covariance += (x - meanX) * (y - meanY)
    variance += (x - meanX) ** 2
  }
  return variance === 0 ? 0 : covariance / variance
}
