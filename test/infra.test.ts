// Kafka and PostgreSQL without Docker, on directories and ports of their own. Real servers, killed for real.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Kafka, logLevel } from 'kafkajs'
import pg from 'pg'
import { startKafka } from '../infra/kafka.ts'
import { freePort, isPortFree } from '../infra/ports.ts'
import { POSTGRES_VERSION, startPostgres } from '../infra/postgres.ts'
import { isRunning } from '../infra/serverProcess.ts'

const MAIN_FILE = fileURLToPath(new URL('../infra/main.ts', import.meta.url))

async function ownDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'infra-test-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  return directory
}

async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  timeoutMs = 15_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within ${timeoutMs} ms: ${what}`)
    await sleep(20)
  }
}

/** A listener that is neither Kafka nor PostgreSQL. */
async function occupyPort(t: TestContext): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.end('no')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => server.close())
  return (server.address() as { port: number }).port
}

async function withAdmin<Result>(port: number, use: (kafka: Kafka) => Promise<Result>): Promise<Result> {
  return use(
    new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING, retry: { retries: 20 } }),
  )
}

function writeRecord(port: number, topic: string): Promise<void> {
  return withAdmin(port, async (kafka) => {
    const admin = kafka.admin()
    const producer = kafka.producer()
    await Promise.all([admin.connect(), producer.connect()])
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true })
    await producer.send({ topic, messages: [{ value: 'kept' }] })
    await Promise.all([admin.disconnect(), producer.disconnect()])
  })
}

function recordCount(port: number, topic: string): Promise<number> {
  return withAdmin(port, async (kafka) => {
    const admin = kafka.admin()
    await admin.connect()
    const [offsets] = await admin.fetchTopicOffsets(topic)
    await admin.disconnect()
    return Number(offsets?.high) - Number(offsets?.low)
  })
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url)
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

test('Kafka is formatted once and keeps its records through a stop, a SIGKILL and a change of port', async (t) => {
  const dataDir = await ownDirectory(t)
  const progress: string[] = []
  const options = { dataDir, onProgress: (line: string) => void progress.push(line) }

  const first = await startKafka({ ...options, port: await freePort() })
  t.after(() => first.stop())
  assert.ok(progress.some((line) => line.startsWith('Formatting')))
  await writeRecord(first.port, 'kept')
  await first.stop()
  assert.equal(await isRunning(first.pid), false)
  assert.ok(await isPortFree(first.port))

  progress.length = 0
  const second = await startKafka({ ...options, port: await freePort() })
  t.after(() => second.stop())
  assert.deepEqual(progress, [])
  assert.equal(second.clusterId, first.clusterId)
  assert.equal(await recordCount(second.port, 'kept'), 1)
  process.kill(second.pid, 'SIGKILL')
  assert.deepEqual(await second.exited, { code: null, signal: 'SIGKILL', expected: false })

  const third = await startKafka({ ...options, port: second.port })
  t.after(() => third.stop())
  assert.equal(third.clusterId, first.clusterId)
  assert.equal(await recordCount(third.port, 'kept'), 1)

  await assert.rejects(startKafka({ ...options, port: await freePort() }), {
    code: 'ALREADY_RUNNING',
    message: `Kafka already runs on ${dataDir} as process ${third.pid}: use it, or stop it with "kill ${third.pid}".`,
  })
})

test('PostgreSQL is initialised once and keeps its rows through a stop, a SIGKILL and a change of port', async (t) => {
  const dataDir = await ownDirectory(t)
  const progress: string[] = []
  const options = { dataDir, onProgress: (line: string) => void progress.push(line) }

  const first = await startPostgres({ ...options, port: await freePort() })
  t.after(() => first.stop())
  assert.ok(progress.some((line) => line.startsWith('Initialising')))
  assert.equal(first.version, POSTGRES_VERSION)
  await query(first.url, "CREATE TABLE kept AS SELECT 'row' AS value")
  await first.stop()
  assert.equal(await isRunning(first.pid), false)

  progress.length = 0
  const second = await startPostgres({ ...options, port: await freePort() })
  t.after(() => second.stop())
  assert.deepEqual(progress, [])
  await query(second.url, "INSERT INTO kept VALUES ('second')")
  process.kill(second.pid, 'SIGKILL')
  assert.equal((await second.exited).signal, 'SIGKILL')
  // The lock file now names a live process of the same user, as after the restart of a container: here, of a server
  // with another directory.
  const other = await startPostgres({ dataDir: await ownDirectory(t), port: await freePort() })
  t.after(() => other.stop())
  const lockFile = join(dataDir, 'postgres', 'postmaster.pid')
  const lock = await readFile(lockFile, 'utf8')
  await writeFile(lockFile, lock.replace(/^\d+/, String(other.pid)))

  const third = await startPostgres({ ...options, port: second.port })
  t.after(() => third.stop())
  assert.deepEqual(await query(third.url, 'SELECT value FROM kept'), [{ value: 'row' }, { value: 'second' }])
  await assert.rejects(startPostgres({ ...options, port: await freePort() }), {
    code: 'ALREADY_RUNNING',
    message: `PostgreSQL already runs on ${dataDir} as process ${third.pid}: use it, or stop it with "kill -INT ${third.pid}".`,
  })
})

test('PostgreSQL starts while a backend of its killed predecessor still works', async (t) => {
  const dataDir = await ownDirectory(t)
  const first = await startPostgres({ dataDir, port: await freePort() })
  t.after(() => first.stop())
  const busy = new pg.Client(first.url)
  busy.on('error', () => {})
  await busy.connect()
  const work = busy.query('SELECT count(*) FROM generate_series(1, 6000000)').catch(() => {})
  process.kill(first.pid, 'SIGKILL')
  await first.exited
  // That backend holds the shared memory, and the new server must wait for it to go.
  const second = await startPostgres({ dataDir, port: first.port })
  t.after(() => second.stop())
  assert.deepEqual(await query(second.url, 'SELECT 1 AS one'), [{ one: 1 }])
  await Promise.all([work, busy.end().catch(() => {})])
})

test('a port that is taken gets one sentence with the port and what to do', async (t) => {
  const dataDir = await ownDirectory(t)
  const port = await occupyPort(t)
  const advice = `because another program does: stop it (see who with "lsof -i :${port}"), or choose another port with`
  await assert.rejects(startKafka({ dataDir, port }), {
    code: 'PORT_IN_USE',
    message: `Kafka cannot listen on 127.0.0.1:${port} ${advice} --kafka-port.`,
  })
  await assert.rejects(startPostgres({ dataDir, port }), {
    code: 'PORT_IN_USE',
    message: `PostgreSQL cannot listen on 127.0.0.1:${port} ${advice} --postgres-port.`,
  })
  assert.equal(existsSync(join(dataDir, 'kafka')), false)
})

/**
 * The first of several free ports, one after the other: below those of outgoing connections, one of which could else take
 * the port of a broker that is down for a moment.
 */
async function freeRow(length: number): Promise<number> {
  for (let first = 12_000 + (process.pid % 1_000) * 8; ; first += length) {
    const row = Array.from({ length }, (_, index) => first + index)
    if ((await Promise.all(row.map(isPortFree))).every(Boolean)) return first
  }
}

interface KafkaFacts {
  pid: number
  brokers: string[]
  nodes?: { id: number; pid: number; logFile: string }[]
}

interface Main {
  readonly child: ChildProcess
  readonly exited: Promise<number | null>
  readonly ready: Promise<{ kafka?: KafkaFacts; postgres: { pid: number; url: string } }>
  errors(): string
}

function runMain(t: TestContext, args: string[]): Main {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN_FILE, '--json', ...args], { stdio: 'pipe' })
  t.after(() => void child.kill('SIGKILL'))
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += String(chunk)
  })
  child.stderr.on('data', (chunk: Buffer) => {
    errors += String(chunk)
  })
  const exited = once(child, 'close').then(([status]) => status as number | null)
  let ended = false
  exited.then(() => {
    ended = true
  })
  const ready = until('infra is ready or has ended', () => ended || output.includes('\n'), 60_000).then(
    () => {
      assert.ok(output.includes('\n'), `infra ended before it was ready: ${errors}`)
      return JSON.parse(output)
    },
  )
  ready.catch(() => {})
  return { child, exited, ready, errors: () => errors }
}

test('npm run infra stops both at SIGTERM and when it is killed, and --reset removes their state', async (t) => {
  const dataDir = await ownDirectory(t)
  const ports = ['--kafka-port', String(await freePort()), '--postgres-port', String(await freePort())]
  const args = ['--data-dir', dataDir, ...ports]

  const stopped = runMain(t, args)
  const servers = await stopped.ready
  const pids = [servers.kafka?.pid ?? 0, servers.postgres.pid]
  assert.deepEqual(await Promise.all(pids.map(isRunning)), [true, true])
  const refused = runMain(t, [...args, '--reset'])
  assert.equal(await refused.exited, 1)
  assert.match(
    refused.errors(),
    /^Nothing was removed from .+ because Kafka and PostgreSQL still use it: press Ctrl-C/,
  )
  stopped.child.kill('SIGTERM')
  assert.equal(await stopped.exited, 0)
  assert.deepEqual(await Promise.all(pids.map(isRunning)), [false, false])

  const killed = runMain(t, args)
  const orphans = await killed.ready
  const orphanPids = [orphans.kafka?.pid ?? 0, orphans.postgres.pid]
  killed.child.kill('SIGKILL')
  await killed.exited
  await until('the servers end after their launcher', async () =>
    (await Promise.all(orphanPids.map(isRunning))).every((running) => !running),
  )

  const reset = runMain(t, [...args, '--reset'])
  assert.equal(await reset.exited, 0)
  for (const name of ['kafka', 'postgres', 'kafka.log', 'postgres.log', 'kafka.properties']) {
    assert.equal(existsSync(join(dataDir, name)), false, `${name} is still there`)
  }
})

test('npm run infra -- --brokers 3 starts a killed broker again, stops all of them, and keeps to three', async (t) => {
  const dataDir = await ownDirectory(t)
  const port = await freeRow(3)
  const args = ['--data-dir', dataDir, '--only', 'kafka', '--kafka-port', String(port)]

  const main = runMain(t, [...args, '--brokers', '3'])
  const { kafka } = await main.ready
  assert.deepEqual(kafka?.brokers, [`127.0.0.1:${port}`, `127.0.0.1:${port + 1}`, `127.0.0.1:${port + 2}`])
  const [first, second, third] = kafka?.nodes ?? []
  assert.ok(first && second && third)
  process.kill(second.pid, 'SIGKILL')
  const back =
    /Broker 2 ended unexpectedly \(SIGKILL\): see .+kafka-2\.log\. Starting it again \.\.\.\n.*Broker 2 is back as process (\d+)\./s
  await until('broker 2 is back', () => back.test(main.errors()), 60_000)
  main.child.kill('SIGTERM')
  assert.equal(await main.exited, 0)
  const pids = [first.pid, Number(back.exec(main.errors())?.[1]), third.pid]
  assert.deepEqual(await Promise.all(pids.map(isRunning)), [false, false, false])

  const alone = runMain(t, args)
  assert.equal(await alone.exited, 1)
  assert.match(
    alone.errors(),
    /^The Kafka state in .+ is that of a cluster of 3 and not of 1: start it with --brokers 3, .+ --reset"\.\n$/,
  )
  assert.equal(await runMain(t, [...args, '--reset']).exited, 0)
  assert.deepEqual(await readdir(dataDir), [])
})

test('npm run infra ends with status 1 and names the server that died', async (t) => {
  const dataDir = await ownDirectory(t)
  const port = String(await freePort())
  const main = runMain(t, ['--data-dir', dataDir, '--only', 'postgres', '--postgres-port', port])
  const { postgres } = await main.ready
  process.kill(postgres.pid, 'SIGKILL')
  assert.equal(await main.exited, 1)
  assert.ok(
    main.errors().includes(`PostgreSQL ended unexpectedly (SIGKILL): see ${join(dataDir, 'postgres.log')}.`),
  )
})

test('npm run infra refuses what it cannot do with one line', async (t) => {
  const refusals: [string[], RegExp][] = [
    [['--kafka-port', '70000'], /^--kafka-port is "70000": it must be a port number from 1 to 65535\.\n$/],
    [['--kafka-port', '65534', '--brokers', '3'], /^--kafka-port is "65534": .+ from 1 to 65533\.\n$/],
    [['--brokers', '2'], /^--brokers is "2": it must be 1 or 3\.\n$/],
    [['--only', 'redis'], /^--only is "redis": it must be kafka, postgres or cassandra\.\n$/],
    [['--unknown'], /^Unknown option '--unknown'.+See "npm run infra -- --help"\.\n$/],
  ]
  await Promise.all(
    refusals.map(async ([args, sentence]) => {
      const main = runMain(t, args)
      assert.equal(await main.exited, 1)
      assert.match(main.errors(), sentence)
    }),
  )
})
