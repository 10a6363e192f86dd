// Sealed topics without the Command Center: any of them by configuration, and keys that are rotated while services run.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseEnvelope } from '../lib/crypto.ts'
import { readAll, untilDrained } from './harness.ts'
import { marksInSegments, plaintextMarks, startRouted } from './routedPipeline.ts'

test('topics that are to be sealed are, others are not, and keys are rotated without a stop or a dead letter', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'order-pipeline-keys-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'keys.json')
  const keys = ['old', 'new'].map((id) => ({ id, key: randomBytes(32).toString('base64') }))
  const writeKeys = (entries: object[]) => writeFileSync(file, JSON.stringify({ keys: entries }))
  writeKeys(keys.slice(0, 1))
  const settings = {
    ROUTING: 'direct',
    ENCRYPTION_KEY: '',
    ENCRYPTION_KEYS_FILE: file,
    SEALED_TOPICS: 'orders.raw,orders.validated',
  }
  const pipeline = await startRouted(t, settings, ['validator', 'pricingService'])
  const { config } = pipeline
  const { ordersRaw, ordersValidated, pricingEvents, deadLetters } = config.topics
  const keyIds = async () => {
    const records = (await readAll(config, [ordersValidated.name])).get(ordersValidated.name)!
    return records.map(({ value }) => parseEnvelope(value!).key_id)
  }

  await pipeline.place(30)
  await untilDrained(config, 30, { answering: ['pricing'] })
  writeKeys(keys)
  await pipeline.place(30)
  await untilDrained(config, 60, { answering: ['pricing'] })
  const ids = await keyIds()
  assert.deepEqual([ids.filter((id) => id === 'old').length >= 30, ids.length], [true, 60])
  // Within a second of the change all seal with the new one.
  const newest = [{ ...keys[0]!, retired: true }, keys[1]!]
  writeKeys(newest)
  await pipeline.place(30)
  await untilDrained(config, 90, { answering: ['pricing'] })
  assert.ok((await keyIds()).includes('new'))

  assert.deepEqual(marksInSegments([ordersRaw.name, ordersValidated.name], plaintextMarks()), [])
  assert.ok(marksInSegments([pricingEvents.name], ['"subtotal"']).length > 0, 'the others are as they were')
  const letters = [deadLetters.validator.name, deadLetters.pricing.name]
  for (const [topic, records] of await readAll(config, letters)) assert.equal(records.length, 0, topic)
})
