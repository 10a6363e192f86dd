import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FIRST_TIER, Tally } from '../lib/tally.ts'
import type { TopicRecord } from '../lib/topicReader.ts'
import { defineTopics } from '../lib/topics.ts'

const topics = defineTopics('')

/** A record as the reader hands it over. */
function record(
  offset: number,
  source: string | undefined,
  value: unknown = {},
  more: Record<string, string> = {},
) {
  const headers = { ...(source === undefined ? {} : { source }), ...more }
  return {
    offset,
    key: null,
    value: Buffer.from(JSON.stringify(value)),
    headers: Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)])),
    timestampMs: 0,
  }
}

const validated = (offset: number, source: string) => record(offset, source, { currency: 'EUR', total: 100 })
const RAW = 'orders.raw'
const VALIDATED = 'orders.validated'
const COMPLETED = 'orders.completed'
const INVENTORY = 'inventory.events'
const PAYMENT = 'payment.events'

const inventory = (offset: number, source: string, orderId: string, status: string) =>
  record(offset, source, { type: 'InventoryUpdated', orderId, status, shortages: [] })
const payment = (offset: number, source: string, orderId: string, type: string, amount = 100) =>
  record(offset, source, { type, orderId, amount, currency: 'EUR', reason: 'no' })
const confirmed = (offset: number, source: string, orderId: string) => {
  const items = [{ sku: 'A', quantity: 3 }]
  return record(offset, source, { type: 'OrderConfirmed', orderId, total: 90, currency: 'EUR', items })
}
const cancelled = (offset: number, source: string, orderId: string, ...codes: string[]) =>
  record(offset, source, {
    type: 'OrderCancelled',
    orderId,
    reasons: codes.map((code) => ({ code, message: code })),
  })

/** What the judges say of the order at an offset: enough for it to be decided. */
function judge(tally: Tally, offset: number, orderId: string, status: string, type: string): void {
  const source = `orders.validated/0/${offset}`
  tally.take(INVENTORY, 0, [inventory(offset, source, orderId, status)])
  tally.take(PAYMENT, 0, [payment(offset, source, orderId, type)])
  tally.take('fraud.events', 0, [record(offset, source, { type: 'FraudAssessed', orderId, verdict: 'pass' })])
  tally.take('pricing.events', 0, [record(offset, source, { type: 'OrderPriced', orderId, total: 90 })])
}

/** One order confirmed, one cancelled with all to be undone, one with nothing; one refused and one that was none. */
function cleanRun(tally = new Tally(topics)): Tally {
  tally.take(
    RAW,
    0,
    [0, 1, 2, 3, 4].map((offset) => record(offset, undefined)),
  )
  tally.take(
    VALIDATED,
    0,
    [0, 1, 2].map((offset) => validated(offset, `orders.raw/0/${offset}`)),
  )
  tally.take('orders.rejected', 0, [record(0, 'orders.raw/0/3')])
  tally.take('validator.dlq', 0, [record(0, 'orders.raw/0/4')])
  judge(tally, 0, 'ord-0', 'RESERVED', 'PaymentProcessed')
  judge(tally, 1, 'ord-1', 'RESERVED', 'PaymentProcessed')
  judge(tally, 2, 'ord-2', 'REJECTED', 'PaymentFailed')
  tally.take(COMPLETED, 0, [
    confirmed(0, 'orders.validated/0/0', 'ord-0'),
    cancelled(1, 'orders.validated/0/1', 'ord-1', 'fraud', 'fraud'),
    cancelled(2, 'orders.validated/0/2', 'ord-2', 'out-of-stock', 'payment-declined'),
  ])
  tally.take(INVENTORY, 0, [
    inventory(3, 'orders.completed/0/0', 'ord-0', 'COMMITTED'),
    inventory(4, 'orders.completed/0/1', 'ord-1', 'RELEASED'),
  ])
  tally.take(PAYMENT, 0, [
    payment(3, 'orders.completed/0/0', 'ord-0', 'PaymentCaptured', 90),
    payment(4, 'orders.completed/0/1', 'ord-1', 'PaymentVoided'),
  ])
  return tally
}

describe('the tally', () => {
  it('is even when every order came to its end once, and says to which', () => {
    const tally = cleanRun()
    assert.deepEqual(tally.complaints(), [])
    assert.ok(tally.isEven)
    assert.deepEqual(tally.figures, {
      placed: 5,
      validated: 3,
      rejected: 1,
      deadLettered: 1,
      redriven: 0,
      reserved: 2,
      notReserved: 1,
      committed: 1,
      released: 1,
      authorised: 2,
      declined: 1,
      captured: 1,
      voided: 1,
      confirmed: 1,
      cancelledOrders: 2,
      cancelled: { fraud: 1, 'out-of-stock': 1, 'payment-declined': 1 },
      revenueMinor: { EUR: 300 },
      capturedMinor: { EUR: 90 },
    })
    assert.equal(tally.unitsConfirmed, 3)
  })

  it('does not mind in which order the topics are read', () => {
    const tally = new Tally(topics)
    tally.take('orders.rejected', 0, [record(0, 'orders.raw/0/0')])
    assert.ok(!tally.isEven)
    tally.take(RAW, 0, [record(0, undefined)])
    tally.take(COMPLETED, 0, [confirmed(0, 'orders.validated/0/0', 'ord-0')])
    tally.take(PAYMENT, 0, [payment(1, 'orders.completed/0/0', 'ord-0', 'PaymentCaptured', 90)])
    tally.take(INVENTORY, 0, [inventory(1, 'orders.completed/0/0', 'ord-0', 'COMMITTED')])
    judge(tally, 0, 'ord-0', 'RESERVED', 'PaymentProcessed')
    assert.ok(!tally.isEven)
    tally.take(VALIDATED, 0, [validated(0, 'orders.raw/0/1')])
    tally.take(RAW, 0, [record(1, undefined)])
    assert.deepEqual(tally.complaints(), [])
  })

  it('expects of the first tier verdicts of inventory and payment, and no decision', () => {
    const tally = new Tally(topics, FIRST_TIER)
    tally.take(RAW, 0, [record(0, undefined)])
    tally.take(VALIDATED, 0, [validated(0, 'orders.raw/0/0')])
    tally.take(INVENTORY, 0, [inventory(0, 'orders.validated/0/0', 'ord-0', 'RESERVED')])
    assert.ok(!tally.isEven)
    tally.take(PAYMENT, 0, [payment(0, 'orders.validated/0/0', 'ord-0', 'PaymentProcessed')])
    assert.deepEqual(tally.complaints(), [])
  })

  it('expects one more end of a dead letter that was redriven, however often, and none of one dropped', () => {
    const tally = cleanRun()
    const letter = { 'dead-letter': 'validator.dlq/0/0' }
    tally.take('validator.retry', 0, [
      record(0, 'orders.raw/0/4', {}, letter),
      record(1, 'orders.raw/0/4', {}, letter),
    ])
    assert.match(tally.complaints().join('\n'), /^validation: orders.raw\/0\/4 has no outcome$/)
    tally.take('validator.dlq', 0, [record(1, 'orders.raw/0/4')])
    assert.deepEqual(tally.complaints(), [])
    const dropped = { 'dead-letter': 'validator.dlq/0/1', dropped: 'given up' }
    tally.take('validator.retry', 0, [record(2, 'orders.raw/0/4', {}, dropped)])
    assert.deepEqual(tally.complaints(), [])
    assert.deepEqual([tally.figures.deadLettered, tally.figures.redriven], [2, 1])
  })

  const P0 = 'orders.validated/0/0'
  const D0 = 'orders.completed/0/0'
  const D1 = 'orders.completed/0/1'
  const defects: [what: string, topic: string, planted: TopicRecord, says: RegExp][] = [
    ['an order without an end', RAW, record(9, undefined), /validation: orders.raw\/0\/9 has no outcome/],
    [
      'an order that was validated twice',
      VALIDATED,
      validated(9, 'orders.raw/0/0'),
      /validation: orders.raw\/0\/0 has 1 outcome\(s\) too many/,
    ],
    [
      'an order that no judge has judged and nobody decided',
      VALIDATED,
      validated(9, 'orders.raw/0/9'),
      /inventory: .*9 has no(.|\n)*payment: .*9 has no(.|\n)*fraud: .*9 has no(.|\n)*pricing: .*9 has no(.|\n)*fulfilment: .*9 has no/,
    ],
    [
      'an order both validated and rejected',
      'orders.rejected',
      record(1, 'orders.raw/0/1'),
      /validation: orders.raw\/0\/1 has 1/,
    ],
    [
      'a second verdict of the inventory',
      INVENTORY,
      inventory(9, P0, 'ord-0', 'REJECTED'),
      /inventory: orders.validated\/0\/0 has 1/,
    ],
    [
      'a payment without an order',
      PAYMENT,
      payment(9, 'orders.validated/0/7', 'ord-7', 'PaymentFailed'),
      /payment: orders.validated\/0\/7 has 1/,
    ],
    [
      'an event that does not say what caused it',
      'orders.rejected',
      record(1, undefined),
      /without a source/,
    ],
    [
      'a second decision',
      COMPLETED,
      cancelled(9, P0, 'ord-0', 'timeout'),
      /fulfilment: orders.validated\/0\/0 has 1/,
    ],
    [
      'an order that was captured twice',
      PAYMENT,
      payment(9, D0, 'ord-0', 'PaymentCaptured', 90),
      /capture: orders.completed\/0\/0 \(90 EUR\) has 1(.|\n)*authorisation: ord-0 has 1/,
    ],
    [
      'stock that was committed for a cancelled order',
      INVENTORY,
      inventory(9, D1, 'ord-1', 'COMMITTED'),
      /commit: orders.completed\/0\/1 has 1(.|\n)*reservation: ord-1 has 1/,
    ],
    [
      'stock that was released for a confirmed order',
      INVENTORY,
      inventory(9, D0, 'ord-0', 'RELEASED'),
      /reservation: ord-0 has 1/,
    ],
    [
      'a void of what was never authorised',
      PAYMENT,
      payment(9, 'orders.completed/0/2', 'ord-2', 'PaymentVoided'),
      /authorisation: ord-2 has 1/,
    ],
  ]
  for (const [what, topic, planted, says] of defects) {
    it(`finds ${what}`, () => {
      const tally = cleanRun()
      tally.take(topic, 0, [planted])
      assert.ok(!tally.isEven)
      assert.match(tally.complaints().join('\n'), says)
    })
  }

  it('finds a capture of another amount than was confirmed, and what was never carried out or undone', () => {
    const tally = cleanRun()
    tally.take(VALIDATED, 0, [validated(5, 'orders.raw/0/5'), validated(6, 'orders.raw/0/6')])
    tally.take(RAW, 0, [record(5, undefined), record(6, undefined)])
    judge(tally, 5, 'ord-5', 'RESERVED', 'PaymentProcessed')
    judge(tally, 6, 'ord-6', 'RESERVED', 'PaymentProcessed')
    tally.take(COMPLETED, 0, [
      confirmed(5, 'orders.validated/0/5', 'ord-5'),
      cancelled(6, 'orders.validated/0/6', 'ord-6', 'fraud'),
    ])
    tally.take(PAYMENT, 0, [payment(9, 'orders.completed/0/5', 'ord-5', 'PaymentCaptured', 100)])
    assert.deepEqual(tally.complaints(), [
      'commit: orders.completed/0/5 has no outcome',
      'capture: orders.completed/0/5 (90 EUR) has no outcome',
      'capture: orders.completed/0/5 (100 EUR) has 1 outcome(s) too many, or was never read',
      'reservation: ord-5 has no outcome',
      'reservation: ord-6 has no outcome',
      'authorisation: ord-6 has no outcome',
    ])
  })
})
