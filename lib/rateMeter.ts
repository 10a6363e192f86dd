interface Sample {
  atMs: number
  count: number
}

/** How fast counters grow, over the last few seconds. */
export class RateMeter {
  static readonly #OVER_MS = 3_000
  readonly #samples = new Map<string, Sample[]>()

  /** Notes a count and says by how much it grew per second. */
  rate(name: string, count: number, nowMs = Date.now()): number {
    const samples = this.#samples.get(name) ?? []
    this.#samples.set(name, samples)
    samples.push({ atMs: nowMs, count })
    while (samples.length > 2 && samples[1]!.atMs < nowMs - RateMeter.#OVER_MS) samples.shift()
    const [first] = samples
    const seconds = (nowMs - first!.atMs) / 1_000
    return seconds > 0 ? Math.round((count - first!.count) / seconds) : 0
  }
}

/** Whether a lag grows, and not only goes up and down: it was above all of the looks before for several looks. */
export class LagTrend {
  static readonly #LOOKS = 3
  /** Below that it is what one batch makes of it. */
  static readonly #LEAST = 1_000
  readonly #looks: number[] = []

  /** @param lag undefined while nobody knows it */
  note(lag: number | undefined): void {
    if (lag === undefined) return
    this.#looks.push(lag)
    if (this.#looks.length > 2 * LagTrend.#LOOKS) this.#looks.shift()
  }

  get isGrowing(): boolean {
    const before = this.#looks.slice(0, -LagTrend.#LOOKS)
    const latest = this.#looks.slice(-LagTrend.#LOOKS)
    if (before.length < LagTrend.#LOOKS) return false
    const least = Math.min(...latest)
    return least >= LagTrend.#LEAST && least > Math.max(...before)
  }
}
