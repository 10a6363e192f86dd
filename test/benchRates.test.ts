/** The judgement and the search of `npm run bench`: what it calls a sustained rate. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { NAIVE } from '../bench/naive/kind.ts'
import { OURS } from '../bench/pipelineRun.ts'
import { type Reading, slopeOf, whyNotSustained } from '../bench/rateStep.ts'
import { searchSustainedRate } from '../bench/sustainedRate.ts'
import { SERVICES } from '../bench/trial.ts'

const RATE = 100
const AS_PLACED = { ratePerSecond: RATE, placedPerSecond: RATE, unacknowledged: 0 }

/** A reading a second of one group. */
function readings(lags: readonly number[]): Reading[] {
  return lags.map((records, atSeconds) => ({ atSeconds, lags: { 'group topic': records, 'other topic': 0 } }))
}

test('a lag that comes and goes with the beat of commits is sustained', () => {
  assert.equal(whyNotSustained(readings([40, 10, 50, 20, 45, 15, 40, 10]), AS_PLACED), '')
})

test('a group that falls behind by a tenth of the rate is found, long before it is three seconds behind', () => {
  const growing = Array.from({ length: 11 }, (_, second) => 20 + second * RATE * 0.1)
  assert.match(whyNotSustained(readings(growing), AS_PLACED), /^group topic falls behind by 10 %$/)
})

test('a group that stays three seconds behind is not keeping up', () => {
  assert.match(
    whyNotSustained(readings(new Array(11).fill(3.5 * RATE)), AS_PLACED),
    /^group topic is 3.5 s behind$/,
  )
})

test('a load that could not be placed says nothing of a rate', () => {
  const reason = whyNotSustained(readings([0, 0, 0]), { ...AS_PLACED, placedPerSecond: 0.9 * RATE })
  assert.match(reason, /^only 90\/s were placed$/)
})

test('a load that the broker does not acknowledge in time is not sustained', () => {
  const reasonOf = (unacknowledged: number) =>
    whyNotSustained(readings([0, 0, 0]), { ...AS_PLACED, unacknowledged })
  assert.equal(reasonOf(3 * RATE), '')
  assert.match(reasonOf(3.5 * RATE), /^the broker is 3.5 s behind with the load$/)
})

test('the slope is that of the line of least squares', () => {
  const line = [0, 1, 2, 3].map((x) => [x, 7 - 2 * x] as const)
  assert.equal(slopeOf(line), -2)
  assert.equal(slopeOf([[5, 1]]), 0)
})

for (const capacity of [12, 37, 400, 9_000]) {
  test(`the search finds a pipeline's ${capacity}/s from above and from below`, async () => {
    for (const firstRate of [capacity / 10, capacity * 10]) {
      const { best, firstTooHigh } = await searchSustainedRate({
        ...{ firstRate, precision: 1.1, maxSteps: 20 },
        step: async (ratePerSecond) => ({ ratePerSecond, isSustained: ratePerSecond <= capacity }),
      })
      assert.ok(best!.ratePerSecond <= capacity && firstTooHigh! > capacity)
      assert.ok(firstTooHigh! / best!.ratePerSecond <= 1.1)
    }
  })
}

test('the search ends after so many steps, also when every rate is sustained or none is', async () => {
  for (const isSustained of [true, false]) {
    const step = async (ratePerSecond: number) => ({ ratePerSecond, isSustained })
    const { steps } = await searchSustainedRate({ firstRate: 100, precision: 1.1, maxSteps: 5, step })
    assert.equal(steps.length, 5)
  }
})

test('both pipelines have a script for each service, and the same gateway', () => {
  for (const { scriptOf } of [OURS, NAIVE]) {
    for (const name of [...SERVICES, 'paymentGateway']) {
      assert.ok(existsSync(new URL(`../${scriptOf(name)}`, import.meta.url)), scriptOf(name))
    }
  }
  assert.equal(OURS.scriptOf('paymentGateway'), NAIVE.scriptOf('paymentGateway'))
})
