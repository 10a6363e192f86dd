import assert from 'node:assert/strict'
import { test } from 'node:test'
import { migrateDatabase, openDatabase, query } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { OrderStatistics, summarise } from '../lib/orderStatistics.ts'
import { compareAnalytics, compareStored, readStoredSums, type StoredSums } from '../lib/runChecks.ts'
import { Tally } from '../lib/tally.ts'
import { defineTopics } from '../lib/topics.ts'
import { testEnvironment } from './harness.ts'

const OURS = { unitsConfirmed: 7, hasLedger: true }
const BEFORE: StoredSums = {
  wrongProducts: 0,
  reserved: 1,
  committed: 10,
  authorisations: 5,
  captures: 4,
  voids: 1,
  capturedMinor: { EUR: 1_000 },
}
const AFTER: StoredSums = {
  wrongProducts: 0,
  reserved: 1,
  committed: 17,
  authorisations: 8,
  captures: 6,
  voids: 2,
  capturedMinor: { EUR: 1_500, GBP: 30 },
}

function figures() {
  const { figures } = new Tally(defineTopics(''))
  const capturedMinor = { EUR: 500, GBP: 30 }
  return Object.assign(figures, { authorised: 3, captured: 2, voided: 1, capturedMinor })
}

test('nothing is said when stock and ledger have grown by what the topics say', () => {
  assert.deepEqual(compareStored(BEFORE, AFTER, figures(), OURS), [])
})

test('whatever else is stored is said, and of a gateway that is not ours nothing is known', () => {
  const defects: [Partial<StoredSums>, RegExp][] = [
    [{ wrongProducts: 1 }, /^products whose stock does not add up: 1, by the topics 0$/],
    [{ reserved: 3 }, /^pieces of stock that are still reserved: 2, by the topics 0$/],
    [{ committed: 16 }, /^pieces of stock committed: 6, by the topics 7$/],
    [{ authorisations: 9 }, /^authorisations in the ledger: 4, by the topics 3$/],
    [{ captures: 7 }, /^captures in the ledger: 3, by the topics 2$/],
    [{ voids: 1 }, /^voids in the ledger: 0, by the topics 1$/],
    [{ capturedMinor: { EUR: 1_500 } }, /^captured by the ledger, GBP: 0, by the topics 30$/],
  ]
  for (const [defect, says] of defects) {
    const complaints = compareStored(BEFORE, { ...AFTER, ...defect }, figures(), OURS)
    assert.equal(complaints.length, 1, complaints.join('\n'))
    assert.match(complaints[0]!, says)
  }
  const elsewhere = { ...OURS, hasLedger: false }
  assert.deepEqual(compareStored(BEFORE, { ...AFTER, captures: 0 }, figures(), elsewhere), [])
})

test('a figure that analytics has otherwise is said', () => {
  const summary = summarise([new OrderStatistics(0)], 0)
  const same = new Tally(defineTopics('')).figures
  assert.deepEqual(compareAnalytics(summary, same), [])
  const other = { ...same, confirmed: 1, revenueMinor: { EUR: 10 }, capturedMinor: { EUR: 5 } }
  assert.deepEqual(compareAnalytics(summary, other), [
    'analytics, confirmed: 0, by the topics 1',
    'analytics, booked EUR: 0, by the topics 10',
    'analytics, captured EUR: 0, by the topics 5',
  ])
})

test('sums are read over all products and all entries of the ledger, tombstones left out', async (t) => {
  const { DATABASE_URL } = await testEnvironment(t)
  const log = createLogger('test', { level: 'silent', format: 'json', color: false })
  const database = openDatabase(DATABASE_URL!, 1, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  assert.deepEqual(await readStoredSums(database), {
    wrongProducts: 0,
    reserved: 0,
    committed: 0,
    authorisations: 0,
    captures: 0,
    voids: 0,
    capturedMinor: {},
  })
  const run = (text: string) => query(database, { text })
  await run(`INSERT INTO stock (sku, received, available, reserved, committed)
    VALUES ('A', 10, 5, 3, 2), ('B', 10, 9, 1, 0)`)
  await run(
    `INSERT INTO stock_receipts (cause, sku, quantity) VALUES ('initial', 'A', 10), ('initial', 'B', 9)`,
  )
  await run(`INSERT INTO gateway.ledger
    (idempotency_key, operation, order_id, amount_minor, currency, status, authorisation_id, reason)
    VALUES ('1', 'authorise', 'ord-1', 100, 'EUR', 'authorised', 'a1', NULL),
      ('2', 'capture', 'ord-1', 90, 'EUR', 'captured', 'a1', NULL),
      ('3', 'authorise', 'ord-2', 7, 'EUR', 'authorised', 'a2', NULL),
      ('4', 'void', 'ord-2', 7, 'EUR', 'voided', 'a2', NULL),
      ('5', 'void', 'ord-3', 8, 'EUR', 'voided', NULL, NULL),
      ('6', 'authorise', 'ord-4', 8, 'EUR', 'declined', NULL, 'no')`)
  assert.deepEqual(await readStoredSums(database), {
    wrongProducts: 1,
    reserved: 4,
    committed: 2,
    authorisations: 2,
    captures: 1,
    voids: 1,
    capturedMinor: { EUR: 90 },
  })
})
