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

/** Longer than a service with orders coming in takes to pass any of the moments. */
const POINT_DEADLINE_MS = 8_000
const REQUEST_TIMEOUT_MS = 2_000

/** What a fault does: resolves when it is healed, with a note if it was not quite as planned. */
type Inject = (pipeline: TrialPipeline, fault: Fault) => Promise<string | undefined>

/** Thrown when a fault cannot be done, for example to a process that is down already. */
class NotPossible extends Error {}

const INJECTIONS: Record<Fault['kind'], Inject> = {
  async kill(pipeline, { target, forMs }) {
    requireRunning(pipeline, target)
    await pipeline.killMember(target)
    await sleep(forMs)
    pipeline.startMember(target)
    return undefined
  },

  async 'kill-at-point'(pipeline, { target, forMs, point, passes }) {
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
    await sleep(forMs)
    pipeline.startMember(target)
    return wasReached ? undefined : `${point} did not come by ${passes} times, killed from outside`
  },

  async freeze(pipeline, { target, forMs }) {
    requireRunning(pipeline, target)
    pipeline.signal(target, 'SIGSTOP')
    await sleep(forMs)
    pipeline.signal(target, 'SIGCONT')
    return undefined
  },

  async leave(pipeline, { target, forMs }) {
    requireRunning(pipeline, target)
    await pipeline.stopMember(target)
    await sleep(forMs)
    pipeline.startMember(target)
    return undefined
  },

  async join(pipeline, { target, forMs }) {
    if (pipeline.isRunning(target)) throw new NotPossible(`${target} is there already`)
    pipeline.startMember(target)
    await sleep(forMs)
    if (pipeline.isRunning(target)) await pipeline.stopMember(target)
    return undefined
  },

  async 'kill-broker'(pipeline, { target, forMs }) {
    const node = pipeline.cluster.nodes.find(({ id }) => target === `broker-${id}`)!
    await node.kill()
    await sleep(forMs)
    await node.start()
    return undefined
  },

  async 'kill-postgres'(pipeline, { forMs }) {
    await pipeline.killPostgres()
    await sleep(forMs)
    await pipeline.startPostgres()
    return undefined
  },

  async 'kill-gateway'(pipeline, { forMs }) {
    requireRunning(pipeline, GATEWAY)
    await pipeline.killMember(GATEWAY)
    await sleep(forMs)
    pipeline.startMember(GATEWAY)
    return undefined
  },

  'slow-gateway': (pipeline, fault) => spoilGateway(pipeline, fault, { latencyMs: 1_500 }),
  'failing-gateway': (pipeline, fault) =>
    spoilGateway(pipeline, fault, { errorRatio: 0.3, throttleRatio: 0.2 }),
  // Charged, and the answer lost: whoever asks again under another key charges twice.
  'dropping-gateway': (pipeline, fault) => spoilGateway(pipeline, fault, { dropRatio: 0.4 }),
}

const GATEWAY = 'paymentGateway-1'

function requireRunning(pipeline: TrialPipeline, id: string): void {
  if (!pipeline.isRunning(id)) throw new NotPossible(`${id} was not running`)
}

async function spoilGateway(
  pipeline: TrialPipeline,
  { forMs }: Fault,
  faults: Record<string, number>,
): Promise<string | undefined> {
  const before = await askGateway(pipeline.gatewayUrl)
  await askGateway(pipeline.gatewayUrl, faults)
  await sleep(forMs)
  await askGateway(pipeline.gatewayUrl, before)
  return undefined
}

/** The gateway's faults as they are now, after they were changed if that is wanted. */
async function askGateway(url: string, change?: Record<string, number>): Promise<Record<string, number>> {
  try {
    const response = await fetch(`${url}/faults`, {
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(change && {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(change),
      }),
    })
    return (await response.json()) as Record<string, number>
  } catch (error) {
    throw new NotPossible(`the gateway did not answer: ${describe(error)}`)
  }
}

/**
 * Does what a fault says and heals it again.
 *
 * @param sinceMs when the load began, by performance.now()
 * @throws whatever went wrong other than that the fault was not possible
 */
export async function injectFault(
  pipeline: TrialPipeline,
  fault: Fault,
  sinceMs: number,
): Promise<Injection> {
  const startedMs = performance.now() - sinceMs
  const finish = (wasApplied: boolean, note?: string) => ({
    fault,
    startedMs,
    healedMs: performance.now() - sinceMs,
    wasApplied,
    ...(note === undefined ? {} : { note }),
  })
  try {
    return finish(true, await INJECTIONS[fault.kind](pipeline, fault))
  } catch (error) {
    if (error instanceof NotPossible) return finish(false, error.message)
    throw error
  }
}
