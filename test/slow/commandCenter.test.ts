// What takes longer of test/commandCenter.test.ts: many orders, and many kills.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended } from '../../lib/childProcesses.ts'
import { listTopics } from '../../lib/topics.ts'
import { runScript, tasksOf, until } from '../harness.ts'
import {
  failuresOf,
  marksInSegments,
  plaintextMarks,
  ROUTED_SERVICES,
  startRouted,
} from '../routedPipeline.ts'

test('5,000 orders leave nothing that can be read in the segments of the broker', async (t) => {
  const pipeline = await startRouted(t)
  await pipeline.place(5_000)
  await pipeline.untilDrained()
  const { products } = pipeline.config.topics
  const topics = listTopics(pipeline.config.topics).map(({ name }) => name)
  const sealed = topics.filter((name) => name !== products.name)
  assert.deepEqual(marksInSegments(sealed, plaintextMarks()), [])
  assert.deepEqual(failuresOf(await pipeline.verify()), [])
})

const KILLS = 20

test(`the Command Center is killed ${KILLS} times under load: nothing is lost or doubled, and its log is whole`, async (t) => {
  const others = ROUTED_SERVICES.filter((name) => name !== 'commandCenter')
  const pipeline = await startRouted(t, {}, others)
  const { environment } = pipeline
  const start = () => runScript(t, 'commandCenter', environment)
  const instances = [start(), start()]
  const producer = runScript(t, 'producer', environment, ['--rate', '40'])
  for (let kill = 0; kill < KILLS; kill++) {
    const index = kill % 2
    await until('it has tasks', () => tasksOf(instances[index]!).length > 0)
    const { child } = instances[index]!
    child.kill('SIGKILL')
    await ended(child)
    instances[index] = start()
  }
  producer.child.kill('SIGTERM')
  assert.equal(await ended(producer.child), 0)
  const placed = /placed ([\d,]+)/.exec(producer.lines.findLast((line) => /placed [\d,]+/.test(line)) ?? '')
  assert.ok(placed, producer.lines.slice(-3).join('\n'))
  await pipeline.untilDrained()
  const report = await pipeline.verify()
  assert.deepEqual(failuresOf(report), [])
  assert.ok(report.totals.validated > 100, JSON.stringify(report.totals))
})
