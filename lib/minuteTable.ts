import { type Amounts, addAmount } from './amounts.ts'

export interface Tally {
  orders: number
  revenue: Amounts
}

export const newTally = (): Tally => ({ orders: 0, revenue: new Map() })

export function addToTally(tally: Tally, currency: string, amountMinor: number): void {
  tally.orders++
  addAmount(tally.revenue, currency, amountMinor)
}

export const MINUTE_MS = 60_000
/** An order dated further ahead of its arrival than this has a wrong clock behind it. */
export const MAX_AHEAD_MS = 5 * MINUTE_MS
/** More than a year without a minute off. */
const MAX_MINUTES = 600_000
/** So much is dropped at once: looking for the oldest is not worth doing for each. */
const DROPPED_SHARE = 0.01

/**
 * Orders by the minute they were placed in, of one partition.
 *
 * The watermark is the latest `placedAt` seen so far. A minute takes orders until the watermark has passed its end
 * by the grace; what comes later for it is late and counted apart. So is an order dated far ahead of its arrival,
 * which does not move the watermark either: one wrong clock would make all others late.
 *
 * Whether an order is late depends on the orders before it in its partition and on nothing else. Hence the tables
 * of all partitions add up to the same table, however their records came interleaved: a replay reproduces it.
 */
export class MinuteTable {
  /** By the beginning of the minute, in milliseconds since 1970. */
  readonly minutes = new Map<number, Tally>()
  readonly late = newTally()
  readonly future = newTally()
  /** Minutes that were dropped as the oldest, and what was in them. */
  readonly dropped = { minutes: 0, ...newTally() }
  readonly #graceMs: number
  readonly #maxMinutes: number
  #watermarkMs = Number.NEGATIVE_INFINITY

  constructor(graceMs: number, maxMinutes = MAX_MINUTES) {
    this.#graceMs = graceMs
    this.#maxMinutes = maxMinutes
  }

  /** The latest `placedAt` so far; no minute that ends by the grace before it takes another order. */
  get watermarkMs(): number {
    return this.#watermarkMs
  }

  /** @param arrivedMs when the record was sent to Kafka */
  add(placedMs: number, arrivedMs: number, currency: string, amountMinor: number): void {
    if (placedMs > arrivedMs + MAX_AHEAD_MS) {
      addToTally(this.future, currency, amountMinor)
      return
    }
    this.#watermarkMs = Math.max(this.#watermarkMs, placedMs)
    const minuteMs = Math.floor(placedMs / MINUTE_MS) * MINUTE_MS
    const isLate = minuteMs + MINUTE_MS + this.#graceMs <= this.#watermarkMs
    addToTally(isLate ? this.late : this.#tallyOf(minuteMs), currency, amountMinor)
    if (this.minutes.size > this.#maxMinutes) this.#dropOldest()
  }

  #tallyOf(minuteMs: number): Tally {
    let tally = this.minutes.get(minuteMs)
    if (!tally) {
      tally = newTally()
      this.minutes.set(minuteMs, tally)
    }
    return tally
  }

  #dropOldest(): void {
    const count = Math.ceil(this.#maxMinutes * DROPPED_SHARE)
    const oldest = [...this.minutes.keys()].sort((a, b) => a - b).slice(0, count)
    for (const minuteMs of oldest) {
      const { orders, revenue } = this.minutes.get(minuteMs)!
      this.minutes.delete(minuteMs)
      this.dropped.minutes++
      this.dropped.orders += orders
      for (const [currency, amountMinor] of revenue) addAmount(this.dropped.revenue, currency, amountMinor)
    }
  }
}
