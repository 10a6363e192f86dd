import assert from 'node:assert/strict'
import test from 'node:test'
import { toDeadLetter } from '../lib/deadLetters.ts'
import { headerText, publish, type RawRecord } from '../lib/record.ts'
import { defineTopics } from '../lib/topics.ts'
import { splitIntoSends } from '../lib/transaction.ts'

test('a header without a value, which kafkajs reads and cannot write, comes out empty', () => {
  // The types of kafkajs do not know of null; the records of others have it.
  const headers = { trace: null, attempts: null, list: ['a', null] } as unknown as RawRecord['headers']
  assert.equal(headerText(headers, 'trace'), undefined)
  const record: RawRecord = {
    topic: 'orders.raw',
    partition: 1,
    offset: 2,
    readOffset: 2,
    isDone: false,
    timestampMs: 0,
    source: 'orders.raw/1/2',
    key: null,
    value: Buffer.from('x'),
    headers,
  }
  const letter = toDeadLetter('validator.dlq', record, 'no key')
  assert.deepEqual([letter.headers.trace, letter.headers.list, letter.headers.attempts], ['', ['a', ''], '1'])
  assert.equal([...splitIntoSends([letter])].length, 1)
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
