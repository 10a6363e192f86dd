import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { UnusableRecordError } from '../lib/errors.ts'
import type { OrderConfirmed } from '../lib/events.ts'
import { composeConfirmation, parseMailbox } from '../lib/mail.ts'

const FROM = { name: 'Orders', address: 'orders@example.com' }
const HEADERS =
  /^From: .+\r\nTo: (.+(?:\r\n .+)*)\r\nSubject: .+(?:\r\n .+)*\r\nMessage-ID: <\S+>\r\nDate: .+\r\nMIME-Version: 1\.0\r\nContent-Type: text\/plain; charset=utf-8\r\nContent-Transfer-Encoding: (?:7bit|base64)$/

function confirmed(changes: {
  orderId?: string
  name?: string
  email?: string
  sku?: string
}): OrderConfirmed {
  const { orderId = 'ord-1', name = 'Ada Lovelace', email = 'ada@example.org', sku = 'SKU-1' } = changes
  return {
    type: 'OrderConfirmed',
    eventId: `${orderId}/OrderConfirmed`,
    occurredAt: '2026-11-21T07:36:03.000Z',
    orderId,
    customerId: 'cust-1',
    placedAt: '2026-11-21T07:36:00.000Z',
    currency: 'EUR',
    total: 3_198,
    items: [
      { sku, quantity: 2 },
      { sku: 'SKU-2', quantity: 1 },
    ],
    customer: { id: 'cust-1', name, email, tier: 'standard', country: 'DE' },
    shipmentNumber: 'SHP-00000042',
    warnings: [],
  }
}

const headersOf = (content: string) => content.slice(0, content.indexOf('\r\n\r\n'))
const bodyOf = (content: string) => content.slice(content.indexOf('\r\n\r\n') + 4)

/** What a mail program shows of encoded words (RFC 2047): the space between two of them is left out. */
function decodeWords(text: string): string {
  return text
    .replace(/\?=\r\n =\?/g, '?==?')
    .replace(/=\?UTF-8\?B\?([^?]*)\?=/g, (_, word) => Buffer.from(word, 'base64').toString())
}

describe('the confirmation mail', () => {
  it('tells order, shipment, items and total, and is the same to the byte each time', () => {
    const mail = composeConfirmation(confirmed({}), FROM)
    assert.equal(
      mail.content,
      [
        'From: Orders <orders@example.com>',
        'To: Ada Lovelace <ada@example.org>',
        'Subject: Your order ord-1 is confirmed',
        'Message-ID: <ord-1@order-pipeline>',
        'Date: Sat, 21 Nov 2026 07:36:03 +0000',
        'MIME-Version: 1.0',
        'Content-Type: text/plain; charset=utf-8',
        'Content-Transfer-Encoding: 7bit',
        '',
        'Dear Ada Lovelace,',
        '',
        'your order ord-1 is confirmed and is on its way as shipment SHP-00000042.',
        '',
        '  2 x SKU-1',
        '  1 x SKU-2',
        '',
        'Total: 31.98 EUR',
        '',
      ].join('\r\n'),
    )
    assert.deepEqual(composeConfirmation(confirmed({}), FROM), mail)
    assert.deepEqual([mail.from, mail.to], ['orders@example.com', 'ada@example.org'])
  })

  it('keeps letters of every kind, in short lines', () => {
    const name = 'Žofie Ångström-Łukasiewicz 山田太郎 👩‍🚀 the second'
    const { content } = composeConfirmation(confirmed({ name }), FROM)
    const to = HEADERS.exec(headersOf(content))![1]!
    assert.equal(decodeWords(to), `${name} <ada@example.org>`)
    for (const line of content.split('\r\n')) assert.ok(line.length <= 100, line)
    assert.match(Buffer.from(bodyOf(content), 'base64').toString(), new RegExp(`^Dear ${name},\r\n`))
  })

  it('has a message id for each order id, which a colon or a dot at the end does not break', () => {
    const ids = ['a', 'a.', 'a..b', 'a:b', 'a.b'].map(
      (orderId) => /Message-ID: (.*)/.exec(composeConfirmation(confirmed({ orderId }), FROM).content)![1]!,
    )
    assert.equal(new Set(ids).size, ids.length)
    for (const id of ids) assert.match(id, /^<[A-Za-z0-9_%-]+@order-pipeline>$/)
  })

  it('has no header but ours, whatever a name or a product code holds', () => {
    const evil = fc.array(
      fc.constantFrom('\r', '\n', '\r\n', 'Bcc: x@evil.example', '\u2028', '\0', ' ', 'é', '=?', '<'),
    )
    const text = fc.oneof(
      evil.map((parts) => parts.join('')),
      fc.string({ unit: 'binary', maxLength: 100 }),
    )
    fc.assert(
      fc.property(text, text, (name, sku) => {
        const { content } = composeConfirmation(confirmed({ name, sku }), FROM)
        const headers = headersOf(content)
        assert.match(headers, HEADERS)
        assert.match(HEADERS.exec(headers)![1]!, /<ada@example\.org>$/)
        assert.doesNotMatch(content, /[^\r]\n|\r[^\n]/)
      }),
    )
  })

  it('is not written to what is not one address', () => {
    for (const email of [
      '',
      'ada',
      'ada@',
      'a@b@c',
      'ada@example.org\r\nBcc: x@evil.example',
      'ada@example.org, x@evil.example',
      'ada@example.org\n',
      'Ada <ada@example.org>',
      'ada @example.org',
      'ada@exam\nple.org',
    ]) {
      assert.throws(() => composeConfirmation(confirmed({ email }), FROM), UnusableRecordError, email)
    }
  })
})

it('a sender is a name with an address, or an address', () => {
  assert.deepEqual(parseMailbox('Orders <orders@example.com>'), FROM)
  assert.deepEqual(parseMailbox(' orders@example.com '), { name: '', address: 'orders@example.com' })
  for (const text of ['Orders', 'Orders <orders>', 'a@b, c@d', '<>'])
    assert.equal(parseMailbox(text), undefined)
})
