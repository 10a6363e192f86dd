import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { UnusableRecordError } from '../lib/errors.ts'
import type { InventoryUpdated, OrderCompleted } from '../lib/events.ts'
import { StockBatch, settlementOf } from '../lib/stock.ts'

const line = (sku: string, quantity: number) => ({ sku, quantity })

describe('reserving stock', () => {
  it('reserves all lines and takes them off', () => {
    const stock = new StockBatch(new Map([['a', { available: 10, lowLevel: 0 }]]))
    assert.deepEqual(stock.reserve([line('a', 3), line('a', 4)]), {
      status: 'RESERVED',
      availability: 'available',
      shortages: [],
    })
    assert.deepEqual(stock.changes(), [['a', { available: -7, reserved: 7, committed: 0 }]])
    assert.equal(stock.reserve([line('a', 4)]).status, 'REJECTED')
    assert.equal(stock.reserve([line('a', 3)]).status, 'RESERVED')
  })

  it('says limited when little is left', () => {
    const stock = new StockBatch(new Map([['a', { available: 10, lowLevel: 7 }]]))
    assert.equal(stock.reserve([line('a', 2)]).availability, 'available')
    assert.equal(stock.reserve([line('a', 1)]).availability, 'limited')
  })

  it('reserves nothing when one line cannot be had, and names it', () => {
    const levels = new Map([
      ['a', { available: 10, lowLevel: 0 }],
      ['b', { available: 1, lowLevel: 0 }],
    ])
    const stock = new StockBatch(levels)
    assert.deepEqual(stock.reserve([line('a', 3), line('b', 1), line('b', 1), line('c', 1)]), {
      status: 'REJECTED',
      availability: 'unavailable',
      shortages: [
        { sku: 'b', requested: 2, available: 1 },
        { sku: 'c', requested: 1, available: 0 },
      ],
    })
    assert.deepEqual(stock.changes(), [])
  })
})

describe('settling stock', () => {
  it('moves what is committed on, and gives what is released to the next order', () => {
    const stock = new StockBatch(new Map([['a', { available: 0, lowLevel: 0 }]]))
    stock.settle('COMMITTED', [line('a', 2)])
    stock.settle('RELEASED', [line('a', 2), line('a', 1)])
    assert.equal(stock.reserve([line('a', 4)]).status, 'REJECTED')
    assert.equal(stock.reserve([line('a', 2)]).status, 'RESERVED')
    assert.deepEqual(stock.changes(), [['a', { available: 1, reserved: -3, committed: 2 }]])
  })

  it('writes nothing for a product that came out even', () => {
    const stock = new StockBatch(new Map([['a', { available: 0, lowLevel: 0 }]]))
    stock.settle('RELEASED', [line('a', 2)])
    stock.reserve([line('a', 2)])
    assert.deepEqual(stock.changes(), [])
  })

  it('never goes below nothing, and neither makes nor loses anything', () => {
    const lines = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 5 })), {
      minLength: 1,
    })
    const order = fc.record({ lines, end: fc.constantFrom('COMMITTED', 'RELEASED', undefined) })
    fc.assert(
      fc.property(fc.array(order, { maxLength: 30 }), (orders) => {
        const stock = new StockBatch(
          new Map(['a', 'b', 'c'].map((sku) => [sku, { available: 20, lowLevel: 2 }])),
        )
        const expected = { available: 0, reserved: 0, committed: 0 }
        for (const { lines, end } of orders) {
          const items = lines.map(([sku, quantity]) => line(sku, quantity))
          if (stock.reserve(items).status !== 'RESERVED') continue
          if (end) stock.settle(end, items)
          const quantity = lines.reduce((sum, [, quantity]) => sum + quantity, 0)
          if (end !== 'RELEASED') {
            expected.available -= quantity
            expected[end === 'COMMITTED' ? 'committed' : 'reserved'] += quantity
          }
        }
        const sum = { available: 0, reserved: 0, committed: 0 }
        for (const [, change] of stock.changes()) {
          assert.ok(20 + change.available >= 0 && change.reserved >= 0 && change.committed >= 0)
          for (const count of ['available', 'reserved', 'committed'] as const) sum[count] += change[count]
        }
        assert.deepEqual(sum, expected)
      }),
    )
  })
})

describe('what a decision asks of the stock', () => {
  const decision = (type: OrderCompleted['type']) => ({ type, orderId: 'ord-1' }) as OrderCompleted
  const verdict = (status: InventoryUpdated['status']) => ({ status }) as InventoryUpdated

  it('commits what is reserved and confirmed, releases what is reserved and cancelled', () => {
    assert.equal(settlementOf(decision('OrderConfirmed'), verdict('RESERVED')), 'COMMITTED')
    assert.equal(settlementOf(decision('OrderCancelled'), verdict('RESERVED')), 'RELEASED')
  })

  it('does nothing about an order that was rejected, and knows one that was never looked at', () => {
    assert.equal(settlementOf(decision('OrderCancelled'), verdict('REJECTED')), undefined)
    assert.equal(settlementOf(decision('OrderCancelled'), undefined), 'unheard')
  })

  it('refuses to confirm what is not reserved', () => {
    for (const stored of [undefined, verdict('REJECTED')]) {
      assert.throws(() => settlementOf(decision('OrderConfirmed'), stored), UnusableRecordError)
    }
  })
})
