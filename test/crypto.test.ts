import assert from 'node:assert/strict'
import { createSecretKey, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import fc from 'fast-check'
import { decrypt, type Envelope, encrypt, type Label, open, parseEnvelope, seal } from '../lib/crypto.ts'
import { UnusableRecordError } from '../lib/errors.ts'
import { KeyRing } from '../lib/keyRing.ts'

const FIELDS = ['request_id', 'worker_name', 'sender', 'event_id', 'key_id', 'iv', 'data', 'tag']
const SECRET = 'the secret of order 4711'
const newKey = () => randomBytes(32).toString('base64')

const label: Label = {
  requestId: 'order-é"\u0001',
  workerName: 'judges',
  sender: 'validator',
  eventId: 'order.OrderPlaced',
}

/** A ring as a file makes it: ids of our choice, the last one seals. */
function ringOf(t: TestContext, keys: { id: string; key: string }[]): KeyRing {
  const folder = mkdtempSync(join(tmpdir(), 'order-pipeline-keys-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'keys.json'), JSON.stringify({ keys }))
  return KeyRing.fromFile(join(folder, 'keys.json'), assert.fail)
}

const openText = (keys: KeyRing, workerName: string, text: string | Buffer) =>
  open(keys, workerName, parseEnvelope(Buffer.from(text))).toString('utf8')

/** The same bytes of JSON that seal would write for it. */
const write = (envelope: Envelope) => JSON.stringify(envelope)

/** @returns the reason for which it is refused */
function refusal(attempt: () => unknown): string {
  try {
    attempt()
  } catch (error) {
    assert.ok(error instanceof UnusableRecordError, String(error))
    // A log prints causes and fields too. (The stack is not looked at: with source maps it takes a millisecond.)
    assert.deepEqual([error.cause, Object.keys(error).sort()], [undefined, ['canRetry', 'code']])
    assert.ok(!error.message.includes('secret'), 'what was sealed is in the error')
    return error.message
  }
  return assert.fail('it was opened')
}

describe('AES-256-GCM', () => {
  const lines = readFileSync(new URL('fixtures/wycheproof/aesGcm256.csv', import.meta.url), 'utf8')
    .trim()
    .split('\n')
  const vectors = lines.filter((line) => !line.startsWith('#')).slice(1)
  const hex = (text: string | undefined) => Buffer.from(text!, 'hex')

  it('agrees with the vectors of Wycheproof, those that must not be accepted included', () => {
    const counts = { valid: 0, invalid: 0 }
    for (const vector of vectors) {
      const [id, result, keyHex, ...rest] = vector.split(',')
      const [nonce, authenticated, message, data, tag] = rest.map(hex) as [
        Buffer,
        Buffer,
        Buffer,
        Buffer,
        Buffer,
      ]
      const key = createSecretKey(hex(keyHex))
      const isValid = result === 'valid'
      counts[isValid ? 'valid' : 'invalid'] += 1
      const decrypted = decrypt(key, nonce, authenticated, { data, tag })
      assert.deepEqual(decrypted, isValid ? message : undefined, `vector ${id}`)
      const encrypted = encrypt(key, nonce, authenticated, message)
      assert.deepEqual(encrypted.data, data, `vector ${id}`)
      assert.equal(encrypted.tag.equals(tag), isValid, `vector ${id}`)
    }
    assert.deepEqual(counts, { valid: 39, invalid: 27 })
  })

  it('takes no tag that is shorter than 128 bits, though it be the beginning of the right one', () => {
    const key = createSecretKey(randomBytes(32))
    const nonce = randomBytes(12)
    const { data, tag } = encrypt(key, nonce, Buffer.from('label'), Buffer.from(SECRET))
    for (let bytes = 0; bytes < 16; bytes += 1) {
      const sealed = { data, tag: tag.subarray(0, bytes) }
      assert.equal(decrypt(key, nonce, Buffer.from('label'), sealed), undefined, `${bytes} bytes`)
    }
    assert.equal(String(decrypt(key, nonce, Buffer.from('label'), { data, tag })), SECRET)
  })
})

describe('sealing', () => {
  const keys = KeyRing.fromKey(newKey())
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
  const id = fc.string({ unit: 'binary', maxLength: 100 })
  const labels = fc.record({ requestId: id, workerName: name, sender: name, eventId: id })
  const text = fc.string({ unit: 'binary', maxLength: 2_000 })

  it('gives back every text under every label, as JSON with the fields in their order', () => {
    fc.assert(
      fc.property(labels, text, (label, text) => {
        const sealed = seal(keys, label, text)
        const envelope = parseEnvelope(Buffer.from(sealed))
        assert.equal(open(keys, label.workerName, envelope).toString('utf8'), text)
        assert.deepEqual(envelope, JSON.parse(sealed))
        assert.deepEqual(Object.keys(envelope), FIELDS)
        const { request_id, worker_name, sender, event_id } = envelope
        const found = { requestId: request_id, workerName: worker_name, sender, eventId: event_id }
        assert.deepEqual(found, { ...label })
        assert.equal(sealed, write(envelope))
      }),
    )
    const bytes = randomBytes(5_000)
    assert.deepEqual(open(keys, 'judges', parseEnvelope(Buffer.from(seal(keys, label, bytes)))), bytes)
    assert.equal(openText(keys, 'judges', seal(keys, label, '')), '')
  })

  it('takes labels of half a pair of surrogates, and the longest there are', () => {
    for (const requestId of ['\ud800', '\u0000'.repeat(200), '𝛑'.repeat(100), '"\\'.repeat(100)]) {
      assert.equal(openText(keys, 'judges', seal(keys, { ...label, requestId }, SECRET)), SECRET)
    }
  })

  it('refuses every envelope in which one bit is another, or one byte is missing or doubled', () => {
    const sealed = Buffer.from(seal(keys, label, SECRET))
    for (let at = 0; at < sealed.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const changed = Buffer.from(sealed)
        changed[at]! ^= 1 << bit
        refusal(() => openText(keys, 'judges', changed))
      }
      refusal(() =>
        openText(keys, 'judges', Buffer.concat([sealed.subarray(0, at), sealed.subarray(at + 1)])),
      )
      refusal(() =>
        openText(keys, 'judges', Buffer.concat([sealed.subarray(0, at + 1), sealed.subarray(at)])),
      )
    }
    assert.equal(openText(keys, 'judges', sealed), SECRET)
  })

  it('refuses every envelope in which one character is another', () => {
    const character = fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })
    fc.assert(
      fc.property(labels, text, fc.nat(), character, (label, text, position, character) => {
        const characters = [...seal(keys, label, text)]
        const at = position % characters.length
        fc.pre(characters[at] !== character)
        characters[at] = character
        refusal(() => openText(keys, label.workerName, characters.join('')))
      }),
      { numRuns: 2_000 },
    )
  })

  it('uses no nonce twice, and never writes the same text the same way', () => {
    const sealed = Array.from({ length: 5_000 }, () => parseEnvelope(Buffer.from(seal(keys, label, SECRET))))
    for (const field of ['iv', 'data', 'tag'] as const) {
      assert.equal(new Set(sealed.map((envelope) => envelope[field])).size, sealed.length, field)
    }
  })

  it('puts nothing that no envelope can carry on one', () => {
    const wrong: Partial<Label>[] = [
      { requestId: 'r'.repeat(201) },
      { eventId: 'e'.repeat(201) },
      { workerName: '' },
      { workerName: 'fraud","sender":"x' },
      { sender: 'né' },
      { sender: 's'.repeat(65) },
    ]
    for (const part of wrong) refusal(() => seal(keys, { ...label, ...part }, SECRET))
  })

  it('holds together every part of the label with what is in it', (t) => {
    const sealed = parseEnvelope(Buffer.from(seal(keys, label, SECRET)))
    const moved = {
      request_id: 'order',
      worker_name: 'fraud',
      sender: 'api',
      event_id: 'order.OrderRejected',
    }
    for (const [field, value] of Object.entries(moved)) {
      const envelope = { ...sealed, [field]: value }
      assert.match(
        refusal(() => openText(keys, envelope.worker_name, write(envelope))),
        /not authentic/,
        field,
      )
    }
    // What ends one part and begins the next is of the label too.
    const shifted = { ...sealed, sender: 'validatoro', event_id: sealed.event_id.slice(1) }
    assert.match(
      refusal(() => openText(keys, 'judges', write(shifted))),
      /not authentic/,
    )
    // The id of the key too: the same key under another id, as one who renames it would have it.
    const key = newKey()
    const before = parseEnvelope(Buffer.from(seal(ringOf(t, [{ id: 'before', key }]), label, SECRET)))
    assert.match(
      refusal(() =>
        openText(ringOf(t, [{ id: 'after', key }]), 'judges', write({ ...before, key_id: 'after' })),
      ),
      /not authentic/,
    )
  })

  it('opens none of 5,000 tampered messages of 8 kinds, and says of each what is wrong', (t) => {
    const ring = ringOf(t, [
      { id: 'other', key: newKey() },
      { id: 'current', key: newKey() },
    ])
    const flip = (base64: string, bit: number) => {
      const bytes = Buffer.from(base64, 'base64')
      bytes[(bit >> 3) % bytes.length]! ^= 1 << (bit % 8)
      return bytes.toString('base64')
    }
    const cut = (base64: string, bytes: number) =>
      Buffer.from(base64, 'base64').subarray(0, bytes).toString('base64')
    type Tamper = (sealed: Envelope, n: number, another: Envelope) => Partial<Envelope> & { opener?: string }
    const pick = <Choice>(choices: readonly Choice[], n: number) => choices[n % choices.length]!
    const kinds: Record<string, [reason: RegExp, tamper: Tamper]> = {
      'a flipped bit of data': [/not authentic/, ({ data }, n) => ({ data: flip(data, n) })],
      'a flipped bit of tag or nonce': [
        /not authentic/,
        ({ tag, iv }, n) => pick<Partial<Envelope>>([{ tag: flip(tag, n) }, { iv: flip(iv, n) }], n >> 1),
      ],
      'data cut short': [/not authentic/, ({ data }, n) => ({ data: cut(data, n % SECRET.length) })],
      'a shortened tag': [/tag is not 16 bytes/, ({ tag }, n) => ({ tag: cut(tag, n % 16) })],
      'another worker': [
        /sealed for 'judges', and not for 'fraud'|not authentic/,
        (_, n) => pick([{ opener: 'fraud' }, { worker_name: 'fraud', opener: 'fraud' }], n),
      ],
      'another label': [
        /not authentic/,
        (_, n) => pick([{ event_id: `e${n}` }, { request_id: `r${n}` }, { sender: `s${n}` }], n),
      ],
      'another key': [
        /not authentic|key 'k\d+', which is not known/,
        (_, n) => ({ key_id: pick(['other', `k${n}`], n) }),
      ],
      'parts of two messages': [
        /not authentic/,
        (_, n, { iv, data, tag }) =>
          pick<Partial<Envelope>>([{ iv }, { data }, { tag }, { iv, data, tag }], n),
      ],
    }
    const refused: Record<string, number> = {}
    for (let n = 0; n < 5_000; n += 1) {
      const sealed = parseEnvelope(Buffer.from(seal(ring, label, SECRET)))
      const another = parseEnvelope(
        Buffer.from(seal(ring, { ...label, eventId: 'another' }, `not ${SECRET}`)),
      )
      const [kind, [reason, tamper]] = pick(Object.entries(kinds), n)
      const { opener = 'judges', ...changes } = tamper(sealed, n >> 3, another)
      const value = write({ ...sealed, ...changes })
      assert.match(
        refusal(() => openText(ring, opener, value)),
        reason,
        `${kind}: ${value}`,
      )
      refused[kind] = (refused[kind] ?? 0) + 1
      assert.equal(openText(ring, 'judges', write(sealed)), SECRET)
    }
    assert.deepEqual(refused, Object.fromEntries(Object.keys(kinds).map((kind) => [kind, 625])))
  })

  it('refuses a shortened tag also on an envelope that nobody looked at', () => {
    const sealed = parseEnvelope(Buffer.from(seal(keys, label, SECRET)))
    const tag = Buffer.from(sealed.tag, 'base64').subarray(0, 12).toString('base64')
    assert.match(
      refusal(() => open(keys, 'judges', { ...sealed, tag })),
      /not authentic/,
    )
  })
})

describe('an envelope', () => {
  const keys = KeyRing.fromKey(newKey())
  const sealed = seal(keys, { ...label, requestId: 'order\u001f' }, `${SECRET}!`)
  const envelope = parseEnvelope(Buffer.from(sealed))
  const without = (field: string) =>
    Object.fromEntries(Object.entries(envelope).filter(([name]) => name !== field))
  const nested = '['.repeat(100_000)

  const cases: [what: string, value: string | Buffer, reason: RegExp][] = [
    ['nothing', '', /^not sealed: not JSON$/],
    [
      'an event that is not sealed',
      `{"type":"OrderPlaced","note":"${SECRET}"}`,
      /^not sealed: not an envelope$/,
    ],
    ['text that is no JSON', `{"note": ${SECRET}`, /^not sealed: not JSON$/],
    ['JSON that is no object', `"${SECRET}"`, /^not sealed: not an envelope$/],
    ['null', 'null', /^not sealed: not an envelope$/],
    ['bytes', Buffer.from([0xff, 0xfe, 0x00]), /^not sealed: not UTF-8$/],
    ['many brackets', nested, /^not sealed/],
    [
      'many brackets in a field',
      `{"data":${nested}${']'.repeat(100_000)}}`,
      /request_id is missing, or no text$/,
    ],
    [
      'too much',
      Buffer.alloc(8 * 1024 * 1024 + 1, 'x'),
      /malformed: 8388609 bytes, at most 8388608 are taken$/,
    ],
    ...FIELDS.filter((field) => field !== 'data').map((field): [string, string, RegExp] => [
      `one without ${field}`,
      JSON.stringify(without(field)),
      new RegExp(`malformed: ${field} is missing, or no text$`),
    ]),
    ['a number for the nonce', JSON.stringify({ ...envelope, iv: 12 }), /iv is missing, or no text$/],
    [
      'an object for the tag',
      JSON.stringify({ ...envelope, tag: { toString: SECRET } }),
      /tag is missing, or no text$/,
    ],
    [
      'a long request_id',
      write({ ...envelope, request_id: 'r'.repeat(201) }),
      /request_id is longer than 200$/,
    ],
    ['a long event_id', write({ ...envelope, event_id: 'e'.repeat(20_000) }), /event_id is longer than 200$/],
    ['a worker with no name', write({ ...envelope, worker_name: `${SECRET}\n` }), /worker_name is no name$/],
    ['a sender with no name', write({ ...envelope, sender: '' }), /sender is no name$/],
    ['a key_id that could be a key', write({ ...envelope, key_id: newKey() }), /key_id is no id of a key$/],
    ['a nonce of 16 bytes', write({ ...envelope, iv: 'A'.repeat(22).concat('==') }), /iv is not 12 bytes$/],
    ['no nonce', write({ ...envelope, iv: '' }), /iv is not 12 bytes$/],
    ['a long tag', write({ ...envelope, tag: 'A'.repeat(24) }), /tag is not 16 bytes$/],
    [
      'data that is no base64',
      write({ ...envelope, data: `${envelope.data.slice(0, -4)}é"` }),
      /data is not base64$/,
    ],
    ['base64 without padding', write({ ...envelope, tag: envelope.tag.slice(0, -2) }), /tag is not base64$/],
    ['base64 with spaces', write({ ...envelope, data: `${envelope.data} ` }), /data is not base64$/],
    ['base64 as in addresses', write({ ...envelope, data: '-_-_' }), /data is not base64$/],
    ['bits left at the end', write({ ...envelope, data: 'QUJDRE==' }), /data is not base64$/],
    [
      'one more field',
      JSON.stringify({ ...envelope, note: '' }),
      /more fields .* or is spelled in another way$/,
    ],
    ['a field twice', sealed.replace('{', '{"data":"",'), /spelled in another way$/],
    ['another order', JSON.stringify({ ...without('iv'), iv: envelope.iv }), /spelled in another way$/],
    ['spaces', JSON.stringify(envelope, undefined, 1), /spelled in another way$/],
    ['a line end', `${sealed}\n`, /spelled in another way$/],
    ['escapes in capitals', sealed.replace('\\u001f', '\\u001F'), /spelled in another way$/],
    ['needless escapes', sealed.replace('"order\\u', '"\\u006frder\\u'), /spelled in another way$/],
  ]
  for (const [what, value, reason] of cases) {
    it(`is not ${what}`, () => {
      assert.notEqual(String(value), sealed)
      assert.match(
        refusal(() => parseEnvelope(Buffer.from(value))),
        reason,
      )
    })
  }

  it('is not one with bytes that only read like what was written', () => {
    const written = Buffer.from(seal(keys, { ...label, requestId: '\ufffd' }, SECRET))
    const at = written.indexOf('\ufffd')
    const other = Buffer.concat([written.subarray(0, at), Buffer.from([0xff]), written.subarray(at + 3)])
    assert.equal(String(other), String(written))
    assert.match(
      refusal(() => parseEnvelope(other)),
      /^not sealed: not UTF-8$/,
    )
  })

  it('is what seal writes', () => assert.equal(openText(keys, 'judges', sealed), `${SECRET}!`))
})
