import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { OrderValidated } from '../lib/events.ts'
import { assess, createCustomerHistory } from '../lib/fraudRules.ts'
import { countOrder, createOrderWindow } from '../lib/orderWindow.ts'
import { addressIn, orderOf } from './fraudHarness.ts'

const START_MS = Date.UTC(2026, 10, 21, 7, 36)
const at = (seconds: number) => new Date(START_MS + seconds * 1_000).toISOString()
const piecesOf = (quantity: number) => [{ sku: 'SKU-1', name: 'Lamp', quantity, unitPrice: 1 }]

/** A customer with so many ordinary orders behind it: two pieces, 200.00 EUR, a day apart. */
function knownCustomer(orders = 5) {
  const history = createCustomerHistory()
  const shop = createOrderWindow()
  const assessNext = (changes: Partial<OrderValidated> = {}) => assess(orderOf('ord', changes), history, shop)
  for (let day = orders; day > 0; day--) {
    const placedAt = at(-86_400 * day)
    assess(orderOf('ord', { placedAt, total: 20_000, items: piecesOf(2) }), history, createOrderWindow())
  }
  return { history, shop, assessNext }
}
const namesOf = ({ rules }: ReturnType<typeof assess>) => rules.map(({ rule }) => rule)

test('a customer who does what it always does passes without a point', () => {
  const { assessNext } = knownCustomer()
  const order = { total: 20_000, items: piecesOf(2), shippingAddress: addressIn('Germany') }
  assert.deepEqual(assessNext(order), { riskScore: 0, verdict: 'pass', rules: [] })
})

test('a first order has ten points and passes, and the second has none', () => {
  const { assessNext } = knownCustomer(0)
  assert.deepEqual(assessNext(), {
    riskScore: 10,
    verdict: 'pass',
    rules: [{ rule: 'first-order', points: 10, message: 'the first order of this customer' }],
  })
  assert.deepEqual(namesOf(assessNext()), [])
})

test('an amount is unusual above four times the mean, in the currency of the order', () => {
  const { assessNext } = knownCustomer()
  assert.deepEqual(namesOf(assessNext({ total: 80_000 })), [])
  const { rules } = knownCustomer().assessNext({ total: 80_001 })
  assert.deepEqual(rules, [
    {
      rule: 'unusual-amount',
      points: 25,
      message: '800.01 EUR, 4.0 times what this customer usually spends',
    },
  ])
  // Nothing is known of what it spends in pounds or yen.
  assert.deepEqual(namesOf(assessNext({ total: 100_000, currency: 'GBP' })), [])
  assert.deepEqual(namesOf(assessNext({ total: 100_001, currency: 'GBP' })), ['unusual-amount'])
  assert.deepEqual(namesOf(assessNext({ total: 100_000, currency: 'JPY' })), [])
  assert.deepEqual(namesOf(assessNext({ total: 100_001, currency: 'JPY' })), ['unusual-amount'])
})

test('small amounts and few pieces are never unusual, whatever the habit', () => {
  const { assessNext } = knownCustomer(0)
  for (let day = 1; day <= 5; day++) assessNext({ total: 100, items: piecesOf(1) })
  assert.deepEqual(namesOf(assessNext({ total: 50_000, items: piecesOf(23) })), [])
  assert.deepEqual(namesOf(assessNext({ total: 50_001, items: piecesOf(24) })), [
    'unusual-amount',
    'unusual-quantity',
  ])
})

test('pieces are unusual above five times the mean, over all lines', () => {
  const { assessNext } = knownCustomer(0)
  for (let day = 1; day <= 5; day++) assessNext({ items: piecesOf(10) })
  const halves = (quantity: number) => [...piecesOf(25), ...piecesOf(quantity - 25)]
  assert.deepEqual(namesOf(assessNext({ items: halves(51) })), ['unusual-quantity'])
  assert.deepEqual(namesOf(assessNext({ items: halves(50) })), [])
})

test('of a newcomer it takes more than forty pieces', () => {
  assert.deepEqual(namesOf(knownCustomer(4).assessNext({ items: piecesOf(40) })), [])
  assert.deepEqual(namesOf(knownCustomer(4).assessNext({ items: piecesOf(41) })), ['unusual-quantity'])
})

test('countries are compared as countries, and only when both are known', () => {
  const mismatch = (country: string, from = 'United Kingdom') => {
    const customer = { ...orderOf('ord').customer, country: from }
    return namesOf(knownCustomer().assessNext({ customer, shippingAddress: addressIn(country) }))
  }
  for (const same of ['United Kingdom', 'GB', ' uk ', '', 'Unspecified']) assert.deepEqual(mismatch(same), [])
  assert.deepEqual(mismatch('France'), ['country-mismatch'])
  assert.deepEqual(mismatch('France', 'Unspecified'), [])
  assert.deepEqual(mismatch('Atlantis', 'atlantis'), [])
  assert.deepEqual(mismatch('Atlantis'), ['country-mismatch'])
})

test('two rules warn, three fail, and a first order adds to each up to one hundred', () => {
  const abroad = { shippingAddress: addressIn('France') }
  const verdictOf = (changes: Partial<OrderValidated>, orders = 5) => {
    const { verdict, riskScore } = knownCustomer(orders).assessNext(changes)
    return [verdict, riskScore]
  }
  assert.deepEqual(verdictOf(abroad), ['pass', 30])
  assert.deepEqual(verdictOf(abroad, 0), ['warning', 40])
  assert.deepEqual(verdictOf({ total: 500_000, items: piecesOf(60) }), ['warning', 50])
  assert.deepEqual(verdictOf({ ...abroad, items: piecesOf(60) }), ['warning', 55])
  assert.deepEqual(verdictOf({ ...abroad, total: 500_000 }), ['warning', 55])
  assert.deepEqual(verdictOf({ ...abroad, total: 500_000, items: piecesOf(60) }), ['fail', 80])
  assert.deepEqual(verdictOf({ ...abroad, total: 500_000, items: piecesOf(60) }, 0), ['fail', 90])
})

test('a failed order teaches nothing but its time', () => {
  const { history, assessNext } = knownCustomer()
  const before = structuredClone(history)
  const { verdict } = assessNext({
    total: 500_000,
    items: piecesOf(60),
    shippingAddress: addressIn('France'),
  })
  assert.equal(verdict, 'fail')
  assert.deepEqual({ ...history, window: before.window }, before)
  assert.equal(history.window.orders, 1)
})

test('a customer who suddenly orders again and again is a burst, a shop that gets busy is none', () => {
  // A minute in which the shop is looked at for the first time, and the customer orders twice.
  const quiet = knownCustomer()
  for (let second = 0; second < 60; second++) countOrder(quiet.shop, START_MS + second * 1_000)
  for (const second of [10, 40]) quiet.assessNext({ placedAt: at(second) })
  const busy = structuredClone({ history: quiet.history, shop: quiet.shop })

  const alone = Array.from({ length: 60 }, (_, i) => quiet.assessNext({ placedAt: at(70 + i / 10) }))
  const first = alone.findIndex(({ rules }) => rules.length > 0)
  assert.ok(first > 15 && first < 25, `${first}`)
  assert.deepEqual(namesOf(alone.at(-1)!), ['burst'])
  assert.equal(alone.at(-1)!.verdict, 'warning')
  const abroad = quiet.assessNext({ placedAt: at(77), shippingAddress: addressIn('France') })
  assert.deepEqual([abroad.verdict, abroad.riskScore], ['fail', 70])

  for (let i = 0; i < 1_800; i++) {
    countOrder(busy.shop, START_MS + 70_000 + i * 10)
    if (i % 30 !== 0) continue
    const order = orderOf('ord', { placedAt: at(70 + i / 100) })
    assert.deepEqual(namesOf(assess(order, busy.history, busy.shop)), [], `${i}`)
  }
})

test('an order from the future counts for the time when it was validated', () => {
  const { history, assessNext } = knownCustomer()
  assessNext({ placedAt: '9999-01-01T00:00:00.000Z', validatedAt: at(0) })
  assert.equal(history.window.minute, START_MS / 60_000)
})

test('the window counts the minute behind an order, whenever that is, and forgets a pause', () => {
  const window = createOrderWindow()
  const counts = [0, 1, 2, 59, 60, 90, 119].map((second) => countOrder(window, START_MS + second * 1_000))
  // Of the four orders of the first minute all are left at 60 s, half at 90 s, and next to none at 119 s.
  assert.deepEqual(counts.map(Math.round), [1, 2, 3, 4, 5, 4, 3])
  assert.equal(countOrder(window, START_MS + 59_000), 0)
  assert.equal(window.previousOrders, 5)
  assert.equal(window.usualOrders, 4)
  assert.equal(countOrder(window, START_MS + 86_400_000), 1)
  assert.equal(window.usualOrders, 3.75)
})

test('whatever comes, the score is the sum of its rules up to one hundred, and the verdict is that of the score', () => {
  const anyOrder = fc.record({
    total: fc.integer({ min: 1, max: 999_999 }),
    currency: fc.constantFrom('EUR', 'JPY', 'XXX'),
    items: fc.integer({ min: 1, max: 500 }).map(piecesOf),
    placedAt: fc.integer({ min: 0, max: 600 }).map(at),
    shippingAddress: fc.constantFrom('Germany', 'France', '').map(addressIn),
  })
  fc.assert(
    fc.property(fc.array(anyOrder, { maxLength: 60 }), (orders) => {
      const { assessNext } = knownCustomer(0)
      for (const order of orders) {
        const { riskScore, verdict, rules } = assessNext(order)
        const points = rules.reduce((sum, rule) => sum + rule.points, 0)
        assert.equal(riskScore, Math.min(points, 100))
        assert.equal(verdict, riskScore < 40 ? 'pass' : riskScore < 70 ? 'warning' : 'fail')
        assert.equal(new Set(rules.map(({ rule }) => rule)).size, rules.length)
      }
    }),
    { numRuns: 200 },
  )
})
