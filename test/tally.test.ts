import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Tally } from '../lib/tally.ts'
import { defineTopics } from '../lib/topics.ts'

const topics = defineTopics('')

/** A record as the reader hands it over. */
function record(offset: number, source: string | undefined, value: unknown = {}) {
  return {
    offset,
    key: null,
    value: Buffer.from(JSON.stringify(value)),
    headers: source === undefined ? {} : { source: Buffer.from(source) },
    timestampMs: 0,
  }
}

const validated = (offset: number, source: string) => record(offset, source, { currency: 'EUR', total: 100 })
const RAW = 'orders.raw'
const VALIDATED = 'orders.validated'

/** Two orders that go all the way, one refused and one that was none. */
function cleanRun(tally = new Tally(topics)): Tally {
  tally.take(
    RAW,
    0,
    [0, 1, 2, 3].map((offset) => record(offset, undefined)),
  )
  tally.take(VALIDATED, 0, [validated(0, 'orders.raw/0/0'), validated(1, 'orders.raw/0/1')])
  tally.take('orders.rejected', 0, [record(0, 'orders.raw/0/2')])
  tally.take('validator.dlq', 0, [record(0, 'orders.raw/0/3')])
  for (const offset of [0, 1]) {
    const source = `orders.validated/0/${offset}`
    tally.take('inventory.events', 0, [record(offset, source, { status: 'RESERVED' })])
    tally.take('payment.events', 0, [record(offset, source, { type: 'PaymentProcessed' })])
  }
  return tally
}

describe('the tally', () => {
  it('is even when every order came to its end once', () => {
    const tally = cleanRun()
    assert.ok(tally.isEven)
    assert.deepEqual(tally.complaints(), [])
    assert.deepEqual(tally.figures, {
      placed: 4,
      validated: 2,
      rejected: 1,
      deadLettered: 1,
      reserved: 2,
      notReserved: 0,
      authorised: 2,
      declined: 0,
      revenueMinor: { EUR: 200 },
    })
  })

  it('does not mind in which order the topics are read', () => {
    const tally = new Tally(topics)
    tally.take('orders.rejected', 0, [record(0, 'orders.raw/0/0')])
    assert.ok(!tally.isEven)
    tally.take(RAW, 0, [record(0, undefined)])
    assert.ok(tally.isEven)
  })

  const defects: [what: string, plant: (tally: Tally) => void, says: RegExp][] = [
    [
      'an order without an end',
      (tally) => tally.take(RAW, 0, [record(9, undefined)]),
      /validation: orders.raw\/0\/9 has no outcome/,
    ],
    [
      'an order that was validated twice',
      (tally) => tally.take(VALIDATED, 0, [validated(2, 'orders.raw/0/0')]),
      /validation: orders.raw\/0\/0 has 1 outcome\(s\) too many/,
    ],
    [
      'an order both validated and rejected',
      (tally) => tally.take('orders.rejected', 0, [record(1, 'orders.raw/0/1')]),
      /validation: orders.raw\/0\/1 has 1/,
    ],
    [
      'a second verdict of the inventory',
      (tally) =>
        tally.take('inventory.events', 0, [record(2, 'orders.validated/0/0', { status: 'RESERVED' })]),
      /inventory: orders.validated\/0\/0 has 1/,
    ],
    [
      'a payment without an order',
      (tally) =>
        tally.take('payment.events', 0, [record(2, 'orders.validated/0/7', { type: 'PaymentFailed' })]),
      /payment: orders.validated\/0\/7 has 1/,
    ],
    [
      'an event that does not say what caused it',
      (tally) => tally.take('orders.rejected', 0, [record(1, undefined)]),
      /a record without a source/,
    ],
  ]
  for (const [what, plant, says] of defects) {
    it(`finds ${what}`, () => {
      const tally = cleanRun()
      plant(tally)
      assert.ok(!tally.isEven)
      assert.match(tally.complaints().join('\n'), says)
    })
  }
})
