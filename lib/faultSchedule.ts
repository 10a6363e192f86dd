/**
 * What a fault run does and when, drawn from a seed: the same seed and shape give the same schedule, so a run that
 * failed can be looked at again.
 *
 * Nine faults of ten come in a burst, into each other's recovery; the tenth stands apart, so that the time to recover
 * from it alone can be told.
 */
import { base, Faker } from '@faker-js/faker'
import { JUDGE_NAMES } from './judges.ts'
import { PROBES, type Probe } from './probes.ts'

export const FAULT_KINDS = [
  'kill',
  'kill-at-point',
  'freeze',
  'leave',
  'join',
  'kill-broker',
  'kill-postgres',
  'kill-gateway',
  'slow-gateway',
  'failing-gateway',
  'dropping-gateway',
] as const
export type FaultKind = (typeof FAULT_KINDS)[number]

export interface Fault {
  /** From 1. */
  readonly number: number
  /** Since the load began. */
  readonly atMs: number
  readonly kind: FaultKind
  /** A process such as `validator-1`, or `broker-1`, `postgres`, `gateway`. */
  readonly target: string
  /** How long it is away, stopped, slow, or (when it joins) there. */
  readonly forMs: number
  /** No other fault is near it. */
  readonly isApart: boolean
  /** Of `kill-at-point`: where, and at the how manieth time that it comes by. */
  readonly point?: Probe
  readonly passes?: number
}

export interface ScheduleShape {
  seed: number
  seconds: number
  faults: number
  brokers: number
  /** Longer than this a frozen process is no member of its group any more. */
  sessionTimeoutMs: number
}

/** The services that work on each order, and are put to the test. */
export const SERVICES: readonly string[] = [
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
]
/** What reads along: one instance each is enough to see that it does. */
const READERS = ['analytics', 'mailService', 'orderView', 'api']
/** Instances of each service that run all the time; one more comes and goes. */
export const INSTANCES = 2

const CYCLE = 10
/** Of a cycle: the burst goes on for so long, and so late comes the fault that stands apart. */
const BURST_SHARE = 0.3
const APART_SHARE = 0.62
/** A process that was started is a member of its group after that; a broker takes longer. */
const RESTART_MS = 2_500
const BROKER_RESTART_MS = 8_000

interface KindPlan {
  /** How often it is drawn in a burst. */
  weight: number
  forMs: readonly [number, number]
  targets: readonly string[]
}

/** Everything that runs all the time and can be killed by name. */
export function standingProcesses(): string[] {
  const instances = SERVICES.flatMap((name) =>
    Array.from({ length: INSTANCES }, (_, index) => `${name}-${index + 1}`),
  )
  return [...instances, ...READERS.map((name) => `${name}-1`), 'producer-1']
}

function planKinds({ brokers, sessionTimeoutMs }: ScheduleShape): Record<FaultKind, KindPlan> {
  const standing = standingProcesses()
  const working = standing.filter((id) => SERVICES.some((name) => id.startsWith(name)))
  const brokerIds = Array.from({ length: brokers }, (_, index) => `broker-${index + 1}`)
  return {
    kill: { weight: 20, forMs: [0, 3_000], targets: standing },
    'kill-at-point': { weight: 45, forMs: [0, 2_000], targets: working },
    freeze: { weight: 8, forMs: [sessionTimeoutMs + 1_500, sessionTimeoutMs + 3_500], targets: working },
    leave: { weight: 7, forMs: [0, 2_000], targets: working },
    join: { weight: 6, forMs: [3_000, 9_000], targets: SERVICES.map((name) => `${name}-${INSTANCES + 1}`) },
    'kill-broker': { weight: 8, forMs: [0, 2_000], targets: brokerIds },
    'kill-postgres': { weight: 7, forMs: [0, 2_000], targets: ['postgres'] },
    'kill-gateway': { weight: 5, forMs: [0, 3_000], targets: ['gateway'] },
    'slow-gateway': { weight: 4, forMs: [1_000, 4_000], targets: ['gateway'] },
    'failing-gateway': { weight: 4, forMs: [1_000, 4_000], targets: ['gateway'] },
    'dropping-gateway': { weight: 7, forMs: [1_000, 4_000], targets: ['gateway'] },
  }
}

/** The faults of a run, in the order in which they come. */
export function planFaults(shape: ScheduleShape): Fault[] {
  const faker = new Faker({ locale: base, seed: shape.seed })
  const plans = planKinds(shape)
  const cycles = Math.ceil(shape.faults / CYCLE)
  const cycleMs = (shape.seconds * 1_000) / cycles
  const burstGapMs = (cycleMs * BURST_SHARE) / (CYCLE - 1)
  const apartKinds: FaultKind[] = []
  const busyUntilMs = new Map<string, number>()
  const faults: Fault[] = []

  for (let index = 0; index < shape.faults; index++) {
    const startMs = Math.floor(index / CYCLE) * cycleMs
    const place = index % CYCLE
    const isApart = place === CYCLE - 1
    if (isApart && apartKinds.length === 0) apartKinds.push(...faker.helpers.shuffle([...FAULT_KINDS]))
    const atMs = Math.round(
      startMs + (isApart ? cycleMs * APART_SHARE : burstGapMs * (place + faker.number.float({ max: 0.9 }))),
    )
    const isFree = (target: string) => atMs >= (busyUntilMs.get(target) ?? 0)
    const possible = FAULT_KINDS.filter((kind) => plans[kind].targets.some(isFree))
      // Early in a burst come those that take long to heal, or the next fault would not stand apart, and those that
      // need work going on to strike.
      .filter((kind) => place < CYCLE / 2 || !['freeze', 'join', 'kill-at-point'].includes(kind))
    // A schedule too dense for its targets hits some that are down already, and the report says so.
    const drawn = possible.length > 0 ? possible : FAULT_KINDS
    const kinds = isApart
      ? [{ weight: 1, value: apartKinds.pop()! }]
      : drawn.map((kind) => ({ weight: plans[kind].weight, value: kind }))
    const kind = faker.helpers.weightedArrayElement(kinds)
    const { targets, forMs: range } = plans[kind]
    const free = targets.filter(isFree)
    const target = faker.helpers.arrayElement(free.length > 0 ? free : [...targets])
    const forMs = faker.number.int({ min: range[0], max: range[1] })
    busyUntilMs.set(target, atMs + forMs + (kind === 'kill-broker' ? BROKER_RESTART_MS : RESTART_MS))
    const fault = { number: index + 1, atMs, kind, target, forMs, isApart }
    faults.push(kind === 'kill-at-point' ? { ...fault, ...drawPoint(faker, target) } : fault)
  }
  return faults
}

function drawPoint(faker: Faker, target: string): { point: Probe; passes: number } {
  const passed = PROBES.filter((probe) => probe !== 'charged' || target.startsWith('paymentService'))
  const point = faker.helpers.arrayElement(passed)
  // A payment is charged for each order; a task is fenced once when it is taken over, the rest comes by its batches.
  const most = point === 'charged' ? 200 : point === 'joined' || point === 'fenced' ? 1 : 5
  return { point, passes: faker.number.int({ min: 1, max: most }) }
}
