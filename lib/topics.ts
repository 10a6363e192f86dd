/**
 * The topics: name, schema, key and settings of each declared together, once. Names and events are a promise to
 * whoever reads or writes them from outside.
 */
import { isUtf8 } from 'node:buffer'
import type { Static, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { describe, UnusableRecordError } from './errors.ts'
import { OrderCompleted, OrderPlaced, OrderRejected, OrderValidated, ProductEvent } from './events.ts'
import { JUDGE_NAMES, JUDGES, type JudgeName } from './judges.ts'

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

/** A topic that carries events of one schema. */
export interface Topic<Event> extends TopicSettings {
  /** The event in a record. @throws UnusableRecordError with what is wrong with it */
  decode(value: Buffer): Event
  encode(event: Event): string
  keyOf(event: Event): string
}

function defineTopic<Schema extends TSchema>(
  settings: TopicSettings,
  schema: Schema,
  keyOf: (event: Static<Schema>) => string,
  maxEventBytes = settings.maxMessageBytes,
): Topic<Static<Schema>> {
  const check = Compile(schema)
  return {
    ...settings,
    keyOf,
    encode: (event) => JSON.stringify(event),
    decode(value) {
      if (value.length > maxEventBytes) {
        throw new UnusableRecordError(`too large: ${value.length} bytes, at most ${maxEventBytes} are taken`)
      }
      // Decoded regardless, each byte that is wrong would become three: what goes on could be too large.
      if (!isUtf8(value)) throw new UnusableRecordError('not UTF-8')
      let event: unknown
      try {
        event = JSON.parse(value.toString('utf8'))
      } catch (error) {
        throw new UnusableRecordError(`not JSON: ${describe(error)}`, { cause: error })
      }
      if (check.Check(event)) return event as Static<Schema>
      throw new UnusableRecordError(explain(event, check.Errors(event)))
    },
  }
}

/** The first few things that are wrong, by path: a record can be wrong in a thousand places. */
function explain(event: unknown, errors: { instancePath: string; message: string }[]): string {
  const type = (event as { type?: unknown } | null)?.type
  const found = typeof type === 'string' ? ` (type '${type.slice(0, 40)}')` : ''
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

/** The consumer groups that have dead letters and a retry topic of their own. */
export const GROUPS = ['validator', ...JUDGE_NAMES, 'fulfilment', 'mail', 'analytics', 'order-view'] as const
export type GroupName = (typeof GROUPS)[number]

/** The topic of each judge, as `inventoryEvents` and so on. */
type JudgeTopics = {
  [Judge in JudgeName as `${Judge}Events`]: Topic<Static<(typeof JUDGES)[Judge]['schema']>>
}

export type TopicTable = ReturnType<typeof defineTopics>

/**
 * The table of topics.
 *
 * @param prefix stands before every name, so that several pipelines can share a cluster; usually empty
 */
export function defineTopics(prefix: string) {
  const orders = (name: string, maxMessageBytes = 2 * MIB): TopicSettings => ({
    name: prefix + name,
    layout: 'orders',
    cleanup: 'delete',
    retentionMs: 7 * DAY_MS,
    maxMessageBytes,
  })
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
    products: defineTopic(products, ProductEvent, (event) => event.sku),
    ordersRaw: defineTopic(
      orders('orders.raw', 4 * MIB),
      OrderPlaced,
      (event) => event.orderId,
      MAX_ORDER_BYTES,
    ),
    ordersValidated: defineTopic(orders('orders.validated'), OrderValidated, (event) => event.orderId),
    ordersRejected: defineTopic(orders('orders.rejected'), OrderRejected, (event) => event.orderId),
    ...(Object.fromEntries(
      JUDGE_NAMES.map((name) => {
        const { topic, schema } = JUDGES[name]
        const keyOf = (event: unknown) => (event as { orderId: string }).orderId
        return [`${name}Events`, defineTopic(orders(topic), schema, keyOf)]
      }),
    ) as JudgeTopics),
    ordersCompleted: defineTopic(orders('orders.completed'), OrderCompleted, (event) => event.orderId),
    deadLetters: raw('dlq', 6 * MIB),
    retries: raw('retry', 5 * MIB),
  }
}

/** The topics of the judges, in the order of their table. */
export function judgeTopics(topics: TopicTable): JudgeTopics[keyof JudgeTopics][] {
  return JUDGE_NAMES.map((name) => topics[`${name}Events`])
}

/** Every topic of the table, in one list. */
export function listTopics({ deadLetters, retries, ...topics }: TopicTable): TopicSettings[] {
  return [...Object.values(topics), ...Object.values(deadLetters), ...Object.values(retries)]
}
