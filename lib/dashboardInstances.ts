/** The processes of the pipeline, asked one by one how they are, and what that makes of each stage. */
import { askInstance } from './dashboardAsk.ts'
import type { DashboardStage, StageState } from './dashboardSnapshot.ts'
import { type Instance, readInstances } from './instances.ts'

/** What is read of a health report; each service has some of it. */
export interface HealthFigures {
  state: string | undefined
  isPaused: boolean
  in: number
  /** Of all topics. */
  out: number
  deadLetters: number
  p50Ms: number | undefined
  p99Ms: number | undefined
  breaker: string | undefined
  ratePerSecond: number | undefined
}

interface Sample extends Pick<HealthFigures, 'in' | 'out' | 'deadLetters'> {
  atMs: number
}

/** - silent: several times in a row it has not answered in time: frozen, or short of time */
export type InstanceState = 'alive' | 'silent' | 'gone'

/** One process, since it was seen first. */
export interface SeenInstance {
  instance: Instance
  state: InstanceState
  /** The latest, of whenever it answered; undefined when it never has. */
  figures: HealthFigures | undefined
  samples: Sample[]
  silentLooks: number
}

const ANSWER_WITHIN_MS = 700
/** One answer that is late says nothing on a busy machine. */
const SILENT_LOOKS = 3
const RATE_MS = 5_000
const ERROR_SHARE_MS = 60_000
/** After a longer gap nobody has looked, and a rate over it would be none of the last seconds. */
const MAX_GAP_MS = 5_000
/** More than that are not asked: what else lies there is not of one pipeline. */
const MAX_INSTANCES = 200

/** Looks at all that say they run; see lib/instances.ts. */
export class InstanceWatch {
  readonly #directory: string
  readonly #seen = new Map<string, SeenInstance>()
  /** Of which there was one. */
  readonly #services = new Set<string>()

  /** @param directory where processes say that they run */
  constructor(directory: string) {
    this.#directory = directory
  }

  get seen(): SeenInstance[] {
    return [...this.#seen.values()]
  }

  /** Asks all of them at once. Takes no longer than {@link ANSWER_WITHIN_MS}. */
  async look(): Promise<void> {
    const listed = new Map(
      readInstances(this.#directory)
        .slice(0, MAX_INSTANCES)
        .map((instance) => [`${instance.service} ${instance.pid} ${instance.url}`, instance]),
    )
    for (const key of this.#seen.keys()) if (!listed.has(key)) this.#seen.delete(key)
    const request = { path: '/health', timeoutMs: ANSWER_WITHIN_MS }
    await Promise.all(
      [...listed].map(async ([key, instance]) => {
        const answer = await askInstance(instance, request)
        const seen = this.#seen.get(key) ?? newlySeen(instance)
        this.#seen.set(key, seen)
        if (answer.kind === 'refused') markGone(seen)
        else if (answer.kind === 'silent') markSilent(seen)
        else this.#take(seen, answer.body)
      }),
    )
    // Bounded by the services that there are: names of files that nobody answers for are not kept.
    for (const { instance, figures } of this.#seen.values()) if (figures) this.#services.add(instance.service)
  }

  #take(seen: SeenInstance, body: unknown): void {
    // Another process has got the port of one that was killed.
    if ((body as { service?: unknown } | null)?.service !== seen.instance.service) {
      markGone(seen)
      return
    }
    seen.state = 'alive'
    seen.silentLooks = 0
    seen.figures = readFigures(body)
    addSample(seen.samples, { atMs: Date.now(), ...seen.figures })
  }

  /** @param lag by Kafka's own books */
  stage(name: string, lag: number | undefined): DashboardStage {
    const all = this.seen.filter(({ instance }) => instance.service === name)
    return toStage(name, all, this.#services.has(name), lag)
  }

  /** What the simulator is told to do, while there is one. */
  get simulatorRate(): number | undefined {
    const simulator = this.seen.find(
      ({ instance, state }) => instance.service === 'producer' && state !== 'gone',
    )
    return simulator?.figures?.ratePerSecond
  }
}

function newlySeen(instance: Instance): SeenInstance {
  return { instance, state: 'alive', figures: undefined, samples: [], silentLooks: 0 }
}

function markGone(seen: SeenInstance): void {
  seen.state = 'gone'
  seen.samples.length = 0
}

function markSilent(seen: SeenInstance): void {
  seen.silentLooks++
  if (seen.silentLooks < SILENT_LOOKS || seen.state !== 'alive') return
  seen.state = 'silent'
  // What it did last is no rate of now.
  seen.samples.length = 0
}

/** What can be read of a health report; what is missing counts as zero or is undefined. */
export function readFigures(body: unknown): HealthFigures {
  const report = body as Record<string, unknown>
  const latency = (report.latency ?? {}) as Record<string, unknown>
  return {
    state: typeof report.state === 'string' ? report.state : undefined,
    isPaused: report.isPaused === true,
    in: numberIn(report.in) ?? 0,
    // The simulator says how many orders it has placed.
    out: sumOf(report.out ?? report.placed),
    deadLetters: numberIn(report.deadLetters) ?? 0,
    p50Ms: numberIn(latency.p50Ms),
    p99Ms: numberIn(latency.p99Ms),
    breaker: typeof report.breaker === 'string' ? report.breaker : undefined,
    ratePerSecond: numberIn(report.ratePerSecond),
  }
}

function numberIn(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

/** A count, or counts by topic. */
function sumOf(value: unknown): number {
  const counts = typeof value === 'object' && value !== null ? Object.values(value) : [value]
  return counts.reduce<number>((sum, count) => sum + (numberIn(count) ?? 0), 0)
}

/** Keeps those of the last minute. Counters that went back are those of another process. */
export function addSample(samples: Sample[], sample: Sample): void {
  const { in: read, out, deadLetters, atMs } = sample
  const last = samples.at(-1)
  if (last && (atMs - last.atMs > MAX_GAP_MS || read < last.in || out < last.out)) samples.length = 0
  samples.push({ in: read, out, deadLetters, atMs })
  while (atMs - samples[0]!.atMs > ERROR_SHARE_MS) samples.shift()
}

/** By how much a counter grew in so long, and in how many milliseconds that was; nothing in no time with one sample. */
function growth(samples: readonly Sample[], overMs: number, name: 'in' | 'out' | 'deadLetters') {
  const last = samples.at(-1)
  const first = last && samples.find(({ atMs }) => last.atMs - atMs <= overMs)
  return last && first ? { by: last[name] - first[name], inMs: last.atMs - first.atMs } : { by: 0, inMs: 0 }
}

/** How fast a counter grows, a second, over the last seconds. */
export function rateOf(samples: readonly Sample[], name: 'in' | 'out'): number {
  const { by, inMs } = growth(samples, RATE_MS, name)
  return inMs > 0 ? (by * 1_000) / inMs : 0
}

/** One box of the picture, of all processes of a service. @param hasBeen one of them has answered once */
export function toStage(
  name: string,
  all: readonly SeenInstance[],
  hasBeen: boolean,
  lag: number | undefined,
): DashboardStage {
  const present = all.filter(({ state }) => state !== 'gone')
  const sum = (read: (seen: SeenInstance) => number) => present.reduce((total, seen) => total + read(seen), 0)
  const worst = (read: (figures: HealthFigures) => number | undefined) => {
    const values = present.flatMap(({ figures }) => (figures && read(figures)) ?? [])
    return values.length > 0 ? Math.max(...values) : undefined
  }
  const read = sum(({ samples }) => growth(samples, ERROR_SHARE_MS, 'in').by)
  const failed = sum(({ samples }) => growth(samples, ERROR_SHARE_MS, 'deadLetters').by)
  const state = stateOf(present)
  return {
    name,
    state: state ?? (hasBeen || all.length > 0 ? 'gone' : 'absent'),
    instances: present.length,
    inPerSecond: sum(({ samples }) => rateOf(samples, 'in')),
    outPerSecond: sum(({ samples }) => rateOf(samples, 'out')),
    lag,
    p50Ms: worst(({ p50Ms }) => p50Ms),
    p99Ms: worst(({ p99Ms }) => p99Ms),
    errorShare: read > 0 ? failed / read : 0,
    deadLetters: sum(({ figures }) => figures?.deadLetters ?? 0),
    ...(name === 'payment' && { breaker: isBreakerOpen(present) ? 'open' : 'closed' }),
  }
}

function isBreakerOpen(present: readonly SeenInstance[]): boolean {
  return present.some(({ figures }) => figures?.breaker === 'open')
}

/** One that works is enough; @returns undefined when there is none at all */
function stateOf(present: readonly SeenInstance[]): StageState | undefined {
  const states = new Set(present.map(stateOfOne))
  return (['running', 'paused', 'starting', 'waiting', 'silent'] as const).find((state) => states.has(state))
}

/** @returns what one process does at present; 'running' also for one that says no more than that it is there */
export function stateOfOne({ state, figures }: SeenInstance): StageState {
  if (state === 'gone') return 'gone'
  if (state === 'silent') return 'silent'
  if (!figures) return 'waiting'
  if (figures.isPaused) return 'paused'
  if (figures.state === undefined || figures.state === 'running') return 'running'
  return figures.state === 'starting' ? 'starting' : 'waiting'
}
