/** What one order's records say of its way: pure. */
import { ATTEMPTS_HEADER, headerCount, REASON_HEADER } from './deadLetters.ts'
import { describe, PipelineError } from './errors.ts'
import type { OrderPlaced } from './events.ts'
import { JUDGE_NAMES, JUDGES, type Judge } from './judges.ts'
import { toTimelineEntry, type ViewEvent } from './orderView.ts'
import type { PlacedRecord } from './orderWayReader.ts'
import {
  causeOf,
  DEAD_LETTER_HEADER,
  DROPPED_HEADER,
  formatPosition,
  HOP_HEADER,
  headerText,
  parsePosition,
  REDRIVES_HEADER,
  SOURCE_HEADER,
} from './record.ts'
import { type GroupName, groupsOf, orderTopics, type Topic, type TopicTable } from './topics.ts'
import { traceIdOf, traceparentOf } from './tracing.ts'

/** Times in milliseconds since 1970; positions are `topic/partition/offset`. */
export interface WayStep {
  kind: 'event' | 'dead-letter' | 'redriven' | 'dropped'
  /** Without the prefix of the pipeline. */
  topic: string
  partition: number
  offset: number
  position: string
  /** When it was sent to Kafka. */
  sentAtMs: number
  /** The group that wrote it; for an order that was placed, `api` or `producer`; `operator` for what `npm run dlq` wrote. */
  by: string
  /** The type of the event, and what it says where one type says several things: `InventoryUpdated RESERVED`. */
  label: string
  /** The position that it names as its cause. */
  cause?: string
  /** From when its cause was sent to when it was; absent where the cause is not known. */
  hopMs?: number
  /** How often its cause was worked on until this came of it; for a dead letter, until it became one. */
  attempts: number
  /** Of a dead letter. */
  redrives?: number
  /** Why it is a dead letter, or was dropped. */
  reason?: string
  /** What became of a dead letter. */
  state?: 'open' | 'redriven' | 'dropped'
  /** Where it came through the Command Center. */
  inboxPosition?: string
  traceId?: string
  isSealed: boolean
  /** Of the value. */
  bytes: number
  /** Absent where it could not be read, with `problem`, or is larger than {@link MAX_SHOWN_BYTES}. */
  event?: unknown
  problem?: string
  /** The value as it lies there, where it is no event and not sealed: its first characters. */
  text?: string
}

export type OrderEnd = 'CONFIRMED' | 'CANCELLED' | 'REJECTED'

/** An event of an order with where it stands. */
interface ReadEvent {
  topic: string
  event: ViewEvent
}

export interface WayOfOrder {
  isComplete: boolean
  /** What is still to come, in words; empty when it is complete. */
  waitingFor: string[]
  end?: OrderEnd
  startedAtMs: number
  /** When the latest step was sent. */
  lastAtMs: number
  /** In order of time. */
  steps: WayStep[]
  /** The products that were ordered. */
  skus: string[]
  trace?: { traceId: string; url?: string }
}

export interface WayOptions {
  topics: TopicTable
  topicPrefix: string
  /** Whether the API took it, rather than the simulator. */
  isFromApi: boolean
  /** A URL with `{traceId}` in it. */
  traceUrlTemplate?: string | undefined
}

/** Above this an event is told without what is in it: a page shows it. */
export const MAX_SHOWN_BYTES = 64 * 1024
const MAX_TEXT_LENGTH = 2_000

/** The way that these records tell, in whatever order they come. */
export function describeWay(records: readonly PlacedRecord[], options: WayOptions): WayOfOrder {
  const events = readEvents(records, options.topics)
  const steps = toSteps(records, options).sort(byTime(options))
  const { missing, end } = lookAtEvents(events, options.topics)
  const traceId = steps.find((step) => step.traceId !== undefined)?.traceId
  const url = traceId && options.traceUrlTemplate?.replaceAll('{traceId}', traceId)
  return {
    isComplete: missing.length === 0,
    waitingFor: missing,
    ...(end && { end }),
    startedAtMs: steps[0]?.sentAtMs ?? 0,
    lastAtMs: steps.at(-1)?.sentAtMs ?? 0,
    steps,
    skus: skusIn(events),
    ...(traceId && { trace: { traceId, ...(url && { url }) } }),
  }
}

/** Whether these records tell the whole way: placed, judged, decided and carried out, or rejected. */
export function isWholeWay(records: readonly PlacedRecord[], topics: TopicTable): boolean {
  return lookAtEvents(readEvents(records, topics), topics).missing.length === 0
}

/** The judges whose verdict is missing, the decision, and whoever has to carry it out. */
function lookAtEvents(
  events: readonly ReadEvent[],
  topics: TopicTable,
): { missing: string[]; end?: OrderEnd } {
  const { ordersRejected, ordersValidated, ordersCompleted } = topics
  const isOn = ({ name }: { name: string }) => events.some(({ topic }) => topic === name)
  if (!isOn(ordersValidated)) {
    return isOn(ordersRejected) ? { missing: [], end: 'REJECTED' } : { missing: ['validation'] }
  }
  const decision = events.find(({ topic }) => topic === ordersCompleted.name)?.event
  const missing: string[] = []
  for (const name of JUDGE_NAMES) {
    const judge: Judge = JUDGES[name]
    const said = events.filter(({ topic }) => topic === topics[`${name}Events`].name)
    const verdict = said.map(({ event }) => judge.read(event)).find((found) => found !== undefined)
    const isSettled = said.some(({ event }) => judge.read(event) === undefined)
    if (!verdict) missing.push(`the verdict of ${name}`)
    else if (decision && judge.settles && verdict.result !== 'fail' && !isSettled) {
      missing.push(`${name}, to carry the decision out`)
    }
  }
  if (!decision) return { missing: [...missing, 'the decision'] }
  return { missing, end: decision.type === 'OrderConfirmed' ? 'CONFIRMED' : 'CANCELLED' }
}

function readEvents(records: readonly PlacedRecord[], topics: TopicTable): ReadEvent[] {
  const byName = new Map(orderTopics(topics).map((topic) => [topic.name, topic]))
  return records.flatMap((record) => {
    const topic = byName.get(record.topic)
    const { event } = topic ? readValue(topic, record) : {}
    return event === undefined ? [] : [{ topic: record.topic, event: event as ViewEvent }]
  })
}

function skusIn(events: readonly ReadEvent[]): string[] {
  const skus = events.flatMap(({ event }) =>
    ((event as Partial<OrderPlaced>).items ?? []).map(({ sku }) => sku),
  )
  return [...new Set(skus)].sort()
}

/** The event in a record, or why there is none. */
function readValue(topic: Topic<unknown>, { value }: PlacedRecord): { event?: unknown; problem?: string } {
  if (value === null) return { problem: 'no value' }
  try {
    return { event: topic.decode(value) }
  } catch (error) {
    // No event, or sealed without a key for it: what it is, is told all the same.
    if (error instanceof PipelineError) return { problem: describe(error) }
    throw error
  }
}

interface Letter {
  group: GroupName
  position: string
  source: string
  sentAtMs: number
}

/** A record of a retry topic that settles a letter. */
interface Settling {
  group: GroupName
  letter: string
  isDropped: boolean
  sentAtMs: number
  offset: number
}

function toSteps(records: readonly PlacedRecord[], options: WayOptions): WayStep[] {
  const { topics, topicPrefix } = options
  const events = new Map(orderTopics(topics).map((topic) => [topic.name, topic]))
  const groups = groupsOf(topics)
  const letterGroups = new Map(groups.map((group) => [topics.deadLetters[group].name, group]))
  const retryGroups = new Map(groups.map((group) => [topics.retries[group].name, group]))
  const sentAt = new Map(records.map((record) => [positionOf(record), record.timestampMs]))
  const { letters, settlings } = readLetters(records, letterGroups, retryGroups)

  return records.flatMap((record): WayStep[] => {
    const topic = events.get(record.topic)
    const step = baseOf(record, topicPrefix, topic?.isSealed ?? isSealedLetter(record, events))
    const letterGroup = letterGroups.get(record.topic)
    const retryGroup = retryGroups.get(record.topic)
    if (topic) return [withCause(toEvent(step, record, topic, { letters, settlings, options }), sentAt)]
    if (letterGroup) return [withCause(toLetterStep(step, record, letterGroup, settlings), sentAt)]
    return retryGroup ? [withCause(toRedriveStep(step, record, retryGroup), sentAt)] : []
  })
}

function baseOf(record: PlacedRecord, topicPrefix: string, isSealed: boolean): Omit<WayStep, 'by' | 'label'> {
  const { topic, partition, offset, timestampMs, headers, value } = record
  const inboxPosition = headerText(headers, HOP_HEADER)
  const traceparent = traceparentOf(headers)
  const traceId = traceparent === undefined ? undefined : traceIdOf(traceparent)
  return {
    kind: 'event',
    topic: topic.startsWith(topicPrefix) ? topic.slice(topicPrefix.length) : topic,
    partition,
    offset,
    position: positionOf(record),
    sentAtMs: timestampMs,
    attempts: 1,
    isSealed,
    bytes: value?.length ?? 0,
    ...(inboxPosition !== undefined && { inboxPosition }),
    ...(traceId && { traceId }),
  }
}

function toEvent(
  base: Omit<WayStep, 'by' | 'label'>,
  record: PlacedRecord,
  topic: Topic<unknown>,
  { letters, settlings, options }: { letters: Letter[]; settlings: Settling[]; options: WayOptions },
): WayStep {
  const { event, problem } = readValue(topic, record)
  const cause = causeOf(record)
  const source = cause && formatPosition(cause.topic, cause.partition, cause.offset)
  const by = writerOf(topic, options)
  const redriven = letters.filter((letter) => {
    const isOfCause = letter.group === by && letter.source === source
    return isOfCause && settlings.some((one) => isRedriveOf(one, letter) && one.sentAtMs <= base.sentAtMs)
  })
  const isShown = base.bytes <= MAX_SHOWN_BYTES
  return {
    ...base,
    by,
    label: event === undefined ? 'no event' : labelOf(record, event),
    ...(source !== undefined && { cause: source }),
    attempts: 1 + redriven.length,
    ...(event !== undefined && isShown && { event }),
    ...(problem !== undefined && { problem, ...textOf(record, base.isSealed) }),
  }
}

function toLetterStep(
  base: Omit<WayStep, 'by' | 'label'>,
  record: PlacedRecord,
  group: GroupName,
  settlings: readonly Settling[],
): WayStep {
  const { headers } = record
  // The first that names it counts.
  const settling = settlings
    .filter((one) => one.group === group && one.letter === base.position)
    .sort((a, b) => a.offset - b.offset)[0]
  const source = headerText(headers, SOURCE_HEADER)
  return {
    ...base,
    kind: 'dead-letter',
    by: group,
    label: `dead letter of ${group}`,
    ...(source !== undefined && { cause: source }),
    attempts: Math.max(1, headerCount(headers, ATTEMPTS_HEADER)),
    redrives: headerCount(headers, REDRIVES_HEADER),
    reason: headerText(headers, REASON_HEADER) ?? '',
    state: settling === undefined ? 'open' : settling.isDropped ? 'dropped' : 'redriven',
    ...textOf(record, base.isSealed),
  }
}

function toRedriveStep(
  base: Omit<WayStep, 'by' | 'label'>,
  { headers }: PlacedRecord,
  group: GroupName,
): WayStep {
  const dropped = headerText(headers, DROPPED_HEADER)
  const letter = headerText(headers, DEAD_LETTER_HEADER)
  const isDropped = dropped !== undefined
  return {
    ...base,
    kind: isDropped ? 'dropped' : 'redriven',
    by: 'operator',
    label: isDropped ? `dropped for ${group}` : `redriven to ${group}`,
    ...(letter !== undefined && { cause: letter }),
    redrives: headerCount(headers, REDRIVES_HEADER),
    ...(isDropped && { reason: dropped }),
  }
}

function readLetters(
  records: readonly PlacedRecord[],
  letterGroups: ReadonlyMap<string, GroupName>,
  retryGroups: ReadonlyMap<string, GroupName>,
): { letters: Letter[]; settlings: Settling[] } {
  const letters: Letter[] = []
  const settlings: Settling[] = []
  for (const record of records) {
    const { topic, headers, timestampMs: sentAtMs, offset } = record
    const letterGroup = letterGroups.get(topic)
    const source = headerText(headers, SOURCE_HEADER) ?? ''
    if (letterGroup) letters.push({ group: letterGroup, position: positionOf(record), source, sentAtMs })
    const group = retryGroups.get(topic)
    const letter = headerText(headers, DEAD_LETTER_HEADER)
    const isDropped = headers[DROPPED_HEADER] !== undefined
    if (group && letter !== undefined) settlings.push({ group, letter, isDropped, sentAtMs, offset })
  }
  return { letters, settlings }
}

function isRedriveOf(settling: Settling, letter: Letter): boolean {
  return !settling.isDropped && settling.group === letter.group && settling.letter === letter.position
}

function withCause(step: WayStep, sentAt: ReadonlyMap<string, number>): WayStep {
  const causeSentAtMs = step.cause === undefined ? undefined : sentAt.get(step.cause)
  if (causeSentAtMs === undefined) return step
  // Clocks of several machines differ by a little: nothing comes before its cause.
  return { ...step, hopMs: Math.max(0, step.sentAtMs - causeSentAtMs) }
}

function labelOf({ topic, partition, offset }: PlacedRecord, event: unknown): string {
  return toTimelineEntry({ topic, partition, offset, event: event as ViewEvent }).label
}

/** The group that writes to a topic. */
function writerOf({ name }: { name: string }, { topics, isFromApi }: WayOptions): string {
  if (name === topics.ordersRaw.name) return isFromApi ? 'api' : 'producer'
  if (name === topics.ordersCompleted.name) return 'fulfilment'
  return JUDGE_NAMES.find((judge) => name === topics[`${judge}Events`].name) ?? 'validator'
}

function isSealedLetter({ headers }: PlacedRecord, events: ReadonlyMap<string, Topic<unknown>>): boolean {
  const source = parsePosition(headerText(headers, SOURCE_HEADER) ?? '')
  return source === undefined || (events.get(source.topic)?.isSealed ?? false)
}

/** What is sealed is of use to nobody as it lies there. */
function textOf({ value }: PlacedRecord, isSealed: boolean): { text?: string } {
  if (value === null || isSealed) return {}
  return {
    text: value
      .subarray(0, MAX_TEXT_LENGTH * 4)
      .toString('utf8')
      .slice(0, MAX_TEXT_LENGTH),
  }
}

function positionOf({ topic, partition, offset }: PlacedRecord): string {
  return formatPosition(topic, partition, offset)
}

/** Those of one millisecond in the order in which orders flow. */
function byTime({ topics, topicPrefix }: WayOptions): (a: WayStep, b: WayStep) => number {
  const rank = new Map(orderTopics(topics).map(({ name }, index) => [name.slice(topicPrefix.length), index]))
  const rankOf = ({ topic }: WayStep) => rank.get(topic) ?? rank.size
  return (a, b) => a.sentAtMs - b.sentAtMs || rankOf(a) - rankOf(b) || a.offset - b.offset
}
