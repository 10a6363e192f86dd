/** What the Command Center makes of a message, by what stands on its envelope. It never opens one. */
import { parseEnvelope } from './crypto.ts'
import { withoutLetterHeaders } from './deadLetters.ts'
import { describe, UnusableRecordError } from './errors.ts'
import type { Hop } from './events.ts'
import {
  BATCH_OVERHEAD_BYTES,
  type Forwarded,
  HOP_HEADER,
  type InputRecord,
  type RawRecord,
} from './record.ts'
import type { Route } from './routes.ts'
import type { RouteTarget } from './routeTargets.ts'
import type { Topic, TopicSettings } from './topics.ts'
import { sizeOfHeaders } from './transaction.ts'

/** A record of the inbox, whatever is in it. */
export interface Message extends Pick<RawRecord, 'key' | 'value'> {
  requestId: string
  workerName: string
  sender: string
  /** What is wrong with it, when there is no telling whom it is for. */
  problem?: string
}

/** Where a message goes, or why it goes nowhere. */
export type Direction = { route: Route; error?: undefined } | { route?: Route | undefined; error: string }

/** As far as a direction depends on it. */
export interface Routes {
  routeFor(workerName: string): Route | undefined
  target(topic: string): RouteTarget | undefined
}

const MAX_LABEL_LENGTH = 200
const MAX_ERROR_LENGTH = 500

/** The inbox as it is read by the Command Center: all that lies in it is a message, also what is none. */
export function messagesOf(inbox: TopicSettings): Topic<Message> {
  const never = () => {
    throw new Error('messages are taken whole')
  }
  return {
    ...inbox,
    address: '',
    isSealed: false,
    open: never,
    decode: never,
    encode: never,
    keyOf: never,
    takeWhole,
  }
}

function takeWhole({ key, value }: RawRecord): Message {
  try {
    if (value === null) throw new UnusableRecordError('no value')
    const { request_id: requestId, worker_name: workerName, sender } = parseEnvelope(value)
    const problem = (key?.toString() ?? '') === requestId ? {} : { problem: 'its key is not its request_id' }
    return { key, value, requestId, workerName, sender, ...problem }
  } catch (error) {
    if (!(error instanceof UnusableRecordError)) throw error
    return { key, value, requestId: '', workerName: '', sender: '', problem: describe(error) }
  }
}

/** Where to. A route that cannot be used is as good as none: whatever is written there would hold up all behind it. */
export function directionOf(
  { event, topic, partition, headers }: InputRecord<Message>,
  routes: Routes,
): Direction {
  const { workerName, problem, value, key } = event
  if (problem !== undefined) return { error: problem }
  const route = routes.routeFor(workerName)
  if (!route) return { error: `no route for worker '${workerName}'` }
  const refuse = (why: string) => ({ route, error: `the route for worker '${workerName}' ${why}` })
  if (!route.isEnabled) return refuse('is disabled')
  // Round and round for ever.
  if (route.targetTopic === topic) return refuse('leads back to where it came from')
  const target = routes.target(route.targetTopic)
  if (!target) return refuse(`leads to ${route.targetTopic}, which does not exist`)
  if (partition >= target.partitions) {
    return refuse(`leads to ${route.targetTopic}, which has no partition ${partition}`)
  }
  if (key === null && target.isCompacted)
    return refuse(`leads to ${route.targetTopic}, which takes no record without a key`)
  const bytes = (value?.length ?? 0) + (key?.length ?? 0) + sizeOfHeaders(headers)
  if (bytes > target.maxMessageBytes - BATCH_OVERHEAD_BYTES) {
    return refuse(`leads to ${route.targetTopic}, which does not take ${bytes} bytes`)
  }
  return { route }
}

/** The message as it came, with its position in the inbox in the header `hop`. */
export function forward({ event, source, headers }: InputRecord<Message>, { targetTopic }: Route): Forwarded {
  const { key, value, requestId, workerName } = event
  return {
    topic: targetTopic,
    key,
    value,
    headers: { ...withoutLetterHeaders(headers), [HOP_HEADER]: source },
    note: `${requestId} ${workerName} -> ${targetTopic}`,
  }
}

/** What the metadata log is told of it: labels and times, never what is in it. */
export function hopOf(
  { event, offset, timestampMs }: InputRecord<Message>,
  { route, error }: Direction,
  nowMs: number,
): Hop {
  const { requestId, workerName, sender } = event
  return {
    offset,
    requestId: requestId.slice(0, MAX_LABEL_LENGTH),
    workerName: workerName.slice(0, MAX_LABEL_LENGTH),
    sender: sender.slice(0, MAX_LABEL_LENGTH),
    ...(route && { routeId: route.routeId, targetTopic: route.targetTopic }),
    ...(error !== undefined && { error: error.slice(0, MAX_ERROR_LENGTH) }),
    // Clocks of two machines may differ.
    processingTimeMs: Math.max(0, Math.round(nowMs - timestampMs)),
  }
}
