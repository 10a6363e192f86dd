import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { reserve, type StockLevel } from '../lib/stock.ts'

const item = (sku: string, quantity: number) => ({ sku, name: sku, quantity, unitPrice: 1 })

describe('reserving stock', () => {
  it('reserves all lines and takes them off', () => {
    const levels = new Map([['a', { available: 10, lowLevel: 0 }]])
    assert.deepEqual(reserve(levels, [item('a', 3), item('a', 4)]), {
      status: 'RESERVED',
      availability: 'available',
      shortages: [],
    })
    assert.equal(levels.get('a')!.available, 3)
  })

  it('says limited when little is left', () => {
    const levels = new Map([['a', { available: 10, lowLevel: 7 }]])
    assert.equal(reserve(levels, [item('a', 3)]).availability, 'limited')
  })

  it('reserves nothing when one line cannot be had, and names it', () => {
    const levels = new Map([
      ['a', { available: 10, lowLevel: 0 }],
      ['b', { available: 1, lowLevel: 0 }],
    ])
    assert.deepEqual(reserve(levels, [item('a', 3), item('b', 1), item('b', 1), item('c', 1)]), {
      status: 'REJECTED',
      availability: 'unavailable',
      shortages: [
        { sku: 'b', requested: 2, available: 1 },
        { sku: 'c', requested: 1, available: 0 },
      ],
    })
    assert.equal(levels.get('a')!.available, 10)
  })

  it('never goes below nothing, and takes off what it says', () => {
    const lines = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 5 })), {
      minLength: 1,
    })
    fc.assert(
      fc.property(fc.array(lines, { maxLength: 30 }), (orders) => {
        const levels = new Map<string, StockLevel>(
          ['a', 'b', 'c'].map((sku) => [sku, { available: 20, lowLevel: 2 }]),
        )
        let taken = 0
        for (const order of orders) {
          const { status } = reserve(
            levels,
            order.map(([sku, quantity]) => item(sku, quantity)),
          )
          if (status === 'RESERVED') taken += order.reduce((sum, [, quantity]) => sum + quantity, 0)
        }
        const left = [...levels.values()].map(({ available }) => available)
        assert.ok(left.every((available) => available >= 0))
        assert.equal(
          left.reduce((sum, available) => sum + available, 0),
          60 - taken,
        )
      }),
    )
  })
})
