/**
 * The moving charts' points, as columns: at most as many as the server keeps, the oldest fall out.
 *
 * @import { DashboardPoint } from '../lib/dashboardSnapshot.ts'
 */

/** HISTORY_SECONDS of lib/dashboardSnapshot.ts, one point a second. */
export const MAX_POINTS = 900
/** More than orders may use. */
const MAX_CURRENCIES = 8

export class Series {
  /** @type {number[]} in seconds since 1970, growing */
  seconds = []
  /** @type {number[]} */
  orders = []
  /** @type {Map<string, { booked: number[], captured: number[] }>} a minute's revenue, in minor units */
  revenue = new Map()

  /** Forgets what there is for what the server knows. @param {readonly DashboardPoint[]} points oldest first */
  reset(points) {
    this.seconds = []
    this.orders = []
    this.revenue = new Map()
    for (const point of points.slice(-MAX_POINTS)) this.add(point)
  }

  /** One that is no younger than the last is passed over. @param {DashboardPoint} point */
  add({ atMs, ordersPerSecond, bookedPerMinuteMinor, capturedPerMinuteMinor }) {
    if (atMs / 1_000 <= (this.seconds.at(-1) ?? 0)) return
    for (const currency of Object.keys({ ...bookedPerMinuteMinor, ...capturedPerMinuteMinor })) {
      if (this.revenue.has(currency) || this.revenue.size >= MAX_CURRENCIES) continue
      this.revenue.set(currency, { booked: this.#zeros(), captured: this.#zeros() })
    }
    this.#push(this.seconds, atMs / 1_000)
    this.#push(this.orders, ordersPerSecond)
    for (const [currency, { booked, captured }] of this.revenue) {
      this.#push(booked, bookedPerMinuteMinor[currency] ?? 0)
      this.#push(captured, capturedPerMinuteMinor[currency] ?? 0)
    }
  }

  #zeros() {
    return this.seconds.map(() => 0)
  }

  /** @param {number[]} column @param {number} value */
  #push(column, value) {
    column.push(value)
    if (column.length > MAX_POINTS) column.shift()
  }
}
