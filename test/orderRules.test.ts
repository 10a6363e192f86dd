import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DedupeWindow } from '../lib/dedupeWindow.ts'
import type { OrderPlaced } from '../lib/events.ts'
import { findReasons, type Knowledge, MAX_REASONS } from '../lib/orderRules.ts'

const LIMIT_MINOR = 1_000_000

const knowledge: Knowledge = {
  customer: (id) =>
    id === 'nobody'
      ? undefined
      : {
          customer: { id, name: 'N', email: 'n@example.com', tier: 'gold', country: 'DE' },
          blocked: id === 'blocked',
        },
  product: (sku) => (sku === 'gone' ? 'withdrawn' : sku === 'none' ? 'unknown' : 'known'),
}

function order(changes: Partial<OrderPlaced> = {}): OrderPlaced {
  return {
    type: 'OrderPlaced',
    eventId: 'ord-1/OrderPlaced',
    occurredAt: '2026-11-21T10:00:00.000Z',
    orderId: 'ord-1',
    customerId: 'c-1',
    placedAt: '2026-11-21T10:00:00.000Z',
    currency: 'EUR',
    items: [{ sku: 'a', name: 'A', quantity: 2, unitPrice: 250 }],
    total: 500,
    ...changes,
  }
}

function line(changes: Partial<OrderPlaced['items'][number]>): OrderPlaced['items'] {
  return [{ sku: 'a', name: 'A', quantity: 1, unitPrice: 100, ...changes }]
}

function codes(changes: Partial<OrderPlaced>): string[] {
  return findReasons(order(changes), 'first', knowledge, LIMIT_MINOR).map(({ code }) => code)
}

describe('the rules for orders', () => {
  it('take a good order', () => {
    assert.deepEqual(codes({}), [])
  })

  const refused: [what: string, changes: Partial<OrderPlaced>, reasons: string[]][] = [
    ['an unknown customer', { customerId: 'nobody' }, ['unknown-customer']],
    ['a blocked customer', { customerId: 'blocked' }, ['blocked-customer']],
    ['an unknown product', { items: line({ sku: 'none' }), total: 100 }, ['unknown-product']],
    ['a withdrawn product', { items: line({ sku: 'gone' }), total: 100 }, ['withdrawn-product']],
    [
      'a quantity of 0',
      { items: line({ quantity: 0 }), total: 0 },
      ['quantity-not-positive', 'total-not-positive'],
    ],
    [
      'a negative price',
      { items: line({ unitPrice: -1 }), total: -1 },
      ['negative-price', 'total-not-positive'],
    ],
    ['a total that is not the sum', { total: 501 }, ['total-mismatch']],
    [
      'a total at the limit',
      { items: line({ unitPrice: LIMIT_MINOR }), total: LIMIT_MINOR },
      ['total-over-limit'],
    ],
    ['a currency that is not supported', { currency: 'XAU' }, ['unsupported-currency']],
    [
      'numbers beyond what can be counted',
      { items: line({ quantity: 1e9, unitPrice: 1e15 }), total: 1e15 },
      ['total-mismatch', 'total-over-limit'],
    ],
  ]
  for (const [what, changes, reasons] of refused) {
    it(`refuse ${what}`, () => assert.deepEqual(codes(changes), reasons))
  }

  it('take a price of 0 beside another line, and a total just below the limit', () => {
    const items = [...line({ unitPrice: 0 }), ...line({ sku: 'b', unitPrice: LIMIT_MINOR - 1 })]
    assert.deepEqual(codes({ items, total: LIMIT_MINOR - 1 }), [])
  })

  it('name no more reasons than fit into a record', () => {
    const items = Array.from({ length: 10_000 }, () => line({ sku: 'none', quantity: -1, unitPrice: -1 })[0]!)
    const reasons = findReasons(order({ items, total: 10_000 }), 'first', knowledge, LIMIT_MINOR)
    assert.equal(reasons.length, MAX_REASONS + 1)
    assert.equal(reasons.at(-1)!.message, `and ${30_000 - MAX_REASONS} more reasons`)
  })

  it('name all reasons at once, with the line at fault', () => {
    const items = [...line({}), ...line({ sku: 'none', quantity: -3 })]
    const reasons = findReasons(
      order({ customerId: 'nobody', items, total: 7 }),
      'conflict',
      knowledge,
      LIMIT_MINOR,
    )
    assert.deepEqual(
      reasons.map(({ code, line }) => [code, line]),
      [
        ['conflict', undefined],
        ['unknown-customer', undefined],
        ['unknown-product', 1],
        ['quantity-not-positive', 1],
        ['total-mismatch', undefined],
      ],
    )
  })
})

describe('the window of order ids', () => {
  const window = () => new DedupeWindow({ maxOrders: 3, maxAgeMs: 1_000 })

  it('tells a duplicate from a conflict, whatever the time and the message', () => {
    const seen = window()
    assert.equal(seen.admit(order(), 'raw/0/1', 0), 'first')
    const again = order({ eventId: 'other', occurredAt: '2026-11-21T11:00:00.000Z' })
    assert.equal(seen.admit(again, 'raw/0/2', 0), 'duplicate')
    assert.equal(seen.admit(order({ total: 501 }), 'raw/0/3', 0), 'conflict')
  })

  it('knows a record that is read again by its position', () => {
    const seen = window()
    seen.admit(order(), 'raw/0/1', 0)
    assert.equal(seen.admit(order(), 'raw/0/1', 0), 'first')
    assert.equal(seen.admit(order(), 'raw/0/2', 0), 'duplicate')
    assert.equal(seen.admit(order(), 'raw/0/2', 0), 'duplicate')
  })

  it('knows each of thousands, also after as many have gone', () => {
    const seen = new DedupeWindow({ maxOrders: 3_000, maxAgeMs: 1_000 })
    const count = 10_000
    const ask = (n: number, more: number) =>
      seen.admit(order({ orderId: `ord-${n}`, total: n + more }), `raw/0/${n}/${more}`, 0)
    for (let n = 0; n < count; n++) assert.equal(ask(n, 0), 'first')
    // The first question makes room: it forgets the oldest of those that it holds.
    for (let n = count - 2_999; n < count; n++) {
      assert.equal(seen.admit(order({ orderId: `ord-${n}`, total: n }), 'raw/0/again', 0), 'duplicate')
      assert.equal(ask(n, 1), 'conflict')
    }
  })

  it('is bounded by number and by age', () => {
    const seen = window()
    for (let n = 1; n <= 10; n++) seen.admit(order({ orderId: `ord-${n}` }), `raw/0/${n}`, n)
    assert.equal(seen.size, 3)
    assert.equal(seen.admit(order({ orderId: 'ord-10' }), 'raw/0/11', 11), 'duplicate')
    assert.equal(seen.admit(order({ orderId: 'ord-1' }), 'raw/0/12', 12), 'first')
    assert.equal(seen.admit(order({ orderId: 'ord-10' }), 'raw/0/13', 2_000), 'first')
    assert.equal(seen.size, 1)
  })
})
