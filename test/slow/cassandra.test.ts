// The metadata log in a real Cassandra on the local JVM. Its jars are fetched by Maven the first time.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import cassandra from 'cassandra-driver'
import { findCassandraJava, type RunningCassandra, startCassandra } from '../../infra/cassandra.ts'
import { freePort } from '../../infra/ports.ts'
import { ConfigurationError, UnavailableError } from '../../lib/errors.ts'
import { DAY_MS, type HopRow, keptFromMs, startOfUtcDay } from '../../lib/hopStore.ts'
import { openCassandraHopStore } from '../../lib/hopStoreCassandra.ts'
import { createLogger } from '../../lib/log.ts'
import { until } from '../harness.ts'

const log = createLogger('test', { level: 'silent', format: 'json', color: false })
const dataDir = await mkdtemp(join(tmpdir(), 'cassandra-test-'))
const port = await freePort()
let server: RunningCassandra

before(async () => {
  server = await startCassandra({ dataDir, port, onProgress: console.log })
})
after(async () => {
  await server.kill()
  await rm(dataDir, { recursive: true, force: true })
})

let keyspaces = 0

/** A store in a keyspace of its own. */
async function setUp(t: TestContext) {
  const settings = {
    contactPoints: [`127.0.0.1:${port}`],
    dataCenter: 'datacenter1',
    keyspace: `test_${keyspaces++}`,
  }
  const open = async () => {
    const store = await openCassandraHopStore(settings, log)
    t.after(() => store.close())
    return store
  }
  return { settings, open, store: await open() }
}

/** A look past the store into its tables. */
async function ask(t: TestContext, query: string): Promise<cassandra.types.Row[]> {
  const contactPoints = [`127.0.0.1:${port}`]
  const client = new cassandra.Client({ contactPoints, localDataCenter: 'datacenter1' })
  t.after(() => client.shutdown())
  return (await client.execute(query)).rows
}

const rowOf = (row: Partial<HopRow>): HopRow => ({
  ...{ partition: 2, offset: 5_000_000_000, index: 0, requestId: 'ord-1', workerName: 'fraud' },
  ...{ sender: 'judges', sourceTopic: 'command-center.inbox', sourceOffset: 7, success: true },
  ...{ processingTimeMs: 1, atMs: Date.now() },
  ...row,
})
const refusal = { success: false, error: "no route is known for 'x'" } as const

test('a row is there once however often it is written, in its request’s trail, and goes after a week', async (t) => {
  const { store, settings, open } = await setUp(t)
  const nowMs = Date.now()
  const rows = [
    rowOf({ atMs: keptFromMs(nowMs), routeId: 4, targetTopic: 'fraud.requests' }),
    rowOf({
      atMs: nowMs,
      index: 1,
      ...refusal,
      workerName: 'x',
      sender: '',
      processingTimeMs: 3_000_000_000,
    }),
    rowOf({ atMs: nowMs, index: 2 }),
    rowOf({ atMs: nowMs, index: 10 }),
    rowOf({ atMs: nowMs + 1, partition: 0, offset: 0 }),
  ]
  const others = [
    rowOf({ index: 3, requestId: 'ord-2' }),
    rowOf({ index: 4, requestId: '', workerName: '', ...refusal }),
  ]
  await store.write([...others, ...rows.toReversed()])
  await Promise.all([store.write(rows), (await open()).write(rows)])
  await store.write([])

  assert.deepEqual(await store.trail('ord-1'), rows)
  assert.deepEqual(await store.trail('ord-3'), [])
  assert.deepEqual(await store.count(), { forwarded: 5, refused: 2 })
  assert.deepEqual(await store.expire(nowMs), { expired: 0, expiring: 1 })

  for (const table of ['hops_by_request', 'hops_by_worker_and_day']) {
    const left = await ask(t, `SELECT at, ttl(success) AS ttl FROM ${settings.keyspace}.${table}`)
    for (const { at, ttl } of left) {
      // Until a week after the end of its day; from the write to this some seconds may have passed.
      const wanted = (startOfUtcDay(at.getTime()) + 8 * DAY_MS - nowMs) / 1_000
      assert.ok(ttl <= wanted + 1 && ttl > wanted - 120, `${ttl} s and not ${wanted} of ${table}`)
    }
  }
  const [table] = await ask(
    t,
    `SELECT compaction, default_time_to_live AS ttl FROM system_schema.tables
     WHERE keyspace_name = '${settings.keyspace}' AND table_name = 'hops_by_request'`,
  )
  assert.match(table!.compaction.class, /TimeWindowCompactionStrategy$/)
  assert.equal(table!.ttl, 7 * 24 * 60 * 60)
})

test('figures are told by worker and by route, over days, names that somebody made up among them', async (t) => {
  const { store } = await setUp(t)
  const atMs = Date.now()
  const pricing = Array.from({ length: 200 }, (_, index) => {
    const route = index < 150 ? { routeId: 2, targetTopic: 'pricing.requests' } : refusal
    return rowOf({ index, workerName: 'pricing', processingTimeMs: index + 1, atMs, ...route })
  })
  const earlier = Array.from({ length: 4 }, (_, index) =>
    rowOf({ index, atMs: atMs - (index + 1) * DAY_MS, routeId: 1, targetTopic: 'fraud.requests' }),
  )
  const odd = ['', '\u{1F600}', '\u{FFFD}'].map((workerName, index) =>
    rowOf({ index, workerName, offset: 1, atMs: atMs - 1, ...refusal }),
  )
  await store.write([...pricing, ...earlier, ...odd])

  const one = { hops: 1, refused: 1, p50Ms: 1, p99Ms: 1, meanMs: 1 }
  assert.deepEqual(await store.summary('worker', 0), [
    { workerName: 'pricing', hops: 200, refused: 50, p50Ms: 100, p99Ms: 198, meanMs: 100.5 },
    { workerName: 'fraud', hops: 4, refused: 0, p50Ms: 1, p99Ms: 1, meanMs: 1 },
    ...['', '\u{FFFD}', '\u{1F600}'].map((workerName) => ({ workerName, ...one })),
  ])
  const byPricing = { routeId: 2, targetTopic: 'pricing.requests' }
  assert.deepEqual(await store.summary('route', atMs), [
    { ...byPricing, hops: 150, refused: 0, p50Ms: 75, p99Ms: 149, meanMs: 75.5 },
    { hops: 50, refused: 50, p50Ms: 175, p99Ms: 200, meanMs: 175.5 },
  ])
  assert.deepEqual(await store.summary('worker', atMs + DAY_MS), [])
})

test('while the server is away a write says so, and nothing that was acknowledged is missing when it is back', async (t) => {
  const { store, settings, open } = await setUp(t)
  const rows = Array.from({ length: 3_000 }, (_, index) =>
    rowOf({ index, requestId: `ord-${index % 1_000}`, workerName: `judge-${index % 9}` }),
  )
  await store.write(rows.slice(0, 2_000))
  await server.kill()
  await assert.rejects(
    store.write(rows.slice(2_000)),
    (error) => error instanceof UnavailableError && error.message.startsWith('Cassandra is not available'),
  )
  await assert.rejects(store.trail('ord-1'), UnavailableError)
  let isOpen = false
  const opening = open().then((opened) => {
    isOpen = true
    return opened
  })

  server = await startCassandra({ dataDir, port })
  assert.equal(isOpen, false)
  const another = await opening
  await until('it writes again', async () => {
    const failure = await store.write(rows.slice(2_000)).catch((error) => error)
    if (failure instanceof UnavailableError) return false
    assert.ifError(failure)
    return true
  })
  assert.deepEqual(await another.count(), { forwarded: 3_000, refused: 0 })
  assert.deepEqual(await store.trail('ord-7'), [rows[7], rows[1_007], rows[2_007]])

  // Its tables gone, as they are when somebody removes its state: they are made again.
  await ask(t, `DROP KEYSPACE ${settings.keyspace}`)
  await assert.rejects(store.write(rows.slice(0, 1)), UnavailableError)
  await store.write(rows.slice(0, 1))
  assert.deepEqual(await store.trail('ord-0'), [rows[0]])
})

test('what has to be put right is told in a sentence', async (t) => {
  const { settings } = await setUp(t)
  await assert.rejects(
    openCassandraHopStore({ ...settings, dataCenter: 'nowhere' }, log),
    (error) =>
      error instanceof ConfigurationError &&
      /^CASSANDRA_DATA_CENTER=nowhere .*datacenter1/.test(error.message),
  )
  await assert.rejects(startCassandra({ dataDir, port }), { code: 'ALREADY_RUNNING' })
  const elsewhere = await mkdtemp(join(tmpdir(), 'cassandra-test-'))
  t.after(() => rm(elsewhere, { recursive: true, force: true }))
  await assert.rejects(startCassandra({ dataDir: elsewhere, port }), {
    code: 'PORT_IN_USE',
    message: /^Cassandra cannot listen on .* with --cassandra-port\.$/,
  })
})

test('a Java that Cassandra does not run on is refused in a sentence', async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'cassandra-test-'))
  t.after(() => rm(home, { recursive: true, force: true }))
  await assert.rejects(findCassandraJava(home), {
    code: 'JAVA_MISSING',
    message: /^Cassandra 5\.0\.\d+ needs Java 11 or 17 and none was found in JAVA_HOME /,
  })
  await mkdir(join(home, 'bin'))
  const script = '#!/bin/sh\necho \'openjdk version "21.0.4" 2024-07-16\' >&2\n'
  await writeFile(join(home, 'bin', 'java'), script, { mode: 0o755 })
  await assert.rejects(findCassandraJava(home), {
    code: 'JAVA_UNSUITABLE',
    message: /^Cassandra 5\.0\.\d+ needs Java 11 or 17 but .* is 21\.0\.4: /,
  })
})
