/**
 * The topics: name, schema, key and settings of each declared together, once. Names and events are a promise to
 * whoever reads or writes them from outside.
 */
import { isUtf8 } from 'node:buffer'
import type { Static, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { type Envelope, type KeyRing, open, parseEnvelope } from './crypto.ts'
import { describe, UnusableRecordError } from './errors.ts'
import {
  Answer,
  HopsRecorded,
  OrderCompleted,
  OrderPlaced,
  OrderRejected,
  OrderValidated,
  ProductEvent,
  WorkerRequest,
} from './events.ts'
import { JUDGE_NAMES, JUDGES, type JudgeName } from './judges.ts'
import type { RawRecord } from './record.ts'

const MIB = 1024 * 1024
const DAY_MS = 24 * 60 * 60 * 1000

/**
 * An order above this is no order: it is dead-lettered. Twice what the largest real invoice needs (705 lines are
 * about 80 KB), and with enrichment still well below what the topics behind it take.
 */
export const MAX_ORDER_BYTES = MIB

/** What a topic looks like on the broker, independent of the cluster's size. */
export interface TopicSettings {
  readonly name: string
  /** `orders` topics all have PARTITIONS partitions and are co-partitioned; `single` has one. */
  readonly layout: 'orders' | 'single'
  readonly cleanup: 'delete' | 'compact'
  /** How far back a replay reaches; -1 keeps everything. */
  readonly retentionMs: number
  readonly maxMessageBytes: number
}

/** The keys, read on first use. @throws ConfigurationError when there are none, or none that can be used */
export type LoadKeys = () => KeyRing

/** How events are written: plain or sealed, to their topics or to the Command Center. */
export interface Wiring {
  /** Events of orders go through the Command Center. */
  isRouted: boolean
  /** The topics that are sealed, by their names without the prefix; all of orders when they are routed. */
  sealedTopics: readonly string[]
  /** Asked for when something is to be opened: whoever passes sealed messages on has none. */
  keys: LoadKeys
}

/** A topic that carries events of one schema. */
export interface Topic<Event> extends TopicSettings {
  /** Whom its messages are for: the `worker_name` on what is sealed for it. */
  readonly address: string
  readonly isSealed: boolean
  /** The bytes of the event: what a sealed record holds. @throws UnusableRecordError */
  open(value: Buffer): Buffer
  /** The event in a record. @throws UnusableRecordError with what is wrong with it */
  decode(value: Buffer): Event
  encode(event: Event): string
  keyOf(event: Event): string
  /** For a reader that takes each record whole, whatever is in it: in place of `decode`, `keyOf` and their refusals. */
  takeWhole?(record: RawRecord): Event
}

interface TopicDefinition<Schema extends TSchema> {
  settings: TopicSettings
  schema: Schema
  keyOf(event: Static<Schema>): string
  address: string
  /** Set for a topic that is sealed. */
  keys?: LoadKeys
  maxEventBytes?: number
}

function defineTopic<Schema extends TSchema>(definition: TopicDefinition<Schema>): Topic<Static<Schema>> {
  const { settings, schema, keyOf, address, keys, maxEventBytes = settings.maxMessageBytes } = definition
  const check = Compile(schema)
  const openRecord = (value: Buffer): { bytes: Buffer; envelope?: Envelope } => {
    if (!keys) return { bytes: value }
    const envelope = parseEnvelope(value)
    return { bytes: open(keys(), address, envelope), envelope }
  }
  return {
    ...settings,
    address,
    isSealed: keys !== undefined,
    keyOf,
    open: (value) => openRecord(value).bytes,
    encode: (event) => JSON.stringify(event),
    decode(value) {
      const { bytes, envelope } = openRecord(value)
      const event = parseEvent(bytes, maxEventBytes, envelope !== undefined)
      if (!check.Check(event)) {
        throw new UnusableRecordError(explain(event, check.Errors(event), envelope !== undefined))
      }
      if (envelope) requireLabels(envelope, event, keyOf(event as Static<Schema>))
      return event as Static<Schema>
    },
  }
}

/**
 * @param isSealed nothing of what is in it may be said
 * @throws UnusableRecordError when it is too large, or no JSON
 */
function parseEvent(bytes: Buffer, maxBytes: number, isSealed: boolean): unknown {
  if (bytes.length > maxBytes) {
    throw new UnusableRecordError(`too large: ${bytes.length} bytes, at most ${maxBytes} are taken`)
  }
  // Decoded regardless, each byte that is wrong would become three: what goes on could be too large.
  if (!isUtf8(bytes)) throw new UnusableRecordError('not UTF-8')
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    if (isSealed) throw new UnusableRecordError('not JSON')
    throw new UnusableRecordError(`not JSON: ${describe(error)}`, { cause: error })
  }
}

/** @throws UnusableRecordError when an envelope is labelled as another event than the one in it */
function requireLabels({ request_id, event_id }: Envelope, event: unknown, key: string): void {
  const { eventId } = event as { eventId?: string }
  if (request_id !== key) {
    throw new UnusableRecordError('sealed: its key and request_id are not the order id of the event in it')
  }
  if (event_id !== (eventId ?? '')) {
    throw new UnusableRecordError('sealed: its event_id is not that of the event in it')
  }
}

/** The first few things that are wrong, by path: a record can be wrong in a thousand places. */
function explain(
  event: unknown,
  errors: { instancePath: string; message: string }[],
  isSealed: boolean,
): string {
  const type = (event as { type?: unknown } | null)?.type
  const found = typeof type === 'string' && !isSealed ? ` (type '${type.slice(0, 40)}')` : ''
  const problems = errors.slice(0, 5).map(({ instancePath, message }) => `${instancePath || '/'} ${message}`)
  return `wrong shape${found}: ${problems.join('; ')}`
}

/**
 * A topic for records as they are: no schema, read and written by one group alone. What is too large for a service
 * has to fit with the headers that say why: dead letters take more than retries, and these more than orders.raw.
 */
function defineRawTopic(name: string, maxMessageBytes: number): TopicSettings {
  return { name, layout: 'orders', cleanup: 'delete', retentionMs: 30 * DAY_MS, maxMessageBytes }
}

/** The topics of orders, without a prefix. */
export const ORDER_TOPIC_NAMES: readonly string[] = [
  'orders.raw',
  'orders.validated',
  'orders.rejected',
  ...JUDGE_NAMES.map((name) => JUDGES[name].topic),
  'orders.completed',
]

const PIPELINE_GROUPS = [
  'validator',
  ...JUDGE_NAMES,
  'fulfilment',
  'mail',
  'analytics',
  'order-view',
] as const
const ROUTING_GROUPS = ['command-center', 'metadata-log'] as const
/** The consumer groups that have dead letters and a retry topic of their own. */
export const GROUPS = [...PIPELINE_GROUPS, ...ROUTING_GROUPS] as const
export type GroupName = (typeof GROUPS)[number]

/** The topic of each judge, as `inventoryEvents` and so on. */
type JudgeTopics = {
  [Judge in JudgeName as `${Judge}Events`]: Topic<Static<(typeof JUDGES)[Judge]['schema']>>
}

type JudgeRequests = { [Judge in JudgeName as `${Judge}Requests`]: Topic<WorkerRequest> }

export type TopicTable = ReturnType<typeof defineTopics>

const PLAIN: Wiring = {
  isRouted: false,
  sealedTopics: [],
  keys: () => {
    throw new Error('nothing is sealed')
  },
}

/**
 * The table of topics. Those of the Command Center are in it, but exist on the broker only when it is routed.
 *
 * @param prefix stands before every name, so that several pipelines can share a cluster; usually empty
 */
export function defineTopics(prefix: string, wiring: Wiring = PLAIN) {
  const orders = (name: string, maxMessageBytes = 2 * MIB): TopicSettings => ({
    name: prefix + name,
    layout: 'orders',
    cleanup: 'delete',
    retentionMs: 7 * DAY_MS,
    maxMessageBytes,
  })
  const define = <Schema extends TSchema>(
    address: string,
    settings: TopicSettings,
    schema: Schema,
    maxEventBytes?: number,
  ) => {
    const isSealed = wiring.isRouted || wiring.sealedTopics.includes(settings.name.slice(prefix.length))
    return defineTopic({
      settings,
      schema,
      keyOf: orderIdOf,
      address,
      ...(isSealed && { keys: wiring.keys }),
      ...(maxEventBytes !== undefined && { maxEventBytes }),
    })
  }
  const products: TopicSettings = {
    name: `${prefix}products`,
    layout: 'single',
    cleanup: 'compact',
    retentionMs: -1,
    maxMessageBytes: MIB,
  }
  const raw = (suffix: string, maxMessageBytes: number) =>
    Object.fromEntries(
      GROUPS.map((group) => [group, defineRawTopic(`${prefix}${group}.${suffix}`, maxMessageBytes)]),
    ) as Record<GroupName, TopicSettings>
  return {
    isRouted: wiring.isRouted,
    products: defineTopic({
      settings: products,
      schema: ProductEvent,
      keyOf: ({ sku }) => sku,
      address: 'catalogue',
    }),
    ordersRaw: define('validator', orders('orders.raw', 4 * MIB), OrderPlaced, MAX_ORDER_BYTES),
    ordersValidated: define('judges', orders('orders.validated'), OrderValidated),
    ordersRejected: define('rejections', orders('orders.rejected'), OrderRejected),
    ...(Object.fromEntries(
      JUDGE_NAMES.map((name) => {
        const { topic, schema } = JUDGES[name]
        return [`${name}Events`, define(`${name}-answers`, orders(topic), schema)]
      }),
    ) as JudgeTopics),
    ordersCompleted: define('decisions', orders('orders.completed'), OrderCompleted),
    /** Everything that the Command Center is to forward, sealed. */
    inbox: orders('command-center.inbox', 4 * MIB),
    /** What it did with each, without what is in them. */
    hops: defineTopic({
      settings: orders('command-center.hops', 4 * MIB),
      schema: HopsRecorded,
      keyOf: ({ eventId }) => eventId,
      address: 'metadata-log',
    }),
    /** Requests to one judge alone, which no order waits for (npm run send), and what is answered to them. */
    ...(Object.fromEntries(
      JUDGE_NAMES.map((name) => [`${name}Requests`, define(name, orders(`${name}.requests`), WorkerRequest)]),
    ) as JudgeRequests),
    answers: define('requester', orders('command-center.answers'), Answer),
    deadLetters: raw('dlq', 6 * MIB),
    retries: raw('retry', 5 * MIB),
  }
}

function orderIdOf(event: unknown): string {
  return (event as { orderId: string }).orderId
}

/** The topics of the judges, in the order of their table. */
export function judgeTopics(topics: TopicTable): JudgeTopics[keyof JudgeTopics][] {
  return JUDGE_NAMES.map((name) => topics[`${name}Events`])
}

/** The topics through which orders flow: those that the Command Center forwards to when they are routed. */
export function orderTopics(topics: TopicTable): Topic<unknown>[] {
  const { ordersRaw, ordersValidated, ordersRejected, ordersCompleted } = topics
  return [
    ordersRaw,
    ordersValidated,
    ordersRejected,
    ...judgeTopics(topics),
    ordersCompleted,
  ] as Topic<unknown>[]
}

/** Where requests to one judge alone go, and what is answered to them: beside the flow of orders. */
export function requestTopics(topics: TopicTable): Topic<unknown>[] {
  return [...JUDGE_NAMES.map((name) => topics[`${name}Requests`]), topics.answers] as Topic<unknown>[]
}

/** All that the Command Center forwards to, when orders are routed. */
export function forwardedTopics(topics: TopicTable): Topic<unknown>[] {
  return [...orderTopics(topics), ...requestTopics(topics)]
}

/** The topics whose records are sealed in this wiring. */
export function sealedTopics(topics: TopicTable): Topic<unknown>[] {
  return forwardedTopics(topics).filter(({ isSealed }) => isSealed)
}

/** Whether a group works on messages and never on what is in them. */
export function isOfRouting(group: GroupName): boolean {
  return (ROUTING_GROUPS as readonly string[]).includes(group)
}

/** The groups that take part in this wiring. */
export function groupsOf({ isRouted }: TopicTable): readonly GroupName[] {
  return isRouted ? GROUPS : PIPELINE_GROUPS
}

/** Every topic of this wiring, in one list. */
export function listTopics(topics: TopicTable): TopicSettings[] {
  const { products, inbox, hops, deadLetters, retries, isRouted } = topics
  const groups = groupsOf(topics)
  return [
    products,
    ...orderTopics(topics),
    ...(isRouted ? [inbox, hops, ...requestTopics(topics)] : []),
    ...groups.map((group) => deadLetters[group]),
    ...groups.map((group) => retries[group]),
  ]
}
