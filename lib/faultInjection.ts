import { sleep } from './async.ts'
import { describe } from './errors.ts'
import type { Fault } from './faultSchedule.ts'
import type { TrialPipeline } from './trialPipeline.ts'

/** How a fault went. */
export interface Injection {
  fault: Fault
  /** Since the load began; later than planned when what it is about was away. */
  startedMs: number
  /** When all was there again that it took away. */
  healedMs: number
  /** Why it did not come about, or what was different from the plan. */
  note?: string
  wasApplied: boolean
}

/** Longer than a service with orders coming in takes to pass any of the moments, its own start included. */
const POINT_DEADLINE_MS = 12_000
const REQUEST_TIMEOUT_MS = 2_000
const HEAL_ATTEMPTS = 10

/** What a fault does: resolves when it is healed, with a note if it was not quite as planned. */
type Inject = (pipeline: TrialPipeline, fault: Fault, signal: AbortSignal) => Promise<string | undefined>

/** Thrown when a fault cannot be done, for example to a process that is down already. */
class NotPossible extends Error {}

const INJECTIONS: Record<Fault['kind'], Inject> = {
  async kill(pipeline, { target, forMs }, signal) {
    requireRunning(pipeline, target)
    await pipeline.killMember(target)
    await sleep(forMs, signal)
    pipeline.startMember(target)
    return undefined
  },

  async 'kill-at-point'(pipeline, { target, forMs, point, passes }, signal) {
    requireRunning(pipeline, target)
    if (point === 'joined' || point === 'fenced') {
      // These come with a rebalance: its own return is one, at once if it has left in order.
      await pipeline.stopMember(target)
      pipeline.startMember(target)
    }
    const wasReached = await pipeline.killMemberAt(
      target,
      { killAt: point!, passes: passes! },
      POINT_DEADLINE_MS,
    )
    await sleep(forMs, signal)
    pipeline.startMember(target)
    return wasReached ? undefined : `${point} did not come by ${passes} times, killed from outside`
  },

  async freeze(pipeline, { target, forMs }, signal) {
    requireRunning(pipeline, target)
    pipeline.freeze(target, forMs)
    await sleep(forMs, signal)
    return undefined
  },

  async leave(pipeline, { target, forMs }, signal) {
    requireRunning(pipeline, target)
    await pipeline.stopMember(target)
    await sleep(forMs, signal)
    pipeline.startMember(target)
    return undefined
  },

  async join(pipeline, { target, forMs }, signal) {
    if (pipeline.isRunning(target)) throw new NotPossible(`${target} is there already`)
    pipeline.startMember(target)
    await sleep(forMs, signal)
    if (pipeline.isRunning(target)) await pipeline.stopMember(target)
    return undefined
  },

  async 'kill-broker'(pipeline, { target, forMs }, signal) {
    const node = pipeline.cluster.nodes.find(({ id }) => target === `broker-${id}`)!
    await node.kill()
    await sleep(forMs, signal)
    await node.start()
    return undefined
  },

  async 'kill-postgres'(pipeline, { forMs }, signal) {
    await pipeline.killPostgres()
    await sleep(forMs, signal)
    await pipeline.startPostgres()
    return undefined
  },

  async 'kill-gateway'(pipeline, { forMs }, signal) {
    requireRunning(pipeline, GATEWAY)
    await pipeline.killMember(GATEWAY)
    await sleep(forMs, signal)
    pipeline.startMember(GATEWAY)
    return undefined
  },

  'slow-gateway': (...call) => spoilGateway({ latencyMs: 1_500 }, ...call),
  'failing-gateway': (...call) => spoilGateway({ errorRatio: 0.3, throttleRatio: 0.2 }, ...call),
  // Charged, and the answer lost: whoever asks again under another key charges twice.
  'dropping-gateway': (...call) => spoilGateway({ dropRatio: 0.4 }, ...call),
}

const GATEWAY = 'paymentGateway-1'

function requireRunning(pipeline: TrialPipeline, id: string): void {
  if (!pipeline.isRunning(id)) throw new NotPossible(`${id} was not running`)
}

async function spoilGateway(
  faults: Record<string, number>,
  { gatewayUrl, config }: TrialPipeline,
  { forMs }: Fault,
  signal: AbortSignal,
): Promise<undefined> {
  try {
    await setFaults(gatewayUrl, faults)
  } catch (error) {
    throw new NotPossible(`the gateway did not answer: ${describe(error)}`)
  }
  await sleep(forMs, signal)
  const { port: _port, ...clean } = config.gateway
  for (let attempt = 1; ; attempt++) {
    try {
      await setFaults(gatewayUrl, clean)
      return undefined
    } catch (error) {
      // Left as it is, it would spoil the rest of the run.
      if (attempt === HEAL_ATTEMPTS) throw error
      await sleep(REQUEST_TIMEOUT_MS)
    }
  }
}

async function setFaults(url: string, faults: Record<string, number>): Promise<void> {
  const response = await fetch(`${url}/faults`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(faults),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  })
  if (!response.ok) throw new Error(`the gateway answered ${response.status} to a change of its faults`)
}

/**
 * Does what a fault says and heals it again.
 *
 * @param inHand the targets of faults that are not healed yet: none of them is struck again before
 * @param sinceMs when the load began, by performance.now()
 * @param signal ends it early, healed
 * @throws whatever went wrong other than that the fault was not possible
 */
export async function injectFault(
  pipeline: TrialPipeline,
  fault: Fault,
  inHand: Set<string>,
  sinceMs: number,
  signal: AbortSignal,
): Promise<Injection> {
  const startedMs = performance.now() - sinceMs
  const finish = (wasApplied: boolean, note?: string) => ({
    fault,
    startedMs,
    healedMs: performance.now() - sinceMs,
    wasApplied,
    ...(note === undefined ? {} : { note }),
  })
  const { kind, target } = fault
  if (inHand.has(target)) return finish(false, `${target} is not back yet`)
  inHand.add(target)
  try {
    return finish(true, await INJECTIONS[kind](pipeline, fault, signal))
  } catch (error) {
    if (error instanceof NotPossible) return finish(false, error.message)
    throw error
  } finally {
    inHand.delete(target)
  }
}
