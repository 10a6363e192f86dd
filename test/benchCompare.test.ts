/** The comparison of what the peers of `npm run bench` wrote: a loss, a duplicate and a changed record are found. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  addEvents,
  addLetters,
  emptyPrint,
  findDifferences,
  type OutputPrint,
} from '../bench/stageCompare.ts'
import type { TopicRecord } from '../lib/topicReader.ts'

const ORDERS = 10
/** Offsets of one partition of the backlog, by output. */
const OUTPUT = { validated: [0, 1, 2, 4, 5, 7, 8], rejected: [3, 9], letters: [6] }

function recordOf(source: number, text = 'as decided'): TopicRecord {
  return {
    offset: source,
    timestampMs: 1,
    key: Buffer.from(`ord-${source}`),
    value: Buffer.from(JSON.stringify({ occurredAt: String(Math.random()), text })),
    headers: { source: Buffer.from(`orders.raw/0/${source}`), reason: Buffer.from('not JSON') },
  }
}

/** What a peer wrote that has committed so many orders. @param changed is written with another value */
function printOf(committed: number, output = OUTPUT, changed?: number): OutputPrint {
  const print = emptyPrint([[0, committed]])
  const toRecord = (source: number) => recordOf(source, source === changed ? 'otherwise' : 'as decided')
  addEvents(print, 'orders.validated/0', output.validated.map(toRecord))
  addEvents(print, 'orders.rejected/0', output.rejected.map(toRecord))
  addLetters(
    print,
    output.letters.map((source) => ({ ...toRecord(source), value: Buffer.from(`{${source}`) })),
  )
  return print
}

const FULL = { orders: ORDERS, isPart: false }
const partOf = (orders: number) => ({ orders, isPart: true })
const WHOLE = printOf(ORDERS)

test('the same output is the same, also when it goes on behind what was committed', () => {
  assert.deepEqual(findDifferences(WHOLE, WHOLE, FULL), [])
  assert.deepEqual(findDifferences(WHOLE, printOf(ORDERS), FULL), [])
  const part = { validated: [0, 1, 2, 4], rejected: [3], letters: [] }
  for (const committed of [4, 5]) {
    assert.deepEqual(findDifferences(WHOLE, printOf(committed, part), partOf(4)), [])
  }
})

test('a peer that committed a part and wrote nothing of it, or not all, is found', () => {
  const nothing = { validated: [], rejected: [], letters: [] }
  const missing = (offset: number) => [`order 0/${offset} is committed, and was written 0 times`]
  assert.deepEqual(findDifferences(WHOLE, printOf(3, nothing), partOf(3)), missing(0))
  assert.deepEqual(findDifferences(WHOLE, printOf(0, nothing), partOf(3)), ['0 of 3 orders are committed'])
  const noLast = { validated: [0, 1, 2, 4, 5], rejected: [3], letters: [] }
  assert.deepEqual(findDifferences(WHOLE, printOf(7, noLast), partOf(7)), missing(6))
})

test('a loss is found in each output, also by the peer that is the measure for the others', () => {
  for (const [name, offsets] of Object.entries(OUTPUT)) {
    const lost = printOf(ORDERS, { ...OUTPUT, [name]: offsets.slice(0, -1) })
    assert.ok(findDifferences(WHOLE, lost, FULL).length > 0, name)
    assert.deepEqual(findDifferences(lost, lost, FULL), [
      '9 records were written for 10 orders',
      `order 0/${offsets.at(-1)} is committed, and was written 0 times`,
    ])
  }
})

test('a duplicate is found in each output, dead letters among them', () => {
  for (const [name, offsets] of Object.entries(OUTPUT)) {
    const twice = printOf(ORDERS, { ...OUTPUT, [name]: [...offsets, offsets.at(-1)!] })
    for (const run of [FULL, partOf(ORDERS)]) {
      const found = findDifferences(WHOLE, twice, run)
      assert.ok(found.includes(`order 0/${offsets.at(-1)} is committed, and was written 2 times`), name)
    }
  }
})

test('a changed record is found, and so is a changed dead letter', () => {
  assert.deepEqual(findDifferences(WHOLE, printOf(ORDERS, OUTPUT, 5), partOf(ORDERS)), [
    'orders.validated/0: record 4 of 7 and 7 differs',
  ])
  const changed = printOf(ORDERS, { ...OUTPUT, letters: [] })
  addLetters(changed, [{ ...recordOf(6), value: Buffer.from('{otherwise') }])
  assert.deepEqual(findDifferences(WHOLE, changed, FULL), ['the dead letter of orders.raw/0/6 differs'])
})
