// The whole life of orders by way of the Command Center, on the real broker: the same guarantees, and nothing to be read.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { listTopics } from '../lib/topics.ts'
import { until } from './harness.ts'
import { failuresOf, marksInSegments, plaintextMarks, startRouted } from './routedPipeline.ts'

const ORDERS = 200

test('orders live as before by way of the Command Center, and nobody on the way can read them', async (t) => {
  const pipeline = await startRouted(t)
  const { config, services } = pipeline
  await pipeline.place(ORDERS)
  await pipeline.untilDrained()
  assert.deepEqual(failuresOf(await pipeline.verify()), [])

  // Not one that the Command Center or its broker holds can be read: neither segments, nor tables, nor what it said.
  const marks = plaintextMarks()
  const { products, ...others } = config.topics
  const sealed = listTopics({ products, ...others }).filter(({ name }) => name !== products.name)
  assert.deepEqual(
    marksInSegments(
      sealed.map(({ name }) => name),
      marks,
    ),
    [],
  )
  assert.ok(marksInSegments([products.name], ['"unitPrice"']).length > 0, 'what is there is found')
  const database = openDatabase(config.databaseUrl, 1, createLogger('test', config.log))
  t.after(() => database.end())
  const { rows } = await database.query<{ row: string }>(
    `SELECT to_jsonb(hop)::text AS row FROM command_center.hops AS hop
     UNION ALL SELECT to_jsonb(route)::text FROM command_center.routes AS route`,
  )
  assert.ok(rows.length > ORDERS * 8, `${rows.length} rows`)
  const said = [...services.values()].flatMap(({ lines }) => lines)
  const readable = [...rows.map(({ row }) => row), ...said].filter((text) =>
    marks.some((mark) => text.includes(mark)),
  )
  assert.deepEqual(readable, [])

  // A disabled route holds its messages; once it is enabled again, redriving delivers all of them, once.
  await pipeline.run('routes', ['disable', '--worker', 'fraud-answers'])
  await until('the Command Center has seen it', () =>
    services.get('commandCenter')!.lines.some((line) => /1 of them disabled/.test(line)),
  )
  await pipeline.place(40)
  await until('its messages are dead letters', async () => (await pipeline.deadLetters()) === 40)
  assert.deepEqual(failuresOf(await pipeline.verify([])), [])
  const held = await pipeline.verify()
  assert.ok(!held.ok && held.totals.deadLettersOpen === 40, JSON.stringify(held.totals))
  await pipeline.run('routes', ['enable', '--worker', 'fraud-answers'])
  await until(
    'the Command Center has seen that, too',
    () => services.get('commandCenter')!.lines.filter((line) => /0 of them disabled/.test(line)).length > 1,
  )
  await pipeline.run('dlq', ['redrive', '--group', 'command-center', '--yes'])
  await pipeline.untilDrained()
  const report = await pipeline.verify()
  assert.deepEqual(failuresOf(report), [])
  assert.equal(report.totals.validated, ORDERS + 40)
})
