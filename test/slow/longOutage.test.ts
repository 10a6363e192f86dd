import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { createKafka } from '../../kafkaConfig.ts'
import { fetchLag, type WorkingGroup, workingGroups } from '../../lib/groupLag.ts'
import { RecoveryWatch, recoveryMs } from '../../lib/recoveryWatch.ts'
import { PAUSE_ABOVE_RECORDS } from '../../lib/taskInput.ts'
import { readTopics } from '../../lib/topicReader.ts'
import { groupsOf } from '../../lib/topics.ts'
import { TrialPipeline } from '../../lib/trialPipeline.ts'
import { readAll, readTally, until } from '../harness.ts'

/** So long that at this rate the queue of each partition is full well before it is over. */
const OUTAGE_MS = 40_000
const RATE = 300
const PARTITIONS = 2
/** Within this after the return, each partition has an outcome again. */
const GOES_ON_WITHIN_MS = 5_000
/** Above what is queued: what a fetch under way brings when the partition pauses. */
const MOST_QUEUED = PARTITIONS * (PAUSE_ABOVE_RECORDS + 1_500)
const MOST_MEMORY_MIB = 512
const POLL_MS = 500
/** Until then answers from memory are used up: the validator's customers are good for 5 s. */
const STILL_AFTER_MS = 10_000
const PAUSED_AT_LEAST_MS = 3_000
const CALM_LOOKS = 4

const SERVICES = ['validator', 'inventoryService', 'paymentService'] as const
type ServiceName = (typeof SERVICES)[number]

interface Outage {
  /** Takes a dependency away and resolves when it is gone. */
  away(): Promise<void>
  /** Brings it back and resolves when it answers. */
  back(): Promise<void>
  /** Who waits for it; the others go on. The first of them has the whole load before it. */
  stalled: readonly ServiceName[]
}

/** How an outage went; times by Date.now(). */
interface Course {
  goneMs: number
  /** It is about to come back. */
  endMs: number
  backMs: number
  health: Record<ServiceName, Health[]>
}

/** What a service says of itself at one moment. */
interface Health {
  atMs: number
  memoryMiB: number
  queued: number
  paused: number[]
}

const log = pino({ level: 'silent' })
let dataDir: string
let pipeline: TrialPipeline
let groups: WorkingGroup[]
/** When something committed came to a reader, by topic and partition. */
const arrivals = new Map<string, number[]>()
const reading = new AbortController()
let reader: Promise<unknown>

before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-long-outage-'))
  pipeline = await TrialPipeline.start({
    dataDir,
    brokers: 1,
    ratePerSecond: RATE,
    scriptOf: (name) => `${name}.ts`,
    settings: { PARTITIONS: String(PARTITIONS), BAD_ORDER_RATIO: '0' },
    say: () => undefined,
  })
  const { config } = pipeline
  groups = workingGroups(config.topicPrefix, config.topics)
  reader = readTopics({
    kafka: createKafka(config, 'test', log),
    topics: Object.values(outcomeTopics()),
    from: 'beginning',
    until: 'forever',
    onRecords: (topic, partition) => {
      const key = `${topic}/${partition}`
      const times = arrivals.get(key)
      if (times) times.push(Date.now())
      else arrivals.set(key, [Date.now()])
    },
    signal: reading.signal,
    log,
  })
  for (const name of ['producer', ...SERVICES]) pipeline.startMember(`${name}-1`)
})

after(async () => {
  reading.abort()
  await reader
  await pipeline.stop()
  await rm(dataDir, { recursive: true, force: true })
})

function outcomeTopics(): Record<ServiceName, string> {
  const { ordersValidated, inventoryEvents, paymentEvents } = pipeline.config.topics
  return {
    validator: ordersValidated.name,
    inventoryService: inventoryEvents.name,
    paymentService: paymentEvents.name,
  }
}

/** When outcomes of a service came, a list for each partition. */
function arrivalsOf(service: ServiceName): number[][] {
  const topic = outcomeTopics()[service]
  return Array.from({ length: PARTITIONS }, (_, partition) => arrivals.get(`${topic}/${partition}`) ?? [])
}

async function healthOf(service: ServiceName): Promise<Health> {
  const said = await readFile(join(dataDir, 'logs', `${service}-1.log`), 'utf8')
  const [url] = /http:\/\/127\.0\.0\.1:\d+\/health/.exec(said) ?? []
  const response = await fetch(url!, { signal: AbortSignal.timeout(2_000) })
  return { atMs: Date.now(), ...((await response.json()) as Omit<Health, 'atMs'>) }
}

/** Asks all services how they are, again and again, until the signal. */
async function watchHealth(signal: AbortSignal): Promise<Record<ServiceName, Health[]>> {
  const seen: Record<ServiceName, Health[]> = { validator: [], inventoryService: [], paymentService: [] }
  while (!signal.aborted) {
    for (const service of SERVICES) {
      // Who has no time to answer is asked again.
      const health = await healthOf(service).catch(() => undefined)
      if (health) seen[service].push(health)
    }
    await sleep(POLL_MS)
  }
  return seen
}

/** Waits until each service has had an outcome in each partition since that time. */
function untilOutcomesSince(sinceMs: number): Promise<void> {
  return until(
    'outcomes of each kind in each partition',
    () => SERVICES.every((service) => arrivalsOf(service).every((times) => (times.at(-1) ?? -1) >= sinceMs)),
    60_000,
  )
}

/** Waits until nobody has stood still for some looks, from a time on. */
async function untilCalm(watch: RecoveryWatch, sinceMs: number): Promise<void> {
  const isCalm = () => {
    const last = watch.looks.filter(({ atMs }) => atMs >= sinceMs).slice(-CALM_LOOKS)
    return last.length === CALM_LOOKS && last.every(({ stalled }) => stalled.length === 0)
  }
  await until('nobody stands still', isCalm, 90_000, POLL_MS)
}

async function endure(t: TestContext, outage: Outage): Promise<void> {
  const startedMs = performance.now()
  const watch = new RecoveryWatch(createKafka(pipeline.config, 'test', log), groups, startedMs)
  const sampling = new AbortController()
  t.after(() => {
    sampling.abort()
    return watch.stop()
  })
  await untilOutcomesSince(Date.now())

  const sampled = watchHealth(sampling.signal)
  await outage.away()
  const goneMs = Date.now()
  await sleep(OUTAGE_MS)
  const endMs = Date.now()
  await outage.back()
  const backMs = Date.now()
  const watchedMs = performance.now() - startedMs
  await untilOutcomesSince(endMs)
  await untilCalm(watch, watchedMs)
  sampling.abort()
  const course = { goneMs, endMs, backMs, health: await sampled }

  const recoveredMs = recoveryMs(watch.looks, watchedMs, Number.POSITIVE_INFINITY)!
  t.diagnostic(`nobody behind ${Math.round(recoveredMs)} ms after the return`)
  for (const service of SERVICES) {
    t.diagnostic(`${service}: ${describeHealth(service, course)}`)
    assertBounded(service, course)
    if (outage.stalled.includes(service)) {
      const firsts = firstOutcomes(service, course)
      t.diagnostic(`${service}: outcomes in each partition ${firsts.join(' and ')} ms after the return`)
      assertWentOn(service, course)
    } else {
      assertNeverWaited(service, course)
    }
  }
  assertPaused(outage.stalled[0]!, course)
}

function most(some: readonly Health[], figure: 'memoryMiB' | 'queued'): number {
  return Math.max(...some.map((health) => health[figure]))
}

/** How long after the return each partition had an outcome, in milliseconds. */
function firstOutcomes(service: ServiceName, { endMs, backMs }: Course): number[] {
  return arrivalsOf(service).map((times) => times.find((time) => time >= endMs)! - backMs)
}

/** Outcomes of each partition while it was away; not at first, when what was known and in hand is done with. */
function outcomesDuring(service: ServiceName, { goneMs, endMs }: Course): number[] {
  const isDuring = (time: number) => time > goneMs + STILL_AFTER_MS && time < endMs
  return arrivalsOf(service).map((times) => times.filter(isDuring).length)
}

function describeHealth(service: ServiceName, course: Course): string {
  const health = course.health[service]
  const during = health.filter(({ atMs }) => atMs <= course.endMs)
  const afterwards = health.filter(({ atMs }) => atMs > course.endMs)
  return (
    `memory ${health[0]!.memoryMiB} MiB before, at most ${most(during, 'memoryMiB')} during and ` +
    `${most(afterwards, 'memoryMiB')} after, queued at most ${most(during, 'queued')}`
  )
}

function assertBounded(service: ServiceName, { health }: Course): void {
  assert.ok(most(health[service], 'memoryMiB') < MOST_MEMORY_MIB, `${service}: memory`)
  assert.ok(most(health[service], 'queued') <= MOST_QUEUED, `${service}: queued`)
}

function assertWentOn(service: ServiceName, course: Course): void {
  assert.deepEqual(outcomesDuring(service, course), [0, 0], `${service} had nothing to say`)
  const firsts = firstOutcomes(service, course)
  assert.ok(Math.max(...firsts) < GOES_ON_WITHIN_MS, `${service} went on after ${firsts.join(', ')} ms`)
}

function assertNeverWaited(service: ServiceName, course: Course): void {
  assert.ok(Math.min(...outcomesDuring(service, course)) > 0, `${service} went on meanwhile`)
}

/** It has stopped fetching, and its queue stands still. */
function assertPaused(service: ServiceName, { endMs, health }: Course): void {
  const last = health[service].filter(({ atMs }) => atMs > endMs - PAUSED_AT_LEAST_MS && atMs < endMs)
  assert.ok(last.length > 1)
  for (const { paused, queued } of last) {
    assert.deepEqual(paused, [0, 1], `${service} fetches nothing more`)
    assert.equal(queued, last[0]!.queued, `the queue of ${service} stands still`)
  }
}

describe(`a dependency that is away for ${OUTAGE_MS / 1_000} s at ${RATE} orders/s`, () => {
  it('PostgreSQL: all wait within bounds and go on within 5 s of its return', (t) =>
    endure(t, {
      away: () => pipeline.killPostgres(),
      back: () => pipeline.startPostgres(),
      stalled: ['validator', 'inventoryService', 'paymentService'],
    }))

  it('the gateway: payment waits within bounds and goes on within 5 s of its return, the others never wait', (t) =>
    endure(t, {
      away: () => pipeline.killMember('paymentGateway-1'),
      async back() {
        pipeline.startMember('paymentGateway-1')
        const isThere = () =>
          fetch(`${pipeline.gatewayUrl}/health`)
            .then(({ ok }) => ok)
            .catch(() => false)
        await until('the gateway answers', isThere)
      },
      stalled: ['paymentService'],
    }))

  it('nothing was dead-lettered, lost or done twice', async () => {
    const { config } = pipeline
    await pipeline.stopMember('producer-1')
    const kafka = createKafka(config, 'test', log)
    await until('drained', async () => (await fetchLag(kafka, groups)) === 0, 60_000, POLL_MS)
    const tally = await readTally(config)
    assert.deepEqual(tally.complaints(), [])
    assert.equal(tally.figures.validated, tally.figures.placed)
    assert.equal(tally.figures.authorised + tally.figures.declined, tally.figures.placed)
    const letters = await readAll(
      config,
      groupsOf(config.topics).map((group) => config.topics.deadLetters[group].name),
    )
    assert.deepEqual([...letters.values()].flat(), [])
    assert.deepEqual(pipeline.unaskedEnds, [])
  })
})
