import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { inspect } from 'node:util'
import { open, parseEnvelope, seal } from '../lib/crypto.ts'
import { ConfigurationError, UnusableRecordError } from '../lib/errors.ts'
import { addMissingKeys, KeyRing } from '../lib/keyRing.ts'

const newKey = () => randomBytes(32).toString('base64')
const KEY = newKey()
const HEX = Buffer.from(KEY, 'base64').toString('hex')

interface Entry {
  id: string
  key: string
  workers?: string[]
  retired?: boolean
}

/** A key file of a test's own, with a clock to look at it by. */
function keyFile(t: TestContext, keys: Entry[]) {
  const folder = mkdtempSync(join(tmpdir(), 'order-pipeline-keys-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'keys.json')
  const problems: string[] = []
  const clock = { nowMs: 0 }
  const write = (keys: Entry[]) => writeFileSync(path, JSON.stringify({ keys }))
  write(keys)
  const load = () =>
    KeyRing.fromFile(
      path,
      (problem) => problems.push(problem),
      () => clock.nowMs,
    )
  return { path, problems, clock, write, load }
}

/** @returns everything that a log would print of the error */
function refusal(attempt: () => unknown, kind: new (message: string) => Error = ConfigurationError): string {
  try {
    attempt()
  } catch (error) {
    assert.ok(error instanceof kind, inspect(error))
    const printed = inspect(error)
    assert.ok(!printed.includes(KEY) && !printed.includes(HEX), 'the key is in the error')
    return error.message
  }
  return assert.fail('it was taken')
}

const label = (workerName: string) => ({ requestId: 'order', workerName, sender: 'api', eventId: 'event' })
const openAt = (keys: KeyRing, workerName: string, sealed: string) =>
  String(open(keys, workerName, parseEnvelope(Buffer.from(sealed))))

describe('a key ring of one key', () => {
  it('takes base64 and hex, and gives a key the same id wherever it is used', () => {
    const rings = [KEY, HEX, HEX.toUpperCase(), ` ${KEY}\n`].map((text) => KeyRing.fromKey(text))
    assert.match(rings[0]!.ids.join(), /^[0-9a-f]{8}$/)
    for (const ring of rings) {
      assert.deepEqual(ring.ids, rings[0]!.ids)
      assert.equal(openAt(ring, 'fraud', seal(rings[0]!, label('fraud'), 'text')), 'text')
    }
    assert.notDeepEqual(KeyRing.fromKey(newKey()).ids, rings[0]!.ids)
  })

  const wrong = [
    '',
    KEY.slice(1),
    `${KEY}A`,
    KEY.slice(0, -1),
    `${HEX}00`,
    HEX.slice(2),
    `${KEY} ${KEY}`,
    'secret',
  ]
  for (const [index, text] of wrong.entries()) {
    it(`refuses what is no key, and does not repeat it (${index + 1})`, () => {
      assert.match(
        refusal(() => KeyRing.fromKey(text)),
        /^ENCRYPTION_KEY is not usable: it takes 32 random bytes/,
      )
    })
  }
})

describe('a key ring of a file', () => {
  it('seals with the last key that is meant for a worker and not retired, and opens with the others', (t) => {
    const ids = (workerName: string) => ring.forSealing(workerName).id
    const file = keyFile(t, [
      { id: 'all-1', key: newKey() },
      { id: 'fraud-1', key: newKey(), workers: ['fraud', 'judges'] },
      { id: 'fraud-2', key: newKey(), workers: ['fraud'] },
      { id: 'fraud-3', key: newKey(), workers: ['fraud'], retired: true },
    ])
    const ring = file.load()
    assert.deepEqual([ids('fraud'), ids('judges'), ids('mail')], ['fraud-2', 'fraud-1', 'all-1'])
    for (const id of ring.ids) assert.equal(ring.find(id, 'fraud').symmetricKeySize, 32)
  })

  it('opens nothing with a key that is meant for another worker, and seals nothing without one', (t) => {
    const [fraud, judges] = [newKey(), newKey()]
    const whole = keyFile(t, [
      { id: 'fraud', key: fraud, workers: ['fraud'] },
      { id: 'judges', key: judges, workers: ['judges'] },
    ]).load()
    const ofFraud = keyFile(t, [{ id: 'fraud', key: fraud, workers: ['fraud'] }]).load()
    assert.equal(openAt(ofFraud, 'fraud', seal(whole, label('fraud'), 'text')), 'text')
    const forJudges = seal(whole, label('judges'), 'text')
    const refused = (ring: KeyRing, workerName: string, sealed: string) =>
      refusal(() => openAt(ring, workerName, sealed), UnusableRecordError)
    assert.match(refused(ofFraud, 'judges', forJudges), /sealed with key 'judges', which is not known here/)
    assert.match(refused(whole, 'fraud', forJudges), /sealed for 'judges', and not for 'fraud'/)
    // Whoever has the key of fraud alone writes to judges with it.
    const everywhere = keyFile(t, [{ id: 'fraud', key: fraud }]).load()
    const forged = seal(everywhere, label('judges'), 'text')
    assert.match(refused(whole, 'judges', forged), /sealed with key 'fraud', which is not meant for 'judges'/)
    assert.match(
      refusal(() => seal(ofFraud, label('judges'), 'text')),
      /no key to seal with for 'judges': add one to .*keys\.json/,
    )
  })

  it('shows the ids of its keys and nothing else, however it is printed', (t) => {
    const file = keyFile(t, [
      { id: 'fraud-1', key: KEY, workers: ['fraud'] },
      { id: 'all', key: newKey() },
    ])
    const ring = file.load()
    assert.equal(inspect(ring), `KeyRing { ids: [ 'fraud-1', 'all' ] }`)
    assert.equal(JSON.stringify({ ring }), '{"ring":{"ids":["fraud-1","all"]}}')
    const held = [ring, ring.find('fraud-1', 'fraud'), ring.forSealing('fraud'), KeyRing.fromKey(KEY)]
    const shown = held.flatMap((value) => [
      inspect(value, { showHidden: true, depth: null, customInspect: false }),
      inspect(value, { showHidden: true, depth: null, getters: true }),
      JSON.stringify(value),
      String(value),
      JSON.stringify({ ...value }),
    ])
    const bytes = inspect(Buffer.from(KEY, 'base64')).slice(8, 40)
    for (const text of shown) {
      assert.ok(![KEY, HEX, bytes].some((form) => text.includes(form)), 'a key is shown')
    }
  })

  const wrong: [what: string, content: string, problem: RegExp][] = [
    ['no JSON', `{"keys": [{"id": "a", "key": ${KEY}`, /it is not JSON/],
    ['no keys', '{"keys":[]}', /\/keys /],
    ['not a list', `{"keys":{"id":"a","key":"${KEY}"}}`, /\/keys must be array/],
    ['no key in an entry', '{"keys":[{"id":"a"}]}', /\/keys\/0 .*key/],
    [
      'half a key',
      `{"keys":[{"id":"a","key":"${KEY.slice(4)}"}]}`,
      /\/keys\/0\/key: it takes 32 random bytes/,
    ],
    ['a key for an id', `{"keys":[{"id":"${HEX}","key":"${KEY}"}]}`, /\/keys\/0\/id must match/],
    [
      'a word that is not known',
      `{"keys":[{"id":"a","key":"${KEY}","retierd":true}]}`,
      /\/keys\/0 has a field that is not known$/,
    ],
    [
      'a key for a field',
      `{"keys":[{"id":"a","key":"${newKey()}","${HEX}":""}]}`,
      /\/keys\/0 has a field that is not known$/,
    ],
    [
      'a number for a worker',
      `{"keys":[{"id":"a","key":"${KEY}","workers":[1]}]}`,
      /\/keys\/0\/workers\/0 must be string$/,
    ],
    [
      'nobody it is meant for',
      `{"keys":[{"id":"a","key":"${KEY}","workers":[]}]}`,
      /\/keys\/0\/workers must/,
    ],
    [
      'an id twice',
      `{"keys":[{"id":"a","key":"${KEY}"},{"id":"a","key":"${newKey()}"}]}`,
      /\/keys\/1 has the id of \/keys\/0: give each key an id of its own/,
    ],
    [
      'a key twice',
      `{"keys":[{"id":"a","key":"${KEY}"},{"id":"b","key":"${HEX}","workers":["fraud"]}]}`,
      /\/keys\/1 has the key of \/keys\/0: make each entry a key of its own/,
    ],
  ]
  for (const [what, content, problem] of wrong) {
    it(`refuses a file with ${what}, by its name and the place, without what is in it`, (t) => {
      const file = keyFile(t, [])
      writeFileSync(file.path, content)
      const message = refusal(file.load)
      assert.match(message, problem)
      assert.ok(message.startsWith(`key file ${file.path} is not usable: `), message)
    })
  }

  it('refuses a file that is not there', () => {
    assert.match(
      refusal(() => KeyRing.fromFile('/nonexistent/keys.json')),
      /^key file \/nonexistent\/keys\.json is not usable: ENOENT/,
    )
  })
})

describe('rotation', () => {
  const entry = (id: string, more: Partial<Entry> = {}): Entry => ({ id, key: newKey(), ...more })

  it('is seen after a second, or at once when a key id is unknown', (t) => {
    const [first, second, third] = [entry('1'), entry('2'), entry('3')]
    const file = keyFile(t, [first])
    const [sealer, opener] = [file.load(), file.load()]
    file.write([first, second])
    file.clock.nowMs = 999
    assert.equal(sealer.forSealing('fraud').id, '1', 'looked at before its time')
    file.clock.nowMs = 1_000
    assert.equal(sealer.forSealing('fraud').id, '2')
    file.write([{ ...first, retired: true }, second, third])
    assert.equal(opener.find('2', 'fraud').symmetricKeySize, 32)
    file.clock.nowMs = 1_001
    assert.deepEqual(sealer.ids, ['1', '2'])
    assert.equal(sealer.find('3', 'fraud').symmetricKeySize, 32)
    assert.equal(sealer.forSealing('fraud').id, '3')
    file.write([third])
    file.clock.nowMs = 3_000
    assert.match(
      refusal(() => sealer.find('1', 'fraud'), UnusableRecordError),
      /key '1', which is not known here/,
    )
    assert.deepEqual(file.problems, [])
  })

  it('refuses nothing that is under way, in whatever order the processes see it', (t) => {
    let keys = [entry('0')]
    const file = keyFile(t, keys)
    const rings = [file.load(), file.load(), file.load()]
    const usedIds = new Set<string>()
    const underWay: string[] = []
    for (let round = 1; round <= 20; round += 1) {
      keys = [...keys.slice(-4).map((key) => ({ ...key, retired: round % 2 === 0 })), entry(String(round))]
      file.write(keys)
      file.clock.nowMs += 400
      for (const [index, sealer] of rings.entries()) {
        const sealed = seal(sealer, label('fraud'), `${round}`)
        usedIds.add(parseEnvelope(Buffer.from(sealed)).key_id)
        underWay.push(sealed)
        // The others see the change by the message, or not yet.
        assert.equal(openAt(rings[(index + round) % 3]!, 'fraud', sealed), `${round}`)
      }
      for (const sealed of underWay.splice(0, Math.max(0, underWay.length - 3)))
        openAt(rings[0]!, 'fraud', sealed)
    }
    assert.ok(usedIds.size > 5, `sealed with ${usedIds.size} keys`)
    assert.deepEqual(file.problems, [])
  })

  it('keeps the keys that it has when the file becomes unusable, says so once, and takes it when it is mended', (t) => {
    const [first, second] = [entry('1', { key: KEY }), entry('2')]
    const file = keyFile(t, [first])
    const ring = file.load()
    const look = () => {
      file.clock.nowMs += 1_000
      return ring.forSealing('fraud').id
    }
    writeFileSync(file.path, `{"keys":[{"id":"1","key":"${KEY}"},`)
    assert.deepEqual([look(), look()], ['1', '1'])
    assert.equal(file.problems.length, 1)
    assert.match(
      file.problems[0]!,
      /keys\.json is not usable: it is not JSON; the keys that were read before stay/,
    )
    assert.ok(!file.problems[0]!.includes(KEY))
    rmSync(file.path)
    assert.deepEqual([look(), look()], ['1', '1'])
    assert.match(file.problems[1]!, /ENOENT/)
    refusal(() => ring.find('2', 'fraud'), UnusableRecordError)
    assert.equal(file.problems.length, 2)
    file.write([first, second])
    assert.equal(look(), '2')
    rmSync(file.path)
    look()
    assert.equal(file.problems.length, 3, 'the same problem anew is said anew')
    file.write([first])
    assert.equal(look(), '1')
  })
})

describe('a key file that is created', () => {
  const workers = ['validator', 'judges', 'inventory-answers', 'w'.repeat(64)]

  it('has a key for each worker and none for others, and is for its owner alone', (t) => {
    const { path } = keyFile(t, [])
    const fresh = join(path, '..', 'made', 'keys.json')
    assert.equal(addMissingKeys(fresh, workers), true)
    assert.equal(statSync(fresh).mode & 0o777, 0o600)
    const ring = KeyRing.fromFile(fresh, assert.fail)
    assert.equal(ring.ids.length, workers.length)
    for (const worker of workers) {
      assert.equal(openAt(ring, worker, seal(ring, label(worker), 'text')), 'text')
      assert.deepEqual(
        ring.ids.filter((id) => ring.forSealing(worker).id === id),
        [ring.forSealing(worker).id],
      )
    }
    refusal(() => ring.forSealing('mail'))
  })

  it('is left as it is when there is one', (t) => {
    const { path } = keyFile(t, [{ id: 'mine', key: KEY }])
    const before = readFileSync(path, 'utf8')
    assert.equal(addMissingKeys(path, workers), false)
    assert.equal(readFileSync(path, 'utf8'), before)
  })

  it('is given the keys that it lacks, and keeps those that it has', (t) => {
    const { path, load } = keyFile(t, [
      { id: 'mine', key: KEY, workers: ['judges'] },
      { id: 'old', key: newKey(), workers: ['fraud'], retired: true },
    ])
    const ring = load()
    const sealed = seal(ring, label('judges'), 'text')
    assert.equal(addMissingKeys(path, ['judges', 'fraud', 'mail']), true)
    const { ids } = load()
    assert.deepEqual([ids.length, ids.slice(0, 2)], [4, ['mine', 'old']])
    assert.equal(openAt(load(), 'judges', sealed), 'text')
    assert.equal(addMissingKeys(path, ['judges', 'fraud', 'mail']), false)
  })

  it('that cannot be written is refused by its name', (t) => {
    const { path } = keyFile(t, [{ id: 'mine', key: KEY }])
    assert.match(
      refusal(() => addMissingKeys(join(path, 'keys.json'), workers)),
      /cannot be written/,
    )
  })
})
