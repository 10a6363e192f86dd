import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { ConfigurationError } from '../lib/errors.ts'
import type { OrderValidated } from '../lib/events.ts'
import { type Price, priceOrder } from '../lib/pricing.ts'
import { loadPromotions, type Promotion, parsePromotions } from '../lib/promotions.ts'
import { addressIn, orderOf } from './fraudHarness.ts'

const TABLE = fileURLToPath(new URL('../data/promotions.json', import.meta.url))
const TIERS = ['standard', 'silver', 'gold'] as const
type Line = [sku: string, quantity: number, unitPrice: number]

function orderWith(
  lines: Line[],
  tier: OrderValidated['customer']['tier'] = 'standard',
  changes: Partial<OrderValidated> = {},
): OrderValidated {
  const items = lines.map(([sku, quantity, unitPrice]) => ({ sku, name: sku, quantity, unitPrice }))
  const total = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  const order = orderOf('ord-1', { items, total, ...changes })
  return { ...order, customer: { ...order.customer, tier } }
}
const promotionsOf = (...table: object[]): Promotion[] => parsePromotions(JSON.stringify(table), 'test.json')
const discountsOf = ({ discounts }: Price) => discounts.map(({ code, amount }) => [code, amount])

test('an order without a discount costs what it was placed with, and tax is a part of that', () => {
  assert.deepEqual(priceOrder(orderWith([['a', 1, 11_900]]), []), {
    orderId: 'ord-1',
    currency: 'EUR',
    subtotal: 11_900,
    discounts: [],
    total: 11_900,
    net: 10_000,
    tax: 1_900,
    taxRate: 1_900,
    taxCountry: 'Germany',
  })
})

test('quantity, tier and promotion each take from what is left, rounded down line by line', () => {
  const lines: Line[] = [
    ['a', 9, 111],
    ['b', 10, 111],
    ['c', 50, 111],
  ]
  const price = priceOrder(
    orderWith(lines, 'gold'),
    promotionsOf({ code: 'b-only', message: 'B', percent: 7, skus: ['b'] }),
  )
  // b: 5 % of 1,110 is 55.5; c: 10 % of 5,550. Then 5 % of 999, 1,055 and 4,995; then 7 % of 1,003 for b.
  assert.deepEqual(discountsOf(price), [
    ['quantity', 55 + 555],
    ['tier', 49 + 52 + 249],
    ['b-only', 70],
  ])
  assert.equal(price.total, 7_659 - 610 - 350 - 70)
})

test('of all promotions the one counts that takes off the most, and of equals the first', () => {
  const promotions = promotionsOf(
    { code: 'all', message: 'm', percent: 10 },
    { code: 'a', message: 'm', percent: 50, skus: ['a'] },
    { code: 'a-too', message: 'm', percent: 50, skus: ['a'] },
  )
  const best = (a: number, b: number) =>
    discountsOf(
      priceOrder(
        orderWith([
          ['a', 1, a],
          ['b', 1, b],
        ]),
        promotions,
      ),
    )
  assert.deepEqual(best(100, 100), [['a', 50]])
  assert.deepEqual(best(100, 10_000), [['all', 1_010]])
  assert.deepEqual(best(0, 5), [])
})

test('a promotion holds from its first day to its last, by when the order was placed', () => {
  const promotions = promotionsOf({
    code: 'days',
    message: 'm',
    percent: 10,
    from: '2026-11-27',
    to: '2026-11-30',
  })
  const isGiven = (placedAt: string, table = promotions) =>
    priceOrder(orderWith([['a', 1, 100]], 'standard', { placedAt }), table).discounts.length === 1
  assert.deepEqual(
    [
      '2026-11-26T23:59:59.999Z',
      '2026-11-27T00:00:00.000Z',
      '2026-11-30T23:59:59.999Z',
      '2026-12-01T00:00:00.000Z',
    ].map((placedAt) => isGiven(placedAt)),
    [false, true, true, false],
  )
  const since = promotionsOf({ code: 'since', message: 'm', percent: 10, from: '2026-11-27' })
  assert.deepEqual(
    [isGiven('2026-11-26T00:00:00.000Z', since), isGiven('2999-01-01T00:00:00.000Z', since)],
    [false, true],
  )
})

test('the tax is that of where the goods go, else of the customer, and none for an export', () => {
  const taxOf = (country: string | undefined, total = 12_000) => {
    const address = country === undefined ? {} : { shippingAddress: addressIn(country) }
    const { tax, taxRate, taxCountry } = priceOrder(orderWith([['a', 1, total]], 'standard', address), [])
    return [tax, taxRate, taxCountry]
  }
  assert.deepEqual(taxOf('United Kingdom'), [2_000, 2_000, 'United Kingdom'])
  assert.deepEqual(taxOf('gb'), [2_000, 2_000, 'gb'])
  assert.deepEqual(taxOf('EIRE'), [2_244, 2_300, 'EIRE'])
  assert.deepEqual(taxOf('Finland'), [2_438, 2_550, 'Finland'])
  assert.deepEqual(taxOf('Switzerland', 10_810), [810, 810, 'Switzerland'])
  for (const nowhere of [undefined, '', 'Unspecified'])
    assert.deepEqual(taxOf(nowhere), [1_916, 1_900, 'Germany'])
  for (const abroad of ['USA', 'Channel Islands', 'Atlantis']) assert.deepEqual(taxOf(abroad), [0, 0, abroad])
})

test('a tax of half a minor unit is rounded up', () => {
  // 3 pence contain exactly half a penny of tax at 20 %, 2 contain a third.
  const taxOf = (total: number) =>
    priceOrder(orderWith([['a', 1, total]], 'standard', { shippingAddress: addressIn('GB') }), []).tax
  assert.deepEqual([1, 2, 3, 8, 9].map(taxOf), [0, 0, 1, 1, 2])
})

test('one minor unit is left to pay, whatever is taken off', () => {
  const free = promotionsOf({ code: 'free', message: 'm', percent: 100 })
  const price = priceOrder(orderWith([['a', 100, 100]], 'gold'), free)
  assert.equal(price.total, 1)
  assert.deepEqual(discountsOf(price), [
    ['quantity', 1_000],
    ['tier', 450],
    ['free', 8_549],
  ])
  assert.deepEqual(discountsOf(priceOrder(orderWith([['a', 1, 1]], 'gold'), free)), [])
})

const anyPromotion = fc.record(
  {
    message: fc.constant('m'),
    percent: fc.integer({ min: 1, max: 100 }),
    skus: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 }),
  },
  { requiredKeys: ['message', 'percent'] },
)
const anyPromotions = fc
  .array(anyPromotion, { maxLength: 4 })
  .map((table) => promotionsOf(...table.map((line, index) => ({ code: `p-${index}`, ...line }))))
const anyLine = fc.tuple(
  fc.constantFrom('a', 'b', 'c', 'd'),
  fc.integer({ min: 1, max: 100_000 }),
  fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 1_000_000_000 })),
)
const anyOrder = fc
  .record({
    lines: fc.array(anyLine, { minLength: 1, maxLength: 10 }),
    tier: fc.constantFrom(...TIERS),
    country: fc.constantFrom('GB', 'Germany', 'Finland', 'CH', 'HU', 'Atlantis'),
  })
  .map(({ lines, tier, country }) => orderWith(lines, tier, { shippingAddress: addressIn(country) }))
  .filter(({ total }) => total > 0)

test('whatever is ordered, the parts add up to the minor unit and the total is from 1 to what was authorised', () => {
  fc.assert(
    fc.property(anyOrder, anyPromotions, (order, promotions) => {
      const price = priceOrder(order, promotions)
      const { subtotal, discounts, total, net, tax, taxRate } = price
      const given = discounts.map(({ amount }) => amount)
      for (const figure of [subtotal, total, net, tax, taxRate, ...given])
        assert.ok(Number.isSafeInteger(figure))
      assert.equal(subtotal, order.total)
      assert.equal(
        total,
        given.reduce((left, amount) => left - amount, subtotal),
      )
      assert.equal(net + tax, total)
      assert.ok(total >= 1 && total <= subtotal)
      assert.ok(given.every((amount) => amount > 0))
      assert.ok(net >= 0 && tax >= 0)
      // Within half a minor unit of the share that the rate asks for.
      const share = BigInt(10_000 + taxRate)
      const off = 2n * (BigInt(tax) * share - BigInt(total) * BigInt(taxRate))
      assert.ok(off > -share && off <= share, `${off}`)
      assert.deepEqual(priceOrder(structuredClone(order), promotions), price)
    }),
    { numRuns: 1_000 },
  )
})

test('the table that comes with the pipeline takes something off what the simulator sells most', () => {
  const order = orderWith([['SKU-0001', 1, 1_000]], 'standard', { placedAt: '2026-05-01T12:00:00.000Z' })
  assert.deepEqual(discountsOf(priceOrder(order, loadPromotions(TABLE))), [['favourites', 50]])
})

test('a promotion table that is none is refused with its name and what is wrong', () => {
  const line = { code: 'ten', message: 'm', percent: 10 }
  const refused: [unknown, RegExp][] = [
    [{}, /test\.json is no promotion table: \/ must be array/],
    [[line, { ...line, code: 'more', percent: 101 }], /test\.json .*\/1\/percent must be <= 100/],
    [[{ ...line, percent: 2.5 }], /\/0\/percent must be integer/],
    [[{ ...line, sku: ['a'] }], /\/0 must not have additional properties/],
    [[{ ...line, from: '2026-02-30' }], /\/0\/from must match format "date"/],
    [
      [{ ...line, from: '2026-03-02', to: '2026-03-01' }],
      /'ten' ends \(2026-03-01\) before it begins \(2026-03-02\)/,
    ],
    [[line, line], /the code 'ten' stands there twice/],
  ]
  for (const [table, message] of refused) {
    assert.throws(
      () => parsePromotions(JSON.stringify(table), 'test.json'),
      (error) =>
        error instanceof ConfigurationError && message.test(error.message) ? true : assert.fail(`${error}`),
    )
  }
  assert.throws(() => parsePromotions('[', 'test.json'), /test\.json is no promotion table: not JSON/)
  assert.throws(
    () => loadPromotions('/nonexistent/promotions.json'),
    /cannot be read: ENOENT.*promotions\.json/,
  )
})
