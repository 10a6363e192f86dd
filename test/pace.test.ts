import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Pace } from '../lib/pace.ts'

/** Takes whatever is owed at each of these times. @returns how many in all */
function run(pace: Pace, timesMs: number[]): number {
  let taken = 0
  for (const timeMs of timesMs) {
    const owed = pace.owed(timeMs)
    pace.take(owed)
    taken += owed
  }
  return taken
}

test('ten seconds hold ten times the rate, however irregular the looks at the clock', () => {
  const looks = fc.array(fc.double({ min: 0, max: 10_000, noNaN: true }), { maxLength: 200 })
  fc.assert(
    fc.property(fc.constantFrom(1, 3, 100, 5_000), looks, (rate, times) => {
      const sorted = [...times.sort((a, b) => a - b), 10_000]
      assert.equal(run(new Pace(rate, 0), sorted), rate * 10)
    }),
  )
})

test('lateness does not add up: an hour of ticks that all come late is on the mark', () => {
  const pace = new Pace(7, 1_000)
  const taken = run(
    pace,
    Array.from({ length: 3_600_000 / 11 }, (_, tick) => 1_000 + tick * 11 + (tick % 5)),
  )
  assert.ok(Math.abs(taken - 7 * 3_600) <= 1, `${taken}`)
})

test('what was not placed during a stall is owed afterwards', () => {
  const pace = new Pace(1_000, 0)
  run(pace, [1_000])
  assert.equal(pace.owed(61_000), 60_000)
  pace.take(1_000)
  assert.equal(pace.owed(61_000), 59_000)
})

test('the wait ends when the next one is due and not before', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.1, max: 10_000, noNaN: true }),
      fc.double({ min: 0, max: 100_000, noNaN: true }),
      (rate, nowMs) => {
        const pace = new Pace(rate, 0)
        pace.take(pace.owed(nowMs))
        const waitMs = pace.waitMs(nowMs)
        assert.ok(waitMs > 0)
        // A microsecond of room for the rounding of fractions.
        assert.equal(pace.owed(nowMs + waitMs - 0.001), 0)
        assert.equal(pace.owed(nowMs + waitMs + 0.001), 1)
      },
    ),
  )
})

test('a new rate holds from the moment of the change, and what was owed stays owed', () => {
  const pace = new Pace(10, 0)
  pace.setRate(100, 5_000)
  assert.equal(pace.owed(5_000), 50)
  assert.equal(pace.owed(6_000), 150)
  pace.take(150)
  pace.setRate(0, 6_000)
  assert.equal(pace.owed(60_000), 0)
  assert.equal(pace.waitMs(60_000), Number.POSITIVE_INFINITY)
  pace.setRate(1, 60_000)
  assert.equal(pace.owed(70_000), 10)
})

test('many changes of the rate lose no fraction of an order', () => {
  const pace = new Pace(1, 0)
  for (let tick = 1; tick <= 1_000; tick++) pace.setRate(tick % 2 ? 1.1 : 0.9, tick * 100)
  assert.ok(Math.abs(pace.owed(100_000) - 100) <= 1)
})
