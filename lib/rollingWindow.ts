import { type Amounts, addAmount, addAmounts } from './amounts.ts'

interface Bucket {
  second: number
  orders: number
  revenue: Amounts
}

/**
 * Orders and revenue of the last minute by arrival, in buckets of one second that are used in turn: its size does
 * not depend on the rate.
 */
export class RollingWindow {
  /** A little more than a minute, so that the second under way never overwrites one that is still counted. */
  readonly #buckets: Bucket[] = Array.from({ length: 64 }, () => ({
    second: Number.NEGATIVE_INFINITY,
    orders: 0,
    revenue: new Map(),
  }))

  add(arrivedMs: number, currency: string, amountMinor: number): void {
    const second = Math.floor(arrivedMs / 1_000)
    const bucket = this.#buckets[second % this.#buckets.length]!
    if (second < bucket.second) return
    if (second > bucket.second) {
      bucket.second = second
      bucket.orders = 0
      bucket.revenue = new Map()
    }
    bucket.orders++
    addAmount(bucket.revenue, currency, amountMinor)
  }

  /** Over that many whole seconds before the one under way, at most 60. */
  sum(seconds: number, nowMs: number): { orders: number; revenue: Amounts } {
    const now = Math.floor(nowMs / 1_000)
    const total = { orders: 0, revenue: new Map<string, number>() }
    for (const { second, orders, revenue } of this.#buckets) {
      if (second >= now || second < now - seconds) continue
      total.orders += orders
      addAmounts(total.revenue, revenue)
    }
    return total
  }
}
