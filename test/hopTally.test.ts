import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HopTally } from '../lib/hopTally.ts'
import { inParallel } from '../lib/inParallel.ts'

test('a tally of hops has the percentiles by nearest rank, exact below two seconds and near a thousandth above', () => {
  const short = new HopTally()
  for (let ms = 2_000; ms >= 1; ms--) short.take(ms % 4 !== 0, ms)
  assert.deepEqual(short.figures(), {
    hops: 2_000,
    refused: 500,
    p50Ms: 1_000,
    p99Ms: 1_980,
    meanMs: 1_000.5,
  })

  const long = new HopTally()
  for (let index = 1; index <= 100_000; index++) long.take(true, index * 1_001)
  const { p50Ms, p99Ms } = long.figures()
  for (const [found, exact] of [
    [p50Ms, 50_000 * 1_001],
    [p99Ms, 99_000 * 1_001],
  ] as const) {
    assert.equal(found % 1_001, 0, 'a time that one of them had')
    assert.ok(Math.abs(found - exact) <= exact / 1_000, `${found} for ${exact}`)
  }

  const alone = new HopTally()
  alone.take(false, 7)
  assert.deepEqual(alone.figures(), { hops: 1, refused: 1, p50Ms: 7, p99Ms: 7, meanMs: 7 })
})

test('work in parallel is so many at a time, and after a failure no more is begun', async () => {
  let atOnce = 0
  let most = 0
  let begun = 0
  const work = function* (count: number, failing: number) {
    for (let index = 0; index < count; index++) {
      yield async () => {
        begun++
        most = Math.max(most, ++atOnce)
        await new Promise(setImmediate)
        atOnce--
        if (index === failing) throw new Error(`failed at ${index}`)
      }
    }
  }
  await inParallel(work(50, -1), 4)
  assert.deepEqual([begun, most], [50, 4])
  begun = 0
  await assert.rejects(inParallel(work(50, 10), 4), /failed at 10/)
  assert.ok(begun <= 15, `${begun} were begun`)
})
