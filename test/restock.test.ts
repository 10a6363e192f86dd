import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type RestockLevel, restock } from '../lib/restock.ts'
import { StockBatch } from '../lib/stock.ts'

const LEVEL: RestockLevel = { available: 12, lowLevel: 10, restockQuantity: 50 }
const onSale = () => true

const order = (orderId: string, ...quantities: [sku: string, quantity: number][]) => ({
  orderId,
  items: quantities.map(([sku, quantity]) => ({ sku, quantity })),
})

describe('restocking', () => {
  it('takes place once a product has fallen to its low level, and not before', () => {
    const levels = new Map([['a', LEVEL]])
    const stock = new StockBatch(levels)
    const orders = ['o-1', 'o-2', 'o-3'].map((orderId) => order(orderId, ['a', 1]))
    const receipts = orders.map((each) => {
      stock.reserve(each.items)
      return restock(stock, levels, onSale, each)
    })
    assert.deepEqual(receipts, [[], [{ cause: 'restock:o-2', sku: 'a', quantity: 50 }], []])
    assert.equal(stock.availableOf('a'), 59)
    assert.deepEqual(
      stock.changes(),
      [['a', { available: -3, reserved: 3, committed: 0 }]],
      'the receipt raises the stock, and nothing else does',
    )
  })

  it('gives the orders behind it what came in', () => {
    const levels = new Map([['a', { ...LEVEL, available: 5 }]])
    const stock = new StockBatch(levels)
    const refused = order('o-1', ['a', 6])
    assert.equal(stock.reserve(refused.items).status, 'REJECTED')
    assert.equal(restock(stock, levels, onSale, refused).length, 1)
    assert.equal(stock.reserve([{ sku: 'a', quantity: 55 }]).status, 'RESERVED')
  })

  it('leaves out what is withdrawn, what is not restocked, and what is not known', () => {
    const levels = new Map([
      ['a', { ...LEVEL, available: 0 }],
      ['b', { ...LEVEL, available: 0, restockQuantity: 0 }],
      ['c', { ...LEVEL, available: 0 }],
    ])
    const stock = new StockBatch(levels)
    const both = order('o-1', ['a', 1], ['b', 1], ['c', 1], ['c', 2], ['d', 1])
    const receipts = restock(stock, levels, (sku) => sku !== 'a', both)
    assert.deepEqual(receipts, [{ cause: 'restock:o-1', sku: 'c', quantity: 50 }])
  })

  it('keeps the books even: available is what there was, and came in, and was not taken', () => {
    const someOrders = fc.array(
      fc.array(fc.tuple(fc.constantFrom('a', 'b'), fc.integer({ min: 1, max: 30 })), { minLength: 1 }),
    )
    fc.assert(
      fc.property(someOrders, (quantities) => {
        const levels = new Map([
          ['a', LEVEL],
          ['b', { ...LEVEL, available: 40, restockQuantity: 3 }],
        ])
        const stock = new StockBatch(levels)
        const received = new Map([...levels].map(([sku, { available }]) => [sku, available]))
        for (const [number, lines] of quantities.entries()) {
          const each = order(`o-${number}`, ...lines)
          stock.reserve(each.items)
          for (const { sku, quantity } of restock(stock, levels, onSale, each)) {
            received.set(sku, received.get(sku)! + quantity)
          }
          const ordered = new Set(lines.map(([sku]) => sku))
          if (ordered.has('a')) assert.ok(stock.availableOf('a') > LEVEL.lowLevel)
        }
        const reserved = new Map(stock.changes().map(([sku, change]) => [sku, change.reserved]))
        for (const [sku, quantity] of received) {
          assert.equal(stock.availableOf(sku), quantity - (reserved.get(sku) ?? 0))
          assert.ok(stock.availableOf(sku) >= 0)
        }
      }),
    )
  })
})
