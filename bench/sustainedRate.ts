/** The search for the highest rate that a pipeline sustains: up or down by steps until it is enclosed, then halved. */

export interface SearchOptions<Result> {
  firstRate: number
  /** The bracket is enclosed when its ends are this factor apart, or closer. */
  precision: number
  /** At most so many steps. */
  maxSteps: number
  /** Tries a rate. */
  step(ratePerSecond: number): Promise<Result>
}

export interface SearchResult<Result> {
  /** The step at the highest rate that was sustained; undefined when none was. */
  best: Result | undefined
  /** The lowest rate that was not; undefined when all were. */
  firstTooHigh: number | undefined
  steps: Result[]
}

const GROWTH = 1.5

export async function searchSustainedRate<Result extends { ratePerSecond: number; isSustained: boolean }>({
  firstRate,
  precision,
  maxSteps,
  step,
}: SearchOptions<Result>): Promise<SearchResult<Result>> {
  const steps: Result[] = []
  let best: Result | undefined
  let firstTooHigh: number | undefined
  for (let rate = firstRate; steps.length < maxSteps; rate = nextRate()) {
    const result = await step(rate)
    steps.push(result)
    if (result.isSustained) best = result
    else firstTooHigh = rate
    if (best && firstTooHigh && firstTooHigh / best.ratePerSecond <= precision) break
  }
  return { best, firstTooHigh, steps }

  function nextRate(): number {
    if (!best) return round(firstTooHigh! / GROWTH)
    if (!firstTooHigh) return round(best.ratePerSecond * GROWTH)
    return round(Math.sqrt(best.ratePerSecond * firstTooHigh))
  }
}

/** To two digits and a half: rates are to be read by people. */
function round(rate: number): number {
  const unit = 10 ** Math.floor(Math.log10(rate)) / 20
  return Math.round(rate / unit) * unit
}
