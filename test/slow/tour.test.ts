import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended, startScript, stopScript } from '../../lib/childProcesses.ts'
import { TOUR_STEPS } from '../../lib/tourSteps.ts'
import { until } from '../harness.ts'
import { assertGone, prefixIn, takeTour, tourSettings } from '../tourHarness.ts'

test('the whole tour shows what it says, and leaves nothing behind', { timeout: 600_000 }, async (t) => {
  const { result, narration } = await takeTour(t, [])
  assert.ok(result.ok)
  assert.deepEqual(
    result.steps.map(({ name }) => name),
    TOUR_STEPS.map(({ name }) => name),
  )
  assert.match(narration, /orders\.validated\/\d\/0 +key ord-\w+-1 +source orders\.raw\/\d\/0/)
  assert.match(narration, /inventory +\d+ +InventoryUpdated at inventory\.events\/\d\/0/)
  const factsOf = (name: string) => result.steps.find((step) => step.name === name)?.facts
  assert.deepEqual(factsOf('fan-out'), { groups: 6, records: 1 })
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
