/**
 * What tests stand on: a fresh set of topics and a fresh database for each, on the broker and the PostgreSQL that
 * `test/run.ts` started.
 */
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { startScript, stopScript } from '../lib/childProcesses.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { createLogger } from '../lib/log.ts'
import { type Answering, FIRST_TIER, Tally } from '../lib/tally.ts'
import { readTopics, type TopicRecord } from '../lib/topicReader.ts'
import { AWAKE, LISTENING, type StopOrder } from './fixtures/stopAtProbe.ts'

/** The environment of a test's own: topics by prefix, a database by name, any free ports, few partitions. */
export async function testEnvironment(
  t: TestContext,
  settings: Record<string, string> = {},
): Promise<Record<string, string>> {
  const { KAFKA_BROKERS, DATABASE_URL } = process.env
  if (!KAFKA_BROKERS || !DATABASE_URL) {
    throw new Error(
      'this test needs KAFKA_BROKERS and DATABASE_URL: run it by `npm test`, or start `npm run infra`',
    )
  }
  const id = `t${randomBytes(5).toString('hex')}`
  const admin = new pg.Client({ connectionString: DATABASE_URL })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${id}`)
  t.after(async () => {
    await admin.query(`DROP DATABASE IF EXISTS ${id} WITH (FORCE)`)
    await admin.end()
  })
  const outbox = join(tmpdir(), `${id}-outbox`)
  const instances = join(tmpdir(), `${id}-instances`)
  t.after(() => rm(outbox, { recursive: true, force: true }))
  t.after(() => rm(instances, { recursive: true, force: true }))
  const url = new URL(DATABASE_URL)
  url.pathname = `/${id}`
  return {
    KAFKA_BROKERS,
    DATABASE_URL: url.href,
    TOPIC_PREFIX: `${id}.`,
    PARTITIONS: '3',
    HEALTH_PORT: '0',
    GATEWAY_PORT: '0',
    LOG_LEVEL: process.env.TEST_LOG_LEVEL ?? 'silent',
    API_PORT: '0',
    DASHBOARD_PORT: '0',
    OUTBOX_DIR: outbox,
    INSTANCES_DIR: instances,
    // A file that is not there: the `.env` of whoever runs the tests must not matter.
    ENV_FILE: '/nonexistent/.env',
    ...settings,
  }
}

/** A configuration of a test's own, with its topics made. */
export async function testConfig(t: TestContext, settings: Record<string, string> = {}): Promise<Config> {
  const config = parseConfig(await testEnvironment(t, settings))
  await ensureTopics(config, () => undefined)
  return config
}

/** What runs at present, and how much of what each said last a failure tells. */
const runningScripts = new Map<string, RunningScript>()
const LAST_LINES = 8

/** Waits until something is so. @throws after the deadline, with what it waited for and what the scripts said last */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  deadlineMs = 60_000,
  pollMs = 20,
): Promise<void> {
  const endMs = Date.now() + deadlineMs
  while (!(await isSo())) {
    if (Date.now() > endMs) throw new Error(`not within ${deadlineMs} ms: ${what}${lastWords()}`)
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

function lastWords(): string {
  const said = [...runningScripts].map(([name, { child, lines }]) => {
    const state = child.exitCode ?? child.signalCode
    const heading = state === null ? name : `${name}, ended with ${state}`
    return [`\n${heading}:`, ...lines.slice(-LAST_LINES)].join('\n    ')
  })
  return said.join('')
}

export interface RunningScript {
  child: ChildProcess
  /** All that it has said so far, on either stream. */
  lines: string[]
}

/** Starts one of the scripts as a process of its own, which the end of the test ends. */
export function runScript(
  t: TestContext,
  name: string,
  env: Record<string, string>,
  args: string[] = [],
): RunningScript {
  const running = startLogged(name, env, args)
  t.after(() => stopScript(running.child))
  return running
}

const STOP_AT_PROBE = fileURLToPath(new URL('fixtures/stopAtProbe.ts', import.meta.url))

/** The same, but it can be told to stop itself at a probe; see test/fixtures/stopAtProbe.ts. It is woken up to be ended. */
export function runStoppable(...[t, name, env, args]: Parameters<typeof runScript>): RunningScript {
  const running = startLogged(name, env, args, [STOP_AT_PROBE])
  t.after(async () => {
    running.child.kill('SIGCONT')
    await stopScript(running.child)
  })
  return running
}

/** Tells a script of {@link runStoppable} where to stop itself, and waits until it has heard. */
export async function orderStop({ child, lines }: RunningScript, order: StopOrder): Promise<void> {
  const heard = () => lines.filter((line) => line === LISTENING).length
  const before = heard()
  child.send(order)
  await until('it has heard where to stop', () => heard() > before)
}

/** Wakes up one that has stopped itself. Once can be too early: it says so before it stands still. */
export async function wakeUp({ child, lines }: RunningScript): Promise<void> {
  await until('it is awake', () => {
    child.kill('SIGCONT')
    return lines.includes(AWAKE)
  })
}

function startLogged(
  name: string,
  env: Record<string, string>,
  args: string[] = [],
  preload: string[] = [],
): RunningScript {
  const lines: string[] = []
  const print = (line: string) => {
    lines.push(line)
    if (process.env.TEST_VERBOSE) console.error(`${name}: ${line}`)
  }
  const child = startScript({
    script: `${name}.ts`,
    args,
    preload,
    env: { ...process.env, ...env, LOG_LEVEL: 'info' },
    print,
  })
  const running = { child, lines }
  runningScripts.set(`${name} ${child.pid}`, running)
  return running
}

/** The tasks that a service had when it last heard from its group. */
export function tasksOf({ lines }: RunningScript): number[] {
  const said = lines.findLast((line) => /has (no )?tasks/.test(line)) ?? ''
  return (/has tasks ([\d ]+)/.exec(said)?.[1] ?? '').split(' ').filter(Boolean).map(Number)
}

/** All records of some topics, as a read-committed reader sees them now. */
export async function readAll(
  config: Config,
  topics: string[],
): Promise<Map<string, (TopicRecord & { partition: number })[]>> {
  const log = createLogger('test', config.log)
  const found = new Map<string, (TopicRecord & { partition: number })[]>(topics.map((topic) => [topic, []]))
  await readTopics({
    kafka: createKafka(config, 'test', log),
    topics,
    from: 'beginning',
    until: 'end',
    onRecords: (topic, partition, records) => {
      for (const record of records) found.get(topic)!.push({ ...record, partition })
    },
    log,
  })
  return found
}

/** The books of all that went through, as of now. @param answering the services that take part */
export async function readTally(config: Config, answering = FIRST_TIER): Promise<Tally> {
  const tally = new Tally(config.topics, answering)
  for (const [topic, records] of await readAll(config, tally.topics)) {
    for (const record of records) tally.take(topic, record.partition, [record])
  }
  return tally
}

/** Reading all topics takes a while and the processor with it: whoever waits for what it shows looks less often. */
export const READ_ALL_POLL_MS = 300

/** Waits until so many orders were placed and each has come to all of its ends, once. */
export async function untilDrained(
  config: Config,
  orders: number,
  {
    deadlineMs = 60_000,
    answering = FIRST_TIER,
  }: { deadlineMs?: number; answering?: readonly Answering[] } = {},
): Promise<Tally> {
  let tally = new Tally(config.topics, answering)
  await until(
    `${orders} orders drained`,
    async () => {
      try {
        tally = await readTally(config, answering)
      } catch (error) {
        // The topics are still to be made.
        if (error instanceof ConfigurationError) return false
        throw error
      }
      return tally.isEven && tally.figures.placed === orders
    },
    deadlineMs,
    READ_ALL_POLL_MS,
  ).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(tally.figures)} ${tally.complaints().join('; ')}`)
  })
  return tally
}
