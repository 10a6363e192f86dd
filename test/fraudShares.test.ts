import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OrderPlaced } from '../lib/events.ts'
import { createSimulator } from '../lib/simulator.ts'
import { AssessmentBook } from './fraudHarness.ts'

/** Ten seconds before a minute is over: from then on the rule of bursts is awake. */
const START_MS = Date.UTC(2026, 3, 1, 12, 0, 50)

/** Places orders at one rate after another, as far as clocks and rules can tell. */
function simulate(...phases: { ratePerSecond: number; seconds: number }[]): AssessmentBook {
  let nowMs = START_MS
  const { catalogue, next } = createSimulator({ seed: 7, badRatio: 0, runId: 'run', nowMs: () => nowMs })
  const customers = new Map(catalogue.customers.map((customer) => [customer.id, customer]))
  const book = new AssessmentBook()
  for (const { ratePerSecond, seconds } of phases) {
    for (let count = 0; count < ratePerSecond * seconds; count++) {
      nowMs += 1_000 / ratePerSecond
      const order: OrderPlaced = JSON.parse(next().value.toString())
      book.take(order, customers.get(order.customerId)!)
    }
  }
  return book
}

function assertUsualShares(book: AssessmentBook): void {
  const [warnings, fails] = [book.share('warning'), book.share('fail')]
  assert.ok(warnings > 0.02 && warnings < 0.05, `${book}`)
  assert.ok(fails > 0.007 && fails < 0.015, `${book}`)
  assert.equal(book.rules.get('burst'), undefined)
}

for (const [ratePerSecond, seconds] of [
  [50, 120],
  [1_000, 30],
  [5_000, 15],
] as const) {
  test(`of simulated orders at ${ratePerSecond} a second one in a hundred fails and three are warned of`, () => {
    assertUsualShares(simulate({ ratePerSecond, seconds }))
  })
}

test('a rate that is raised a hundredfold makes suspects of nobody', () => {
  assertUsualShares(simulate({ ratePerSecond: 10, seconds: 300 }, { ratePerSecond: 1_000, seconds: 30 }))
})
