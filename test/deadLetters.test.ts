import assert from 'node:assert/strict'
import test from 'node:test'
import { toDeadLetter } from '../lib/deadLetters.ts'
import { headerText, publish, type RawRecord } from '../lib/record.ts'
import { SettledLetters } from '../lib/settledLetters.ts'
import { defineTopics } from '../lib/topics.ts'
import { splitIntoSends } from '../lib/transaction.ts'

function rawRecord(headers: RawRecord['headers'], settles?: number): RawRecord {
  return {
    topic: 'orders.raw',
    partition: 1,
    offset: 2,
    readOffset: 2,
    readTimestampMs: 0,
    isDone: false,
    settles,
    timestampMs: 0,
    source: 'orders.raw/1/2',
    key: null,
    value: Buffer.from('x'),
    headers,
  }
}

test('a header without a value, which kafkajs reads and cannot write, comes out empty', () => {
  // The types of kafkajs do not know of null; the records of others have it.
  const headers = { trace: null, attempts: null, list: ['a', null] } as unknown as RawRecord['headers']
  assert.equal(headerText(headers, 'trace'), undefined)
  const letter = toDeadLetter('validator.dlq', rawRecord(headers), 'no key')
  assert.deepEqual([letter.headers.trace, letter.headers.list, letter.headers.attempts], ['', ['a', ''], '1'])
  assert.equal([...splitIntoSends([letter])].length, 1)
})

test('counts are carried on from letter to letter, and are not taken from what others put in their headers', () => {
  const headers = {
    attempts: '2',
    redrives: '1',
    'dead-letter': 'validator.dlq/1/5',
    dropped: 'x',
    mine: 'kept',
  }
  const again = toDeadLetter('validator.dlq', rawRecord(headers, 5), 'failed').headers
  assert.deepEqual([again.attempts, again.redrives, again.mine], ['3', '1', 'kept'])
  const first = toDeadLetter('validator.dlq', rawRecord(headers), 'failed').headers
  assert.deepEqual([first.attempts, first.redrives, first.mine], ['1', undefined, 'kept'])
  for (const letter of [again, first]) {
    assert.ok(!('dead-letter' in letter) && !('dropped' in letter))
  }
})

test('a dead letter is settled once, for as far back as it is remembered', () => {
  const letters = new SettledLetters(3)
  assert.deepEqual(
    [0, 1, 0, 2, 1, 3, 4, 0].map((offset) => letters.settle(offset)),
    [true, true, false, true, false, true, true, false],
  )
  letters.settle(5)
  assert.equal(letters.settle(3), false)
  assert.equal(letters.settle(0), true, 'it is bounded')
})

test('an event that the broker would refuse for its size is refused before, and names the topic', () => {
  const { ordersRejected } = defineTopics('')
  const event = {
    type: 'OrderRejected' as const,
    eventId: 'ord-1/OrderRejected',
    occurredAt: '2026-11-21T10:00:00.000Z',
    orderId: 'ord-1',
    customerId: 'c-1',
    placedAt: '2026-11-21T10:00:00.000Z',
    currency: 'EUR',
    total: 1,
    reasons: [{ code: 'x', message: 'é'.repeat(ordersRejected.maxMessageBytes / 2) }],
  }
  assert.throws(() => publish(ordersRejected, event, ''), /too large for orders\.rejected/)
})
