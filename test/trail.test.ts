import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '../kafkaConfig.ts'
import { runScript } from '../lib/childProcesses.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { readTrailPlan } from '../lib/hopQueries.ts'
import { formatSummaries, formatTrail } from '../lib/hopQueriesDisplay.ts'
import { type HopRow, openHopStore } from '../lib/hopStore.ts'
import { createLogger } from '../lib/log.ts'
import { testEnvironment } from './harness.ts'

const NOW_MS = Date.parse('2026-11-21T10:00:00.000Z')

const rowOf = (row: Partial<HopRow>): HopRow => ({
  ...{ partition: 0, offset: 0, index: 0, requestId: 'ord-1', workerName: 'fraud', sender: 'judges' },
  ...{ sourceTopic: 'command-center.inbox', sourceOffset: 0, targetTopic: 'fraud.requests', routeId: 2 },
  ...{ success: true, processingTimeMs: 7, atMs: NOW_MS },
  ...row,
})
/** Without a route, and with what would change the colours of a terminal. */
const refusedRow = (row: Partial<HopRow>): HopRow => {
  const { targetTopic: _topic, routeId: _route, ...rest } = rowOf({})
  return { ...rest, sender: '\x1b[31mred', workerName: '', success: false, error: 'no \x1b[0mroute', ...row }
}

test('the command line asks for one thing, and what cannot be is told in a sentence', () => {
  const plan = (words: string[], values = {}) => readTrailPlan(words, values, NOW_MS)
  assert.deepEqual(plan(['ord-1']), { json: false, requestId: 'ord-1' })
  assert.deepEqual(plan([], { by: 'route', json: true }), { json: true, by: 'route', sinceMs: 0 })
  for (const [since, sinceMs] of [
    ['90s', NOW_MS - 90_000],
    ['30m', NOW_MS - 1_800_000],
    ['1h', NOW_MS - 3_600_000],
    ['7d', NOW_MS - 7 * 86_400_000],
    ['999999d', 0],
    ['2026-11-21T09:30:00Z', NOW_MS - 1_800_000],
  ] as const) {
    assert.deepEqual(plan([], { by: 'worker', since }), { json: false, by: 'worker', sinceMs })
  }
  for (const [words, values, sentence] of [
    [[], {}, /say either/],
    [['ord-1'], { by: 'worker' }, /say either/],
    [['ord-1', 'ord-2'], {}, /'ord-2' is one too many/],
    [[], { by: 'topic' }, /--by topic is not usable: it takes worker or route/],
    [['ord-1'], { since: '1h' }, /--since goes with --by/],
    [[], { by: 'worker', since: 'yesterday' }, /--since yesterday is not usable/],
    [[], { by: 'worker', since: '2026-13-01' }, /--since 2026-13-01 is not usable/],
  ] as const) {
    assert.throws(
      () => readTrailPlan(words, values, NOW_MS),
      (error) => error instanceof ConfigurationError && sentence.test(error.message),
    )
  }
})

test('each hop is a line that controls no terminal and is as wide as it', () => {
  const hops = [rowOf({}), refusedRow({ atMs: NOW_MS + 1_234 })]
  assert.deepEqual(formatTrail(hops).split('\n'), [
    'time                        +ms  from -> to               topic           route  took ms  result',
    '2026-11-21T10:00:00.000Z      0  judges -> fraud          fraud.requests      2        7  ok',
    '2026-11-21T10:00:01.234Z  1,234  \\u{1b}[31mred -> (none)  -                   -        7  refused: no \\u{1b}[0mroute',
    '',
  ])
  for (const line of formatTrail(hops, 60).split('\n')) assert.ok(line.length <= 60)
  const summary = { hops: 100_000, refused: 1, p50Ms: 7, p99Ms: 40, meanMs: 9.04 }
  const lines = formatSummaries([{ ...summary, workerName: 'x'.repeat(200) }], 'worker').split('\n')
  assert.equal(lines[1], `${'x'.repeat(40)}…  100,000        1  99.99 %       7      40      9.0`)
})

test('the tool tells the way of an order and figures, as text and as JSON', async (t) => {
  const environment = await testEnvironment(t)
  const config = parseConfig(environment)
  const store = await openHopStore(config, createLogger('test', config.log))
  t.after(() => store.close())
  const atMs = Date.now() - 1_000
  const rows = [
    rowOf({ atMs }),
    rowOf({ index: 1, sourceOffset: 1, processingTimeMs: 9, atMs: atMs + 250 }),
    refusedRow({ index: 2, atMs: atMs + 500 }),
  ]
  const old = rowOf({ atMs: atMs - 86_400_000, requestId: 'ord-old', workerName: 'old' })
  await store.write([...rows, old])
  const trail = async (...args: string[]) => {
    const said: string[] = []
    const env = { ...process.env, ...environment }
    const run = await runScript({ script: 'tools/trail.ts', args, env, print: (line) => said.push(line) })
    return { ...run, said: said.join('\n') }
  }
  const [text, json, byWorker, byRoute, nothing, nothingJson, unknown] = await Promise.all([
    trail('ord-1'),
    trail('--json', 'ord-1'),
    trail('--by', 'worker', '--since', '1h'),
    trail('--by', 'route', '--json'),
    trail('ord-2'),
    trail('--json', 'ord-2'),
    trail('--colour', 'ord-1'),
  ])

  assert.deepEqual(text.lines, formatTrail(rows).trimEnd().split('\n'))
  assert.equal(text.status, 0)
  const asJson = rows.map(({ atMs, ...row }) => ({ ...row, at: new Date(atMs).toISOString() }))
  assert.deepEqual(
    json.lines.map((line) => JSON.parse(line)),
    [{ requestId: 'ord-1', hops: asJson }],
  )
  assert.deepEqual(byWorker.lines, [
    'worker  hops  refused  success  p50 ms  p99 ms  mean ms',
    'fraud      2        0    100 %       7       9      8.0',
    '(none)     1        1   0.00 %       7       7      7.0',
  ])
  assert.deepEqual(JSON.parse(byRoute.lines[0]!), [
    {
      ...{ routeId: 2, targetTopic: 'fraud.requests', hops: 3, refused: 0, p50Ms: 7, p99Ms: 9 },
      ...{ meanMs: 23 / 3, successRatio: 1 },
    },
    { hops: 1, refused: 1, p50Ms: 7, p99Ms: 7, meanMs: 7, successRatio: 0 },
  ])
  assert.deepEqual([nothing.status, nothing.lines], [1, []])
  assert.match(nothing.said, /nothing is known of 'ord-2'/)
  assert.deepEqual([nothingJson.status, nothingJson.lines], [1, ['{"requestId":"ord-2","hops":[]}']])
  assert.equal(unknown.status, 1)
  assert.match(unknown.said, /^trail: Unknown option '--colour'.*see --help/)
})
