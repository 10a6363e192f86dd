// The server side of the dashboard: what it tells the page, and whom it lets do what.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type OutgoingHttpHeaders, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { parseConfig } from '../kafkaConfig.ts'
import { FaultLog, type FaultLook } from '../lib/dashboardFaults.ts'
import { addSample, rateOf, readFigures, type SeenInstance, toStage } from '../lib/dashboardInstances.ts'
import { RecentOrders } from '../lib/dashboardRecentOrders.ts'
import { Recurring } from '../lib/dashboardRecurring.ts'
import { type DashboardServerOptions, startDashboardServer } from '../lib/dashboardServer.ts'
import type { DashboardGroup } from '../lib/dashboardSnapshot.ts'
import { DashboardState } from '../lib/dashboardState.ts'
import { EventStream, toEvent } from '../lib/dashboardStream.ts'
import { openDatabase } from '../lib/database.ts'
import type { OrderValidated } from '../lib/events.ts'
import { startHealthServer } from '../lib/health.ts'
import { registerInstance } from '../lib/instances.ts'
import { createLogger } from '../lib/log.ts'
import { until } from './harness.ts'

const log = createLogger('test', { level: 'silent', format: 'json', color: false })
const TOKEN = '0123456789abcdef'

function instance(pid: number, report: object = { state: 'running' }, service = 'validator'): SeenInstance {
  return {
    instance: { service, pid, url: `http://127.0.0.1:${pid}` },
    state: 'alive',
    figures: readFigures(report),
    samples: [],
    silentLooks: 0,
  }
}

describe('a stage', () => {
  it('has the rates of the last seconds, and those of no other process', () => {
    const samples: SeenInstance['samples'] = []
    for (let second = 0; second <= 100; second++) {
      addSample(samples, {
        atMs: second * 1_000,
        in: second < 95 ? 0 : (second - 95) * 30,
        out: 0,
        deadLetters: 0,
      })
    }
    assert.equal(rateOf(samples, 'in'), 30)
    assert.equal(rateOf(samples, 'out'), 0)
    assert.ok(samples.length <= 61, `${samples.length} samples are kept`)
    // It was started again: its counters begin anew.
    addSample(samples, { atMs: 101_000, in: 10, out: 0, deadLetters: 0 })
    assert.equal(rateOf(samples, 'in'), 0)
    addSample(samples, { atMs: 102_000, in: 30, out: 0, deadLetters: 0 })
    assert.equal(rateOf(samples, 'in'), 20)
  })

  it('is as good as the best of its processes and as slow as the slowest', () => {
    const fast = instance(1, { state: 'running', latency: { p50Ms: 5, p99Ms: 20 } })
    const slow = instance(2, { state: 'waiting', latency: { p50Ms: 9, p99Ms: 15 } })
    const gone: SeenInstance = { ...instance(3, { latency: { p99Ms: 9_999 } }), state: 'gone' }
    for (const [atMs, read, deadLetters] of [
      [0, 0, 0],
      [1_000, 50, 1],
    ] as const) {
      addSample(fast.samples, { atMs, in: read, out: read, deadLetters })
      addSample(slow.samples, { atMs, in: read, out: read, deadLetters: 0 })
    }
    const stage = toStage('validator', [fast, slow, gone], true, 7)
    assert.deepEqual(stage, {
      name: 'validator',
      state: 'running',
      instances: 2,
      inPerSecond: 100,
      outPerSecond: 100,
      lag: 7,
      p50Ms: 9,
      p99Ms: 20,
      errorShare: 0.01,
      deadLetters: 0,
    })
    assert.equal(toStage('validator', [gone], true, undefined).state, 'gone')
    assert.equal(toStage('validator', [], true, undefined).state, 'gone')
    assert.equal(toStage('validator', [], false, undefined).state, 'absent')
    assert.equal(
      toStage('validator', [instance(1, { state: 'running', isPaused: true })], true, 0).state,
      'paused',
    )
    const frozen: SeenInstance = { ...fast, state: 'silent' }
    assert.equal(toStage('validator', [frozen, gone], true, 0).state, 'silent')
    assert.equal(toStage('validator', [frozen, slow], true, 0).state, 'waiting')
  })
})

describe('the log of faults', () => {
  const group = (...shares: number[][]): DashboardGroup => ({
    group: 'validator',
    state: 'Stable',
    lag: 0,
    members: shares.map((partitions, index) => ({ id: `member-${index}`, host: '127.0.0.1', partitions })),
    partitions: [],
  })
  const calm: FaultLook = {
    atMs: 0,
    instances: [instance(1), instance(2, { state: 'running' }, 'payment')],
    groups: [group([0, 1, 2])],
    deadLetters: { validator: 4 },
    dependencies: { Kafka: undefined, PostgreSQL: undefined },
  }
  /** What is told of some looks in turn, each a second after the one before, oldest first. */
  const tell = (...looks: Partial<FaultLook>[]) => {
    const faults = new FaultLog()
    looks.forEach((look, second) => {
      faults.note({ ...calm, ...look, atMs: second * 1_000 })
    })
    return faults.latest.reverse().map(({ kind, service, text }) => `${kind} ${service}: ${text}`)
  }
  const payment = calm.instances[1]!

  it('has nothing to tell of what there was at first, and of what stays', () => {
    assert.deepEqual(tell({}, {}, {}), [])
  })

  it('tells of a killed process and of the one that works in its place', () => {
    const killed = { instances: [{ ...instance(1), state: 'gone' as const }, payment] }
    const starting = { instances: [instance(3, { state: 'starting' }), payment] }
    assert.deepEqual(tell({}, killed, killed, starting, { instances: [instance(3), payment] }, {}), [
      'instance-gone validator: validator (process 1) is gone, it did not take its leave',
      'instance-back validator: validator (process 3) works in its place',
      'instance-gone validator: validator (process 3) has ended',
      'instance-back validator: validator (process 1) works in its place',
    ])
  })

  it('tells of a process that is frozen, and that it answers again or is killed', () => {
    const frozen = { instances: [{ ...instance(1), state: 'silent' as const }, payment] }
    const killed = { instances: [{ ...instance(1), state: 'gone' as const }, payment] }
    assert.deepEqual(tell({}, frozen, frozen, {}, frozen, killed), [
      'instance-silent validator: validator (process 1) is there and does not answer',
      'instance-answers validator: validator (process 1) answers again',
      'instance-silent validator: validator (process 1) is there and does not answer',
      'instance-gone validator: validator (process 1) is gone, it did not take its leave',
    ])
  })

  it('tells when partitions are shared anew, once the group has settled', () => {
    const preparing = { groups: [{ ...group(), state: 'PreparingRebalance' }] }
    assert.deepEqual(
      tell({}, preparing, preparing, { groups: [group([0, 1], [2])] }, { groups: undefined }),
      ['rebalance validator: partitions are shared anew among 2: 0 1 | 2'],
    )
    assert.deepEqual(tell({}, { groups: [{ ...group(), state: 'Empty' }] }), [
      'rebalance validator: nobody is left in the group',
    ])
  })

  it('tells of a circuit, a pause, and does not take a kill for their end', () => {
    const open = { instances: [instance(1), instance(2, { state: 'running', breaker: 'open' }, 'payment')] }
    const killed = { instances: [instance(1), { ...payment, state: 'gone' as const }] }
    const kinds = tell({}, open, killed, {}, { instances: [instance(1, { isPaused: true }), payment] }, {})
    assert.deepEqual(
      kinds.map((line) => line.split(':')[0]),
      [
        'circuit-open payment',
        'instance-gone payment',
        'instance-back payment',
        'circuit-closed payment',
        'paused validator',
        'resumed validator',
      ],
    )
  })

  it('tells of what is wrong at the first look, too', () => {
    assert.deepEqual(tell({ instances: [instance(1, { isPaused: true })] }), [
      'paused validator: it was told to pause',
    ])
    const away = { dependencies: { Kafka: 'connect ECONNREFUSED', PostgreSQL: undefined } }
    assert.deepEqual(tell(away, away, {}), [
      'unavailable Kafka: connect ECONNREFUSED',
      'available Kafka: it answers again',
    ])
  })

  it('tells of dead letters now and then, and of all of them', () => {
    const looks = Array.from({ length: 62 }, (_, second) => ({ deadLetters: { validator: 4 + second } }))
    assert.deepEqual(tell({ deadLetters: {} }, ...looks), [
      'dead-letters validator: 1 more in the dead letters, 5 in all',
      'dead-letters validator: 30 more in the dead letters, 35 in all',
      'dead-letters validator: 30 more in the dead letters, 65 in all',
    ])
  })

  it('keeps the last hundred', () => {
    const faults = new FaultLog()
    for (let second = 0; second < 300; second++) {
      faults.note({ ...calm, atMs: second, instances: [instance(second)] })
    }
    assert.equal(faults.latest.length, 100)
    assert.equal(faults.latest[0]!.atMs, 299)
    assert.equal(faults.latest[0]!.id > faults.latest[1]!.id, true)
  })
})

describe('what is looked at now and then', () => {
  it('is shown as it was found last, until it has failed twice', async () => {
    let answer: () => Promise<number> = async () => 1
    const recurring = new Recurring(1_000, 2, () => answer())
    const look = async (atMs: number) => {
      recurring.begin(atMs)
      await recurring.ended()
      return recurring.latest
    }
    assert.equal(recurring.isKnown, false)
    assert.equal(await look(0), 1)
    answer = async () => Promise.reject(new Error('away'))
    assert.equal(await look(500), 1, 'it was not due')
    assert.equal(await look(1_000), 1)
    assert.equal(await look(2_000), undefined)
    assert.match(String(recurring.error), /away/)
    answer = async () => 2
    assert.equal(await look(3_000), 2)
    assert.equal(recurring.error, undefined)
  })
})

describe('the list of recent orders', () => {
  it('has the latest fifty, says what became of them, and leaves time to read at a high rate', () => {
    const recent = new RecentOrders()
    const add = (orderId: string, atMs: number) =>
      recent.add({ type: 'OrderValidated', orderId } as OrderValidated, atMs)
    for (let second = 0; second < 20; second++) {
      for (let index = 0; index < 1_000; index++) add(`${second}-${index}`, second * 1_000 + index)
    }
    assert.equal(recent.latest.length, 50)
    assert.deepEqual(recent.latest[0], { orderId: '19-4', atMs: 19_004, end: 'under way' })
    const { orderId } = recent.latest[30]!
    recent.add({ type: 'OrderCancelled', orderId } as never, 0)
    assert.equal(recent.latest[30]!.end, 'cancelled')
  })
})

describe('the stream of events', () => {
  it('holds one event at most for a client that does not read, ends it in the end, and serves the others', async (t) => {
    const stream = new EventStream()
    const responses: ServerResponse[] = []
    const server = createServer((_request, response) => {
      responses.push(response)
      stream.add(response, {}, toEvent('history', {}))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      stream.close()
      server.closeAllConnections()
      server.close()
    })
    const { port } = server.address() as AddressInfo
    const sleeper = connect(port, '127.0.0.1').pause()
    sleeper.on('error', () => undefined)
    sleeper.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await until('the sleeper listens', () => stream.size === 1)
    const reader = await fetch(`http://127.0.0.1:${port}/`)
    let read = 0
    void (async () => {
      for await (const chunk of reader.body!) read += chunk.length
    })().catch(() => undefined)

    const event = toEvent('snapshot', 'x'.repeat(200_000))
    for (let count = 1; count <= 60; count++) {
      const before = read
      stream.send(event, 0)
      await until('the reader has the event', () => read - before >= event.length - 1_000)
    }
    assert.equal(stream.size, 2)
    const held = responses[0]!.writableLength
    assert.ok(held > 0 && held < 2 * event.length, `${held} bytes are held for the sleeper`)
    assert.equal(responses[1]!.writableLength, 0)
    stream.send(event, 31_000)
    await until('the sleeper has been let go', () => stream.size === 1)
  })
})

/** Asks with whatever headers, also those that fetch would not let pass. */
async function ask(
  url: string,
  path: string,
  {
    method = 'GET',
    headers = {},
    body = '',
  }: { method?: string; headers?: OutgoingHttpHeaders; body?: string } = {},
) {
  const asked = request(new URL(path, url), {
    ...{ method, headers, agent: false },
    signal: AbortSignal.timeout(10_000),
  })
  asked.end(body)
  const [response] = await once(asked, 'response')
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  return { status: response.statusCode as number, headers: response.headers, text }
}

async function startServer(t: TestContext, options: Partial<DashboardServerOptions> = {}) {
  const instancesDir = await mkdtemp(join(tmpdir(), 'instances-'))
  t.after(() => rm(instancesDir, { recursive: true, force: true }))
  const stream = new EventStream()
  const server = await startDashboardServer({
    port: 0,
    stream,
    greeting: () => toEvent('history', { serverId: 'test', points: [] }),
    routes: [],
    demo: { controls: false, token: '' },
    instancesDir,
    log,
    ...options,
  })
  t.after(() => server.close())
  return { ...server, stream, instancesDir }
}

describe('the server of the dashboard', () => {
  it('sends its files with strict headers, and answers by the names of this machine alone', async (t) => {
    const { url } = await startServer(t)
    for (const path of [
      '/',
      '/vendor/uPlot.esm.js',
      '/vendor/uPlot.min.css',
      '/nothing',
      '/vendor/uPlot.d.ts',
    ]) {
      const { status, headers } = await ask(url, path)
      assert.equal(status, /nothing|d\.ts/.test(path) ? 404 : 200, path)
      const policy = String(headers['content-security-policy'])
      assert.match(policy, /^default-src 'none'; script-src 'self';.* frame-ancestors 'none'$/)
      assert.doesNotMatch(policy, /unsafe|\*|http/)
      assert.equal(headers['x-content-type-options'], 'nosniff')
      assert.equal(headers['referrer-policy'], 'no-referrer')
    }
    assert.match((await ask(url, '/vendor/uPlot.esm.js')).headers['content-type']!, /javascript/)
    assert.equal((await ask(url, '/../package.json')).status, 404)
    assert.equal((await ask(url, '/%2e%2e/package.json')).status, 404)
    const { port } = new URL(url)
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, '[::1]:3001', 'LOCALHOST']) {
      assert.equal((await ask(url, '/', { headers: { host } })).status, 200, host)
    }
    for (const host of [
      'attacker.example',
      `127.0.0.1.attacker.example:${port}`,
      'localhost@attacker.example',
    ]) {
      for (const path of ['/', '/events', '/vendor/uPlot.esm.js', '/controls/validator/kill']) {
        const { status, text } = await ask(url, path, { headers: { host } })
        assert.equal(status, 421, `${host}${path}`)
        assert.match(text, /127\.0\.0\.1 or localhost/)
      }
    }
  })

  it('takes the next port when its own is taken', async (t) => {
    const first = await startServer(t)
    const second = await startServer(t, { port: Number(new URL(first.url).port) })
    assert.notEqual(second.url, first.url)
    assert.equal((await ask(second.url, '/')).status, 200)
  })

  it('lets a few dozen listen, each from its greeting on, and refuses more', async (t) => {
    const { url, stream } = await startServer(t)
    const listeners = await Promise.all(Array.from({ length: 32 }, () => fetch(`${url}/events`)))
    const [first] = listeners
    assert.equal(first!.headers.get('content-type'), 'text/event-stream')
    assert.match(first!.headers.get('content-security-policy')!, /^default-src 'none'/)
    const { value } = await first!.body!.getReader().read()
    assert.match(Buffer.from(value!).toString(), /^retry: \d+\n\nevent: history\ndata: \{"serverId":"test"/)
    const refused = await ask(url, '/events')
    assert.equal(refused.status, 503)
    assert.match(refused.text, /close some/)
    assert.equal(stream.size, 32)
    await listeners[5]!.body!.cancel()
    await until('a place is free', () => stream.size === 31)
  })

  it('passes controls on for whoever knows the token and asks from the page, and for nobody else', async (t) => {
    const { url, instancesDir } = await startServer(t, { demo: { controls: true, token: TOKEN } })
    const taken: unknown[] = []
    const controls = { pause: (body: unknown) => taken.push(body) }
    const report = () => ({ service: 'validator', ready: true })
    const health = await startHealthServer(0, log, report, {}, { token: TOKEN, controls })
    t.after(() => health.close())
    const control = (headers: OutgoingHttpHeaders, path = '/controls/validator/pause', body = '{"a":1}') =>
      ask(url, path, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json',
          origin: url,
          authorization: `Bearer ${TOKEN}`,
          ...headers,
        },
      })

    const nobody = await control({})
    assert.equal(nobody.status, 404)
    assert.match(nobody.text, /no process of 'validator' runs/)
    // A stranger at the port of a service that was killed.
    t.after(registerInstance(instancesDir, 'payment', health.port))
    assert.equal((await control({}, '/controls/payment/pause')).status, 404)
    assert.deepEqual(taken, [])
    t.after(registerInstance(instancesDir, 'validator', health.port))
    const done = await control({})
    assert.equal(done.status, 200, done.text)
    assert.deepEqual(JSON.parse(done.text).results, [
      { service: 'validator', pid: process.pid, ok: true, answer: 1 },
    ])
    assert.deepEqual(taken, [{ a: 1 }])

    const refused: [OutgoingHttpHeaders, number, RegExp][] = [
      [{ authorization: '' }, 401, /DEMO_TOKEN/],
      [{ authorization: `Bearer ${TOKEN}x` }, 401, /DEMO_TOKEN/],
      [{ authorization: TOKEN }, 401, /DEMO_TOKEN/],
      [{ origin: 'http://attacker.example' }, 403, /page of this address/],
      [{ origin: 'null' }, 403, /page of this address/],
      [{ origin: 'http://127.0.0.1:1', 'sec-fetch-site': 'same-origin' }, 403, /page of this address/],
      [{ 'content-type': 'text/plain' }, 415, /application\/json/],
    ]
    for (const [headers, status, text] of refused) {
      const answer = await control(headers)
      assert.equal(answer.status, status, JSON.stringify(headers))
      assert.match(answer.headers['content-type']!, /application\/problem\+json/)
      assert.match(answer.text, text)
      assert.ok(!answer.text.includes(TOKEN), 'the answer gives the token away')
    }
    const { host } = new URL(url)
    const withoutOrigin = { host, 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` }
    const ask403 = await ask(url, '/controls/validator/pause', {
      method: 'POST',
      headers: withoutOrigin,
      body: '{}',
    })
    assert.equal(ask403.status, 403)
    assert.equal((await control({}, '/controls/validator/pause', 'x'.repeat(5_000))).status, 413)
    assert.equal((await control({}, '/controls/validator/fly')).status, 502)
    assert.equal((await control({}, '/controls/validator/..%2fhealth')).status, 404)
    assert.equal(taken.length, 1)
    const tryAtOnce = () => Promise.all(Array.from({ length: 60 }, () => control({ authorization: 'x' })))
    await until('too many tries are refused', async () =>
      (await tryAtOnce()).some(({ status }) => status === 429),
    )
  })

  it('has no controls unless they are on', async (t) => {
    const { url } = await startServer(t)
    const { status, text } = await ask(url, '/controls/validator/kill', {
      method: 'POST',
      body: '{}',
      headers: { 'content-type': 'application/json', origin: url, authorization: 'Bearer ' },
    })
    assert.equal(status, 404)
    assert.match(text, /DEMO_CONTROLS=on/)
  })
})

describe('what the page is told', () => {
  it('goes on without Kafka and PostgreSQL, and says that they are away', async (t) => {
    const config = parseConfig({
      KAFKA_BROKERS: '127.0.0.1:1',
      DATABASE_URL: 'postgres://127.0.0.1:1/orders',
      INSTANCES_DIR: '/nonexistent',
    })
    const database = openDatabase(config.databaseUrl, 1, log)
    const state = new DashboardState({ config, database, log })
    t.after(async () => {
      await state.rest()
      await database.end()
    })
    const look = () => {
      state.addPoint([], Date.now())
      return state.look([], { shown: 0, of: undefined })
    }
    let { faults, groups, stages, orders } = await look()
    await until('they are missed', async () => {
      ;({ faults, groups, stages, orders } = await look())
      return faults.length > 1
    })
    assert.deepEqual(faults.map(({ kind, service }) => `${kind} ${service}`).sort(), [
      'unavailable Kafka',
      'unavailable PostgreSQL',
    ])
    assert.deepEqual([groups, orders], [[], 0])
    assert.equal(stages.find(({ name }) => name === 'validator')!.lag, undefined)
  })
})
