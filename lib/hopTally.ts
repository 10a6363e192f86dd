import type { HopSummary } from './hopStore.ts'

/** Up to here each millisecond is told apart; beyond, times that differ by less than a thousandth are one. */
const EXACT_BELOW_MS = 2_048

/** The figures of hops that come one after the other, in a memory that does not grow with their number. */
export class HopTally {
  #hops = 0
  #refused = 0
  #totalMs = 0
  /** By what is told apart: how many, and the least of their times. */
  readonly #times = new Map<number, { hops: number; leastMs: number }>()

  take(success: boolean, processingTimeMs: number): void {
    this.#hops++
    if (!success) this.#refused++
    this.#totalMs += processingTimeMs
    const key = round(processingTimeMs)
    const time = this.#times.get(key)
    if (time === undefined) {
      this.#times.set(key, { hops: 1, leastMs: processingTimeMs })
    } else {
      time.hops++
      time.leastMs = Math.min(time.leastMs, processingTimeMs)
    }
  }

  /** Of at least one hop. */
  figures(): Pick<HopSummary, 'hops' | 'refused' | 'p50Ms' | 'p99Ms' | 'meanMs'> {
    const [p50Ms, p99Ms] = this.#atRanks([0.5 * this.#hops, 0.99 * this.#hops])
    const meanMs = this.#totalMs / this.#hops
    return { hops: this.#hops, refused: this.#refused, p50Ms: p50Ms!, p99Ms: p99Ms!, meanMs }
  }

  /** By nearest rank. @param ranks in ascending order */
  #atRanks(ranks: number[]): number[] {
    const found: number[] = []
    let passed = 0
    for (const [, { hops, leastMs }] of [...this.#times].sort(([a], [b]) => a - b)) {
      passed += hops
      while (found.length < ranks.length && passed >= ranks[found.length]!) found.push(leastMs)
    }
    return found
  }
}

function round(ms: number): number {
  if (ms < EXACT_BELOW_MS) return ms
  const step = (2 ** Math.floor(Math.log2(ms)) * 2) / EXACT_BELOW_MS
  return Math.floor(ms / step) * step
}
