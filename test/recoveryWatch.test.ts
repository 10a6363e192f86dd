import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recoveryMs } from '../lib/recoveryWatch.ts'

const looks = (...seen: [atMs: number, isStalled: boolean][]) =>
  seen.map(([atMs, isStalled]) => ({ atMs, stalled: isStalled ? ['payment'] : [] }))

test('recovery is told by the first look after which nobody stood still any more', () => {
  const seen = looks([0, true], [500, false], [1_000, true], [1_500, false], [2_000, true], [2_500, false])
  assert.equal(recoveryMs(seen, 700, 3_000), 1_800)
})

test('a fault that nobody felt took no time', () => {
  assert.equal(recoveryMs(looks([0, true], [500, false], [1_000, false]), 400, 2_000), 0)
})

test('what was not over at the end, or not looked at, is not known', () => {
  assert.equal(recoveryMs(looks([500, false], [1_000, true]), 400, 2_000), undefined)
  assert.equal(recoveryMs(looks([500, true], [1_000, true], [1_500, false]), 400, 1_200), undefined)
  assert.equal(recoveryMs(looks([3_000, false]), 400, 2_000), undefined)
})
