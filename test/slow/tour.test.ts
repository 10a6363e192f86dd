import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended, startScript, stopScript } from '../../lib/childProcesses.ts'
import { TOUR_STEPS } from '../../lib/tourSteps.ts'
import { until } from '../harness.ts'
import { assertGone, prefixIn, takeTour, tourSettings } from '../tourHarness.ts'

test('the whole tour shows what it says, and leaves nothing behind', async (t) => {
  const { result } = await takeTour(t, [])
  assert.ok(result.ok)
  assert.deepEqual(
    result.steps.map(({ name }) => name),
    TOUR_STEPS.map(({ name }) => name),
  )
  const factsOf = (name: string) => result.steps.find((step) => step.name === name)?.facts
  assert.equal(factsOf('sharing')?.members, 2)
  assert.deepEqual([factsOf('retry')?.orders, factsOf('retry')?.charges], [30, 30])
  assert.deepEqual(factsOf('duplicate'), { refusals: 2, charges: 1 })
  const { aborted, lost, duplicated, chargedTwice } = factsOf('killed')!
  assert.ok(aborted! > 0)
  assert.deepEqual([lost, duplicated, chargedTwice], [0, 0, 0])
})

test('a tour that is interrupted leaves nothing behind', async (t) => {
  const told: string[] = []
  const child = startScript({
    script: 'tools/tour.ts',
    args: ['--fast'],
    env: tourSettings(),
    print: (line) => told.push(line),
  })
  t.after(() => stopScript(child))
  await until('its first step begins', () => told.some((line) => line.includes('1/7')))
  child.kill('SIGINT')
  assert.equal(await ended(child), 1, told.join('\n'))
  assert.match(told.join('\n'), /interrupted/)
  await assertGone(prefixIn(told.join('\n'))!)
})
