import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatReport } from '../lib/analyticsReport.ts'
import { ConfigurationError } from '../lib/errors.ts'
import {
  eventIdOf,
  type OrderCompleted,
  type OrderRejected,
  type OrderValidated,
  type PaymentEvent,
} from '../lib/events.ts'
import { parseInstant } from '../lib/instant.ts'
import { MinuteTable } from '../lib/minuteTable.ts'
import { OrderStatistics, summarise, sumRolling } from '../lib/orderStatistics.ts'
import { ProductTotals } from '../lib/productTotals.ts'
import { RollingWindow } from '../lib/rollingWindow.ts'

const GRACE_MS = 60_000
const NOON_MS = Date.parse('2026-11-21T12:00:00.000Z')

interface Line {
  sku: string
  name?: string
  quantity: number
  unitPrice: number
}

function validated(placedMs: number, currency: string, lines: Line[]): OrderValidated {
  const items = lines.map((line) => ({ name: `Product ${line.sku}`, ...line }))
  const orderId = 'ord-1'
  return {
    type: 'OrderValidated',
    eventId: eventIdOf(orderId, 'OrderValidated'),
    occurredAt: new Date(placedMs).toISOString(),
    orderId,
    customerId: 'cus-1',
    placedAt: new Date(placedMs).toISOString(),
    currency,
    items,
    total: items.reduce((total, { quantity, unitPrice }) => total + quantity * unitPrice, 0),
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: new Date(placedMs).toISOString(),
    customer: { id: 'cus-1', name: 'A', email: 'a@example.com', tier: 'gold', country: 'DE' },
  }
}

function rejected(placedMs: number, ...codes: string[]): OrderRejected {
  return {
    type: 'OrderRejected',
    eventId: 'ord-2/OrderRejected',
    occurredAt: new Date(placedMs).toISOString(),
    orderId: 'ord-2',
    customerId: 'cus-1',
    placedAt: new Date(placedMs).toISOString(),
    currency: 'EUR',
    total: 100,
    reasons: codes.map((code) => ({ code, message: code })),
  }
}

function completed(placedMs: number, ...codes: string[]): OrderCompleted {
  const { type: _, reasons, ...fields } = rejected(placedMs, ...codes)
  const decided = { ...fields, items: [{ sku: 'A', quantity: 1 }] }
  if (reasons.length > 0) return { ...decided, type: 'OrderCancelled', reasons }
  const customer = validated(placedMs, 'EUR', []).customer
  return { ...decided, type: 'OrderConfirmed', customer, shipmentNumber: 'SHP-1', warnings: [] }
}

function paid(
  type: 'PaymentProcessed' | 'PaymentCaptured' | 'PaymentVoided',
  currency: string,
  amount: number,
) {
  const fields = { orderId: 'ord-1', currency, amount, authorisationId: 'auth-1' }
  return {
    type,
    eventId: `ord-1/${type}`,
    occurredAt: new Date(NOON_MS).toISOString(),
    ...fields,
  } as PaymentEvent
}

const one = (unitPrice: number, sku = 'A'): Line[] => [{ sku, quantity: 1, unitPrice }]

test('an order counts in its minute until the grace has passed, then as late, and in the totals either way', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  const at = (seconds: number, unitPrice: number) =>
    statistics.add(validated(NOON_MS + seconds * 1_000, 'EUR', one(unitPrice)), NOON_MS + 600_000)
  at(10, 1)
  at(119, 10)
  at(59, 100)
  at(120, 1_000)
  // The watermark is 12:02:00: the minute of 12:00 ended at 12:01:00, and its minute of grace is over.
  at(59, 10_000)
  at(60, 100_000)
  const summary = summarise([statistics], GRACE_MS)
  assert.deepEqual(
    summary.minutes.map(({ minute, orders, bookedRevenueMinor }) => [minute, orders, bookedRevenueMinor.EUR]),
    [
      ['2026-11-21T12:00Z', 2, 101],
      ['2026-11-21T12:01Z', 2, 100_010],
      ['2026-11-21T12:02Z', 1, 1_000],
    ],
  )
  assert.deepEqual(summary.late, { orders: 1, bookedRevenueMinor: { EUR: 10_000 } })
  assert.deepEqual([summary.orders, summary.bookedRevenueMinor], [6, { EUR: 111_111 }])
})

test('one order dated far ahead of its arrival makes no other order late', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  statistics.add(validated(NOON_MS, 'EUR', one(1)), NOON_MS)
  statistics.add(validated(NOON_MS + 86_400_000, 'EUR', one(10)), NOON_MS)
  statistics.add(validated(NOON_MS + 1_000, 'EUR', one(100)), NOON_MS)
  const { minutes, late, future, orders } = summarise([statistics], GRACE_MS)
  assert.deepEqual(minutes, [{ minute: '2026-11-21T12:00Z', orders: 2, bookedRevenueMinor: { EUR: 101 } }])
  assert.deepEqual([late.orders, future.orders, future.bookedRevenueMinor, orders], [0, 1, { EUR: 10 }, 3])
})

test('beyond the bound the oldest minutes are dropped and counted', () => {
  const table = new MinuteTable(0, 2)
  for (const minute of [0, 1, 2]) table.add(NOON_MS + minute * 60_000, NOON_MS + 600_000, 'EUR', 5)
  assert.equal(table.minutes.size, 2)
  const kept = [...table.minutes.values()].reduce((orders, tally) => orders + tally.orders, 0)
  assert.equal(kept + table.dropped.orders, 3)
  assert.equal(table.minutes.size + table.dropped.minutes, 3)
})

const orderOf = fc.record({
  isRejected: fc.boolean(),
  placedSeconds: fc.integer({ min: -600, max: 1_200 }),
  arrivedSeconds: fc.integer({ min: 0, max: 600 }),
  currency: fc.constantFrom('EUR', 'GBP', 'JPY'),
  sku: fc.constantFrom('A', 'B', 'C', 'D'),
  name: fc.constantFrom('Mug', 'Cup', 'Jar'),
  quantity: fc.integer({ min: 1, max: 9 }),
  unitPrice: fc.integer({ min: 0, max: 5_000 }),
  code: fc.constantFrom('unknown-product', 'order-limit'),
})
type Order = typeof orderOf extends fc.Arbitrary<infer Value> ? Value : never

function addOrder(statistics: OrderStatistics, order: Order): void {
  const placedMs = NOON_MS + order.placedSeconds * 1_000
  const { sku, name, quantity, unitPrice, currency, code } = order
  const event = order.isRejected
    ? rejected(placedMs, code)
    : validated(placedMs, currency, [{ sku, name, quantity, unitPrice }])
  const arrivedMs = NOON_MS + order.arrivedSeconds * 1_000
  statistics.add(event, arrivedMs)
  if (order.isRejected) statistics.add(completed(placedMs, code), arrivedMs)
  else {
    statistics.add(paid('PaymentCaptured', currency, unitPrice), arrivedMs)
    statistics.add(completed(placedMs), arrivedMs)
  }
}

/** Takes the records of all partitions in an order that `turns` decides, each partition's own order kept. */
function interleave(partitions: Order[][], turns: number[]): string {
  const statistics = partitions.map(() => new OrderStatistics(GRACE_MS))
  const next = partitions.map(() => 0)
  for (let step = 0; ; step++) {
    const open = partitions.flatMap((orders, index) => (next[index]! < orders.length ? [index] : []))
    if (open.length === 0) break
    const chosen = open[(turns[step % turns.length] ?? 0) % open.length]!
    addOrder(statistics[chosen]!, partitions[chosen]![next[chosen]!++]!)
  }
  const rotated = turns[0]! % partitions.length
  const parts = [...statistics.slice(rotated), ...statistics.slice(0, rotated)]
  return JSON.stringify(summarise(parts, GRACE_MS))
}

test('however the partitions come interleaved, the report is the same text', () => {
  const partitions = fc.array(fc.array(orderOf, { maxLength: 40 }), { minLength: 1, maxLength: 4 })
  const turns = fc.array(fc.nat(50), { minLength: 1, maxLength: 60 })
  fc.assert(
    fc.property(partitions, turns, turns, (orders, first, second) => {
      assert.equal(interleave(orders, first), interleave(orders, second))
    }),
  )
})

test('the validated and the rejected orders of a partition may come interleaved in any way too', () => {
  fc.assert(
    fc.property(fc.array(orderOf, { maxLength: 60 }), (orders) => {
      const accepted = orders.filter(({ isRejected }) => !isRejected)
      const refused = orders.filter(({ isRejected }) => isRejected)
      assert.equal(interleave([orders], [0]), interleave([[...refused, ...accepted]], [0]))
    }),
  )
})

test('minutes, late and future orders add up to the totals', () => {
  fc.assert(
    fc.property(fc.array(orderOf, { maxLength: 80 }), (orders) => {
      const statistics = new OrderStatistics(GRACE_MS)
      for (const order of orders) addOrder(statistics, order)
      const summary = summarise([statistics], GRACE_MS)
      const parts = [...summary.minutes, summary.late, summary.future]
      for (const currency of ['EUR', 'GBP', 'JPY']) {
        const sum = parts.reduce((total, part) => total + (part.bookedRevenueMinor[currency] ?? 0), 0)
        assert.equal(sum, summary.bookedRevenueMinor[currency] ?? 0)
      }
      assert.equal(
        parts.reduce((total, part) => total + part.orders, 0),
        summary.orders,
      )
      assert.equal(summary.orders + summary.rejected.orders, orders.length)
    }),
  )
})

test('top products are ranked by quantity and, for each currency, by revenue', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  const add = (currency: string, sku: string, quantity: number, unitPrice: number) =>
    statistics.add(validated(NOON_MS, currency, [{ sku, quantity, unitPrice }]), NOON_MS)
  add('EUR', 'cheap', 50, 1)
  add('EUR', 'dear', 1, 9_000)
  add('GBP', 'cheap', 1, 2)
  const { topProducts } = summarise([statistics], GRACE_MS)
  const skus = (rows: { sku: string }[]) => rows.map(({ sku }) => sku)
  assert.deepEqual(skus(topProducts.byQuantity), ['cheap', 'dear'])
  assert.deepEqual(topProducts.byQuantity[0]!.bookedRevenueMinor, { EUR: 50, GBP: 2 })
  assert.deepEqual(skus(topProducts.byRevenue.EUR!), ['dear', 'cheap'])
  assert.deepEqual(skus(topProducts.byRevenue.GBP!), ['cheap'])
})

test('products beyond the bound are counted together', () => {
  const products = new ProductTotals(1)
  products.add({ sku: 'A', name: 'A', quantity: 2, unitPrice: 1 }, 'EUR', NOON_MS)
  products.add({ sku: 'B', name: 'B', quantity: 3, unitPrice: 1 }, 'EUR', NOON_MS)
  assert.deepEqual([products.bySku.size, products.otherQuantity], [1, 3])
})

test('the rejected share is of all orders, and an order counts once for each of its reasons', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  for (let index = 0; index < 3; index++) statistics.add(validated(NOON_MS, 'EUR', one(1)), NOON_MS)
  statistics.add(rejected(NOON_MS, 'unknown-product', 'unknown-product', 'order-limit'), NOON_MS)
  const { rejected: refused } = summarise([statistics], GRACE_MS)
  assert.deepEqual(refused, { orders: 1, share: 0.25, reasons: { 'order-limit': 1, 'unknown-product': 1 } })
})

test('captures alone are captured revenue, beside what is booked, and a cancelled order counts for each reason', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  statistics.add(validated(NOON_MS, 'EUR', one(500)), NOON_MS)
  statistics.add(paid('PaymentProcessed', 'EUR', 500), NOON_MS)
  statistics.add(paid('PaymentCaptured', 'EUR', 450), NOON_MS)
  statistics.add(paid('PaymentCaptured', 'GBP', 20), NOON_MS)
  statistics.add(paid('PaymentVoided', 'EUR', 500), NOON_MS)
  statistics.add(completed(NOON_MS), NOON_MS)
  statistics.add(completed(NOON_MS, 'fraud', 'out-of-stock', 'fraud'), NOON_MS)
  statistics.add(completed(NOON_MS, 'fraud'), NOON_MS)
  const summary = summarise([statistics, new OrderStatistics(GRACE_MS)], GRACE_MS)
  assert.deepEqual(summary.bookedRevenueMinor, { EUR: 500 })
  assert.deepEqual(summary.capturedRevenueMinor, { EUR: 450, GBP: 20 })
  assert.equal(summary.confirmed, 1)
  assert.deepEqual(summary.cancelled, { orders: 2, reasons: { fraud: 2, 'out-of-stock': 1 } })
  assert.deepEqual(summary.rejected, { orders: 0, share: 0, reasons: {} })
  const report = formatReport(summary)
  assert.match(report, /^orders +1 +booked 5\.00 EUR$/m)
  assert.match(report, /^confirmed +1 +captured 4\.50 EUR \+ 0\.20 GBP$/m)
  assert.match(report, /^cancelled +2 +fraud 2, out-of-stock 1$/m)
})

test('rates cover the last whole seconds, and older buckets are used again', () => {
  const window = new RollingWindow()
  for (let second = 0; second < 200; second++) window.add(NOON_MS + second * 1_000, 'EUR', 5)
  const nowMs = NOON_MS + 200_000
  assert.equal(window.sum(10, nowMs).orders, 10)
  assert.deepEqual([...window.sum(60, nowMs).revenue], [['EUR', 300]])
  window.add(NOON_MS, 'EUR', 5)
  assert.equal(window.sum(60, nowMs).orders, 60, 'what arrived long ago is not counted as new')
  assert.equal(window.sum(60, nowMs + 120_000).orders, 0, 'and nothing is left two minutes later')
})

test('rolling figures are summed over partitions', () => {
  const parts = [new OrderStatistics(GRACE_MS), new OrderStatistics(GRACE_MS)]
  for (const part of parts) {
    part.add(validated(NOON_MS, 'EUR', one(250)), NOON_MS)
    part.add(paid('PaymentCaptured', 'EUR', 200), NOON_MS)
  }
  assert.deepEqual(sumRolling(parts, NOON_MS + 1_000), {
    ordersPerSecond: 0.2,
    bookedRevenuePerMinuteMinor: { EUR: 500 },
    capturedRevenuePerMinuteMinor: { EUR: 400 },
  })
})

test('the report says how many minutes it leaves out and lets no name steer the terminal', () => {
  const statistics = new OrderStatistics(GRACE_MS)
  for (let minute = 0; minute < 40; minute++) {
    const lines = [{ sku: 'A', name: 'Mug\x1b[2J', quantity: 1, unitPrice: 123_456 }]
    statistics.add(validated(NOON_MS + minute * 60_000, 'EUR', lines), NOON_MS + minute * 60_000)
  }
  const report = formatReport(summarise([statistics], GRACE_MS))
  assert.match(report, /\(10 earlier minutes with orders left out: all of them with --json\)/)
  assert.match(report, /orders +40 +booked 49,382\.40 EUR/)
  assert.match(report, /2026-11-21 12:39 +1 +1,234\.56 EUR/)
  assert.ok(!report.includes('\x1b'))
})

test('a time without a zone is UTC, and what is no time is refused in a sentence', () => {
  assert.equal(parseInstant('--from', '2026-11-21T12:00'), NOON_MS)
  assert.equal(parseInstant('--from', '2026-11-21T13:00:00+01:00'), NOON_MS)
  assert.equal(parseInstant('--from', '2026-11-21'), NOON_MS - 12 * 3_600_000)
  for (const text of ['yesterday', '2026-13-01', '12:00', '']) {
    assert.throws(() => parseInstant('--from', text), ConfigurationError)
  }
})
