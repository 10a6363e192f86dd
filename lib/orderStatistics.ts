/**
 * What analytics knows: the statistics of each partition, kept apart, and their sum, which is what is shown. No
 * clock is asked here but for the rolling figures, which get the time passed in.
 */
import { type Amounts, addAmount, addAmounts, toSortedObject } from './amounts.ts'
import type { OrderCompleted, OrderRejected, OrderValidated, PaymentEvent, Reason } from './events.ts'
import { addToTally, MinuteTable, newTally, type Tally } from './minuteTable.ts'
import { type ProductTotal, ProductTotals } from './productTotals.ts'
import { RollingWindow } from './rollingWindow.ts'

export const TOP_PRODUCTS = 10
const RATE_SECONDS = 10
const REVENUE_SECONDS = 60
/** The codes come from the validator, which has a dozen, and from the judges. */
const MAX_REASON_CODES = 100

/** What analytics reads. Of the payment events captures alone are counted: an authorisation is no revenue yet. */
export type OrderEvent = OrderValidated | OrderRejected | PaymentEvent | OrderCompleted

/** Orders that came to an end for reasons: how many, and how many for each code. One may have several. */
class RefusedOrders {
  orders = 0
  readonly reasons = new Map<string, number>()

  add(reasons: readonly Reason[]): void {
    this.orders++
    for (const code of new Set(reasons.map((reason) => reason.code))) {
      const key = this.reasons.has(code) || this.reasons.size < MAX_REASON_CODES ? code : 'other'
      this.reasons.set(key, (this.reasons.get(key) ?? 0) + 1)
    }
  }
}

/** The statistics of one partition: what is counted depends on its records and their order alone. */
export class OrderStatistics {
  readonly graceMs: number
  readonly accepted = newTally()
  readonly table: MinuteTable
  readonly products = new ProductTotals()
  readonly rolling = new RollingWindow()
  readonly rejected = new RefusedOrders()
  confirmed = 0
  readonly cancelled = new RefusedOrders()
  readonly captured: Amounts = new Map()
  readonly rollingCaptures = new RollingWindow()
  /** Records that hold no event of their topic. */
  unusable = 0
  /** Arrival of the oldest record counted. */
  sinceMs = Number.POSITIVE_INFINITY

  /** @param graceMs how long a minute waits for late orders; see {@link MinuteTable} */
  constructor(graceMs: number) {
    this.graceMs = graceMs
    this.table = new MinuteTable(graceMs)
  }

  /** @param arrivedMs when the record was sent to Kafka */
  add(event: OrderEvent, arrivedMs: number): void {
    this.sinceMs = Math.min(this.sinceMs, arrivedMs)
    switch (event.type) {
      case 'OrderValidated':
        this.#addValidated(event, arrivedMs)
        break
      case 'OrderRejected':
        this.rejected.add(event.reasons)
        break
      case 'OrderConfirmed':
        this.confirmed++
        break
      case 'OrderCancelled':
        this.cancelled.add(event.reasons)
        break
      case 'PaymentCaptured':
        addAmount(this.captured, event.currency, event.amount)
        this.rollingCaptures.add(arrivedMs, event.currency, event.amount)
    }
  }

  #addValidated({ placedAt, currency, total, items }: OrderValidated, arrivedMs: number): void {
    const placedMs = Date.parse(placedAt)
    addToTally(this.accepted, currency, total)
    this.table.add(placedMs, arrivedMs, currency, total)
    this.rolling.add(arrivedMs, currency, total)
    for (const item of items) this.products.add(item, currency, placedMs)
  }
}

/** Money is in minor units, by currency. */
type Money = Record<string, number>

export interface CountedOrders {
  orders: number
  bookedRevenueMinor: Money
}

export interface MinuteRow extends CountedOrders {
  /** The minute in UTC, '2026-11-21T07:36Z'. */
  minute: string
}

export interface ProductRow {
  sku: string
  name: string
  quantity: number
  bookedRevenueMinor: Money
}

/** Everything here is the same however the records of the partitions came interleaved. */
export interface Summary extends CountedOrders {
  /** What was captured for confirmed orders: the sum of PaymentCaptured. */
  capturedRevenueMinor: Money
  confirmed: number
  /** An order counts under each of its reasons, here and below. */
  cancelled: { orders: number; reasons: Record<string, number> }
  rejected: { orders: number; share: number; reasons: Record<string, number> }
  graceSeconds: number
  /** Not in the minutes, but in the totals: came after the grace, or dated far ahead of its arrival. */
  late: CountedOrders
  future: CountedOrders
  /** The oldest minutes, when there were too many to keep. */
  droppedMinutes: CountedOrders & { minutes: number }
  unusableRecords: number
  topProducts: { byQuantity: ProductRow[]; byRevenue: Record<string, ProductRow[]> }
  /** Quantity of the products beyond the number that is kept. */
  otherProductsQuantity: number
  /** Oldest first; a minute without orders has no row. */
  minutes: MinuteRow[]
}

/** The sum over partitions. Late orders are part of the totals, so minutes + late + future + dropped = total. */
export function summarise(parts: readonly OrderStatistics[], graceMs: number): Summary {
  const products = new ProductTotals()
  for (const part of parts) products.addAll(part.products)
  const sum = (read: (part: OrderStatistics) => number) =>
    parts.reduce((total, part) => total + read(part), 0)
  const accepted = sumTallies(parts.map((part) => part.accepted))
  const rejected = sumRefused(parts.map((part) => part.rejected))
  const received = accepted.orders + rejected.orders
  return {
    ...toCountedOrders(accepted),
    capturedRevenueMinor: sumAmounts(parts.map(({ captured }) => captured)),
    confirmed: sum((part) => part.confirmed),
    cancelled: sumRefused(parts.map((part) => part.cancelled)),
    rejected: {
      orders: rejected.orders,
      share: received === 0 ? 0 : Number((rejected.orders / received).toFixed(6)),
      reasons: rejected.reasons,
    },
    graceSeconds: graceMs / 1_000,
    late: toCountedOrders(sumTallies(parts.map(({ table }) => table.late))),
    future: toCountedOrders(sumTallies(parts.map(({ table }) => table.future))),
    droppedMinutes: {
      minutes: sum(({ table }) => table.dropped.minutes),
      ...toCountedOrders(sumTallies(parts.map(({ table }) => table.dropped))),
    },
    unusableRecords: sum((part) => part.unusable),
    topProducts: rankProducts(products),
    otherProductsQuantity: products.otherQuantity,
    minutes: sumMinutes(parts),
  }
}

export interface RollingFigures {
  /** Over the last ten seconds. */
  ordersPerSecond: number
  /** Over the last sixty seconds. */
  bookedRevenuePerMinuteMinor: Money
  capturedRevenuePerMinuteMinor: Money
}

/** How fast orders arrive. */
export function sumRolling(parts: readonly OrderStatistics[], nowMs: number): RollingFigures {
  const orders = parts.reduce((sum, { rolling }) => sum + rolling.sum(RATE_SECONDS, nowMs).orders, 0)
  const overMinute = (window: RollingWindow) => window.sum(REVENUE_SECONDS, nowMs).revenue
  return {
    ordersPerSecond: orders / RATE_SECONDS,
    bookedRevenuePerMinuteMinor: sumAmounts(parts.map(({ rolling }) => overMinute(rolling))),
    capturedRevenuePerMinuteMinor: sumAmounts(
      parts.map(({ rollingCaptures }) => overMinute(rollingCaptures)),
    ),
  }
}

function sumTallies(tallies: readonly Tally[]): Tally {
  const total = newTally()
  for (const { orders, revenue } of tallies) {
    total.orders += orders
    addAmounts(total.revenue, revenue)
  }
  return total
}

function toCountedOrders({ orders, revenue }: Tally): CountedOrders {
  return { orders, bookedRevenueMinor: toSortedObject(revenue) }
}

function sumAmounts(parts: readonly ReadonlyMap<string, number>[]): Record<string, number> {
  const total: Amounts = new Map()
  for (const part of parts) addAmounts(total, part)
  return toSortedObject(total)
}

function sumRefused(parts: readonly RefusedOrders[]): Summary['cancelled'] {
  return {
    orders: parts.reduce((sum, { orders }) => sum + orders, 0),
    reasons: sumAmounts(parts.map(({ reasons }) => reasons)),
  }
}

/** The rows of the table of minutes alone, as in {@link summarise}. */
export function sumMinutes(parts: readonly OrderStatistics[]): MinuteRow[] {
  const minutes = new Map<number, Tally>()
  for (const { table } of parts) {
    for (const [minuteMs, { orders, revenue }] of table.minutes) {
      const total = minutes.get(minuteMs) ?? newTally()
      total.orders += orders
      addAmounts(total.revenue, revenue)
      minutes.set(minuteMs, total)
    }
  }
  return [...minutes]
    .sort(([a], [b]) => a - b)
    .map(([minuteMs, tally]) => ({
      minute: `${new Date(minuteMs).toISOString().slice(0, 16)}Z`,
      ...toCountedOrders(tally),
    }))
}

function rankProducts({ bySku }: ProductTotals): Summary['topProducts'] {
  const products = [...bySku]
  const currencies = new Set(products.flatMap(([, { revenue }]) => [...revenue.keys()]))
  const byRevenue = [...currencies].sort().map((currency) => {
    const sold = products.filter(([, { revenue }]) => revenue.has(currency))
    return [currency, top(sold, ({ revenue }) => revenue.get(currency)!)] as const
  })
  return { byQuantity: top(products, ({ quantity }) => quantity), byRevenue: Object.fromEntries(byRevenue) }
}

/** Greatest first; equals in the order of their SKU, so that the same figures are the same list. */
function top(products: [string, ProductTotal][], measure: (product: ProductTotal) => number): ProductRow[] {
  return [...products]
    .sort(([skuA, a], [skuB, b]) => measure(b) - measure(a) || (skuA < skuB ? -1 : 1))
    .slice(0, TOP_PRODUCTS)
    .map(([sku, { name, quantity, revenue }]) => ({
      sku,
      name,
      quantity,
      bookedRevenueMinor: toSortedObject(revenue),
    }))
}
