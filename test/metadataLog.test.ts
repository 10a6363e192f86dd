import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Admin, Partitioners } from 'kafkajs'
import pg from 'pg'
import { createKafka, parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import { type Database, openDatabase, query } from '../lib/database.ts'
import { REASON_HEADER } from '../lib/deadLetters.ts'
import { UnavailableError } from '../lib/errors.ts'
import type { Hop, HopsRecorded } from '../lib/events.ts'
import { toHopRows } from '../lib/hopRows.ts'
import {
  DAY_MS,
  type HopRow,
  type HopStore,
  keptFromMs,
  openHopStore,
  startOfUtcDay,
} from '../lib/hopStore.ts'
import { createLogger } from '../lib/log.ts'
import { headerText } from '../lib/record.ts'
import { STOPPED } from './fixtures/stopAtProbe.ts'
import { orderStop, type RunningScript, readAll, runStoppable, testEnvironment, until } from './harness.ts'

const PARTITIONS = [0, 1, 2]
const INBOX = 'command-center.inbox'

const forwarded = (offset: number, requestId: string): Hop => ({
  ...{ offset, requestId, workerName: 'fraud-answers', sender: 'fraud' },
  ...{ routeId: 4, targetTopic: 'fraud.events', processingTimeMs: 7 },
})
/** As anybody can send it. */
const refused = (offset: number): Hop => ({
  ...{ offset, requestId: `odd\0${offset}`, workerName: `nobody-${offset}`, sender: '' },
  ...{ error: `no route is known for 'nobody-${offset}'`, processingTimeMs: 3 },
})

/** The offsets of a record's hops are `from` and those that follow; every tenth is refused. */
function recordOf(from: number, hops: number, atMs: number): HopsRecorded {
  return {
    ...{ type: 'HopsRecorded', eventId: `hops/${from}`, occurredAt: new Date(atMs).toISOString() },
    sourceTopic: INBOX,
    hops: Array.from({ length: hops }, (_, index) =>
      index % 10 === 9 ? refused(from + index) : forwarded(from + index, `ord-${from + index}`),
    ),
  }
}

const rowOf = (row: Partial<HopRow>): HopRow => ({
  ...{ partition: 0, offset: 0, index: 0, requestId: 'ord-1', workerName: 'fraud', sender: 'judges' },
  ...{ sourceTopic: INBOX, sourceOffset: 0, success: true, processingTimeMs: 1, atMs: Date.now() },
  ...row,
})

/** A store and a look past it into its table. */
async function setUpStore(t: TestContext) {
  const config = parseConfig(await testEnvironment(t))
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 2, log)
  const stores: HopStore[] = []
  t.after(async () => {
    for (const store of stores) await store.close()
    await database.end()
  })
  const open = async () => {
    const store = await openHopStore(config, log)
    stores.push(store)
    return store
  }
  return { database, open, store: await open() }
}

const partitionsIn = async (database: Database): Promise<string[]> => {
  const found = await query<{ name: string }>(database, {
    text: `SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
           WHERE inhparent = 'command_center.hops'::regclass ORDER BY relname`,
  })
  return found.map(({ name }) => name)
}

/** How many wait for a lock. */
const waitingIn = async (database: Database): Promise<number> => {
  const text = `SELECT count(*) AS n FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'`
  return (await query<{ n: number }>(database, { text }))[0]!.n
}

test('a row is there once, whoever writes it how often, and what a row says comes back as it was', async (t) => {
  const { open, store, database } = await setUpStore(t)
  const nowMs = Date.now()
  const rows = PARTITIONS.flatMap((partition) =>
    Array.from({ length: 2_000 }, (_, index) =>
      rowOf({
        ...{ partition, offset: Math.floor(index / 100), index: index % 100 },
        // Each record has its time, over five days.
        atMs: nowMs - (Math.floor(index / 100) % 5) * DAY_MS,
        ...{ requestId: `ord-${partition}-${index}`, sourceOffset: index, processingTimeMs: index % 50 },
        ...(index % 4 > 0 && { routeId: index % 4, targetTopic: `t-${index % 4}` }),
        ...(index % 4 === 0 && { success: false, error: 'no route' }),
      }),
    ),
  )
  // All at once and in different orders, each making the partitions that it needs.
  const others = await Promise.all([open(), open(), open()])
  const writes = [store, ...others].map((each, turn) =>
    each.write([...rows.slice(turn * 500), ...rows.slice(0, turn * 500)]),
  )
  await Promise.all(writes)
  assert.deepEqual(await store.count(), { forwarded: 4_500, refused: 1_500 })
  assert.equal((await partitionsIn(database)).length, 5)
  for (const index of [0, 1, 1_999]) {
    assert.deepEqual(await store.trail(`ord-2-${index}`), [rows[2 * 2_000 + index]])
  }
  assert.deepEqual(await store.trail('ord-none'), [])
})

test('a trail is in order of time, and figures are those of the hops since then', async (t) => {
  const { store } = await setUpStore(t)
  const atMs = Date.now()
  const trail = [
    rowOf({ offset: 5, index: 0, atMs: atMs - 2_000 }),
    rowOf({ offset: 7, index: 0, atMs: atMs - 1_000 }),
    rowOf({ offset: 7, index: 3, atMs: atMs - 1_000 }),
    rowOf({ offset: 6, index: 1, atMs }),
  ]
  await store.write([...trail].reverse())
  assert.deepEqual(await store.trail('ord-1'), trail)

  const times = Array.from({ length: 200 }, (_, index) => index + 1)
  await store.write(
    times.map((processingTimeMs, index) =>
      rowOf({
        ...{ offset: 8, index, requestId: '', workerName: 'pricing', processingTimeMs, atMs: atMs + 5_000 },
        ...(index < 150 ? { routeId: 2, targetTopic: 'pricing.requests' } : { success: false, error: 'no' }),
      }),
    ),
  )
  assert.deepEqual(await store.summary('worker', 0), [
    { workerName: 'pricing', hops: 200, refused: 50, p50Ms: 100, p99Ms: 198, meanMs: 100.5 },
    { workerName: 'fraud', hops: 4, refused: 0, p50Ms: 1, p99Ms: 1, meanMs: 1 },
  ])
  assert.deepEqual(await store.summary('route', atMs + 1), [
    {
      routeId: 2,
      targetTopic: 'pricing.requests',
      hops: 150,
      refused: 0,
      p50Ms: 75,
      p99Ms: 149,
      meanMs: 75.5,
    },
    { hops: 50, refused: 50, p50Ms: 175, p99Ms: 200, meanMs: 175.5 },
  ])
})

test('days go after a week, counted and whole, and a partition that somebody dropped is made again', async (t) => {
  const { store, open, database } = await setUpStore(t)
  const nowMs = Date.parse('2026-11-21T10:00:00.000Z')
  const kept = keptFromMs(nowMs)
  assert.equal(new Date(kept).toISOString(), '2026-11-14T00:00:00.000Z')
  const rows = [kept - DAY_MS, kept - 2, kept - 1, kept, kept + 1, nowMs].map((atMs, index) =>
    rowOf({ index, atMs }),
  )
  await store.write(rows)
  await query(database, { text: 'ANALYZE command_center.hops' })
  // Two at once, held up by a reader until both are under way: each row is counted by one of them.
  const reader = new pg.Client({ connectionString: database.options.connectionString! })
  await reader.connect()
  await reader.query('BEGIN; SELECT FROM command_center.hops LIMIT 1')
  const expiring = Promise.all([store.expire(nowMs), (await open()).expire(nowMs)])
  await until('both wait', async () => (await waitingIn(database)) === 2)
  await reader.end()
  const expiries = await expiring
  assert.equal(expiries[0]!.expired + expiries[1]!.expired, 3)
  for (const { expiring } of expiries) assert.equal(expiring, 2)
  assert.deepEqual(await partitionsIn(database), ['hops_20261114', 'hops_20261121'])
  assert.deepEqual(await store.trail('ord-1'), rows.slice(3))
  assert.deepEqual(await store.expire(nowMs), { expired: 0, expiring: 2 })

  await query(database, { text: 'DROP TABLE command_center.hops_20261121' })
  // Not what would be taken for the fault of a record, and dead-lettered.
  await assert.rejects(store.write(rows.slice(5)), UnavailableError)
  await store.write(rows.slice(5))
  assert.deepEqual(await store.trail('ord-1'), rows.slice(3))
})

/** PostgreSQL behind a port of its own, which can be cut off. */
async function startProxy(t: TestContext, databaseUrl: string) {
  const { hostname, port } = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      const end = () => {
        client.destroy()
        upstream.destroy()
        sockets.delete(socket)
      }
      socket.on('close', end)
      // It is closed next, which is all there is to do.
      socket.on('error', end)
    }
    if (isCut) client.destroy()
    else client.pipe(upstream).pipe(client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = (isAway: boolean) => {
    isCut = isAway
    if (isAway) for (const socket of sockets) socket.destroy()
  }
  t.after(() => {
    server.close()
    cut(true)
  })
  const url = new URL(databaseUrl)
  url.port = String((server.address() as AddressInfo).port)
  return { url: url.href, cut }
}

/** Its topics, its database behind a proxy, and a producer for what the Command Center would say. */
async function setUpService(t: TestContext) {
  const environment = await testEnvironment(t)
  const config = parseConfig(environment)
  const log = createLogger('test', config.log)
  const proxy = await startProxy(t, config.databaseUrl)
  const { hops, deadLetters, retries } = config.topics
  const letters = deadLetters['metadata-log'].name
  const kafka = createKafka(config, 'test', log)
  const admin = kafka.admin()
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  const store = await openHopStore(config, log)
  const database = openDatabase(config.databaseUrl, 2, log)
  await Promise.all([admin.connect(), producer.connect()])
  t.after(() => Promise.all([admin.disconnect(), producer.disconnect(), store.close(), database.end()]))
  await admin.createTopics({
    waitForLeaders: true,
    topics: [hops.name, letters, retries['metadata-log'].name].map((topic) => ({
      topic,
      numPartitions: config.partitions,
    })),
  })
  const say = (records: [partition: number, record: HopsRecorded][]) =>
    producer.send({
      topic: hops.name,
      messages: records.map(([partition, record]) => ({
        partition,
        key: hops.keyOf(record),
        value: hops.encode(record),
      })),
    })
  return {
    ...{ config, store, database, admin, say, cut: proxy.cut, topic: hops.name, letters },
    group: `${config.topicPrefix}metadata-log`,
    start: () => runStoppable(t, 'metadataLog', { ...environment, DATABASE_URL: proxy.url }),
  }
}

/** All rows, as lines to be compared. */
async function dump(database: Database): Promise<string[]> {
  const found = await query<{ line: string }>(database, {
    text: `SELECT row_to_json(hops)::text AS line FROM command_center.hops
           ORDER BY log_partition, log_offset, index`,
  })
  return found.map(({ line }) => line)
}

const countIn = async (database: Database): Promise<number> =>
  (await query<{ n: number }>(database, { text: 'SELECT count(*) AS n FROM command_center.hops' }))[0]!.n

async function committedOf(admin: Admin, groupId: string, topic: string): Promise<number> {
  const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
  return found!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
}

async function endOf(admin: Admin, topic: string): Promise<number> {
  const found = await admin.fetchTopicOffsets(topic)
  return found.reduce((sum, { high }) => sum + Number(high), 0)
}

async function metricsOf({ lines }: RunningScript): Promise<string> {
  const port = /127\.0\.0\.1:(\d+)\/health/.exec(lines.join('\n'))![1]
  const response = await fetch(`http://127.0.0.1:${port}/metrics`)
  assert.match(response.headers.get('content-type')!, /^text\/plain/)
  return response.text()
}

test('each hop becomes one row, with PostgreSQL away, the service killed and the log made anew', async (t) => {
  const { config, store, database, admin, say, cut, topic, letters, group, start } = await setUpService(t)
  const first = start()
  const nowMs = Date.now()
  await until('it has tasks', () => first.lines.some((line) => /has tasks 0 1 2/.test(line)))

  await say(PARTITIONS.map((partition) => [partition, recordOf(0, 1_000, nowMs)]))
  await say([
    [0, recordOf(1_000, 5, keptFromMs(nowMs) - 1)],
    [1, recordOf(1_000, 5, nowMs + 2 * DAY_MS)],
    [2, recordOf(1_000, 5, keptFromMs(nowMs))],
  ])
  const written = 3_000 + 5
  await until('all rows are there', async () => (await countIn(database)) === written)
  await until('the one dated ahead is a dead letter', async () => (await endOf(admin, letters)) > 0)
  const [letter, ...others] = (await readAll(config, [letters])).get(letters)!
  assert.match(headerText(letter!.headers, REASON_HEADER)!, /^dated ahead of time/)
  assert.equal(others.length, 0)
  const common = { offset: 0, sourceTopic: INBOX, atMs: nowMs }
  assert.deepEqual(
    await store.trail('ord-8'),
    PARTITIONS.map((partition) => ({
      ...{ ...common, partition, index: 8, requestId: 'ord-8', workerName: 'fraud-answers', sender: 'fraud' },
      ...{ sourceOffset: 8, targetTopic: 'fraud.events', routeId: 4, success: true, processingTimeMs: 7 },
    })),
  )
  assert.deepEqual(
    await store.trail('odd9'),
    PARTITIONS.map((partition) => ({
      ...{ ...common, partition, index: 9, requestId: 'odd9', workerName: 'nobody-9', sender: '' },
      ...{ sourceOffset: 9, success: false, error: "no route is known for 'nobody-9'", processingTimeMs: 3 },
    })),
  )
  const metrics = await metricsOf(first)
  const isSaid = (line: string) =>
    assert.ok(metrics.includes(`\n${line}\n`), `${line}\nis not in\n${metrics}`)
  isSaid('command_center_hops_total{worker="fraud-answers",route="4",result="forwarded"} 2705')
  isSaid('command_center_hops_total{worker="unknown",route="none",result="refused"} 300')
  isSaid('command_center_hop_seconds_bucket{le="0.005",worker="fraud-answers"} 0')
  isSaid('command_center_hop_seconds_bucket{le="0.01",worker="fraud-answers"} 2705')
  isSaid('command_center_hop_rows_too_old_total 5')
  isSaid('command_center_hop_rows_expired_total 0')
  assert.ok(!metrics.includes('nobody'), 'what anybody sends is no label')

  cut(true)
  await say(PARTITIONS.map((partition) => [partition, recordOf(2_000, 1_000, nowMs)]))
  await until('it waits', () => first.lines.some((line) => /PostgreSQL is not available.*waiting/.test(line)))
  cut(false)
  await until('nothing was lost', async () => (await countIn(database)) === written + 3_000)
  const whole = await endOf(admin, topic)
  await until('all is committed', async () => (await committedOf(admin, group, topic)) === whole)

  await orderStop(first, { stopAt: 'effects-done', passes: 1 })
  await say([[1, recordOf(3_000, 700, nowMs)]])
  await until('it stands between its two commits', () => first.lines.includes(STOPPED))
  assert.equal(await countIn(database), written + 3_700)
  assert.equal(await committedOf(admin, group, topic), whole)
  first.child.kill('SIGKILL')
  await ended(first.child)

  // From the beginning: rows that are there stay as they are, and those that are not come back.
  const before = await dump(database)
  await query(database, { text: 'DELETE FROM command_center.hops WHERE log_partition = 2' })
  const beginning = PARTITIONS.map((partition) => ({ partition, offset: '0' }))
  await until(
    'the group is empty and reads again from the beginning',
    () =>
      admin.setOffsets({ groupId: group, topic, partitions: beginning }).then(
        () => true,
        () => false,
      ),
    60_000,
    500,
  )
  start()
  await until('all was read again', async () => (await committedOf(admin, group, topic)) > whole)
  assert.deepEqual(await dump(database), before)
})

test('rows have the labels as they came, without what no store takes', () => {
  const event = recordOf(40, 10, startOfUtcDay(Date.now()))
  event.hops[9]!.requestId = `a\0${'b'.repeat(300)}`
  const rows = toHopRows({
    ...{ topic: 't', partition: 2, offset: 5, timestampMs: 0, source: 't/2/5', headers: {}, event },
  })
  assert.deepEqual(
    rows.map(({ partition, offset, index, sourceOffset }) => [partition, offset, index, sourceOffset].join()),
    rows.map((_, index) => [2, 5, index, 40 + index].join()),
  )
  assert.equal(rows[9]!.requestId, `a${'b'.repeat(199)}`)
})
