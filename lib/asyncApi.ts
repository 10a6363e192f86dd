/** The topics and their events as an AsyncAPI 3.0 document, made of the same tables and schemas that the code runs on. */
import type { TSchema } from 'typebox'
import { OrderCompleted, OrderPlaced, OrderRejected, OrderValidated, ProductEvent } from './events.ts'
import { JUDGE_NAMES, JUDGES } from './judges.ts'
import { groupsOf, type TopicSettings, type TopicTable } from './topics.ts'

export interface AsyncApiOptions {
  topics: TopicTable
  brokers: readonly string[]
  version: string
  partitions: number
  replicationFactor: number
}

const SCHEMAS = {
  products: ProductEvent,
  ordersRaw: OrderPlaced,
  ordersValidated: OrderValidated,
  ordersRejected: OrderRejected,
  ordersCompleted: OrderCompleted,
} as const satisfies Partial<Record<keyof TopicTable, TSchema>>

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  products:
    'The catalogue: the last event of each product counts, and a record without a value withdraws it.',
  ordersRaw: 'Orders as they were placed.',
  ordersValidated: 'Orders that were found good, with their customer.',
  ordersRejected: 'Orders that were refused, with all reasons.',
  ordersCompleted: 'What became of each validated order, said once.',
}

const SOURCE_HEADERS = {
  type: 'object',
  properties: {
    source: { type: 'string', description: 'topic/partition/offset of the record that caused this one' },
  },
}

/** A document in the form of https://www.asyncapi.com/docs/reference/specification/v3.0.0. */
export function buildAsyncApi(options: AsyncApiOptions) {
  const { topics, brokers, version } = options
  const channels: Record<string, object> = {}
  const messages: Record<string, object> = {}
  const schemas: Record<string, unknown> = {}
  const events: [name: string, settings: TopicSettings, schema: TSchema, description: string][] = [
    ...Object.entries(SCHEMAS).map(
      ([name, schema]) =>
        [name, topics[name as keyof typeof SCHEMAS], schema, DESCRIPTIONS[name]!] as (typeof events)[number],
    ),
    ...JUDGE_NAMES.map(
      (judge) =>
        [
          `${judge}Events`,
          topics[`${judge}Events`],
          JUDGES[judge].schema,
          `What ${judge} says about each order.`,
        ] as (typeof events)[number],
    ),
  ]
  for (const [name, settings, schema, description] of events) {
    const names = eventsOf(schema).map((event) => {
      const type = typeOf(event)
      schemas[type] = event
      messages[type] = describeMessage(type, name === 'products' ? 'sku' : 'order id')
      return type
    })
    channels[name] = describeChannel(settings, names, description, options)
  }
  messages.anyRecord = {
    title: 'A record as it came',
    contentType: 'application/octet-stream',
    payload: { description: 'whatever bytes there were' },
    bindings: { kafka: { bindingVersion: '0.5.0' } },
  }
  for (const group of groupsOf(topics)) {
    const raw = (settings: TopicSettings, description: string) =>
      describeChannel(settings, ['anyRecord'], description, options)
    channels[`${group}.deadLetters`] = raw(
      topics.deadLetters[group],
      `Records that ${group} could not use; headers say where they came from and why.`,
    )
    channels[`${group}.retries`] = raw(topics.retries[group], `Dead letters that ${group} is to try again.`)
  }
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Order pipeline',
      version,
      description:
        'Each record is keyed by order id (products by sku), and what is written about an order lies in the same ' +
        'partition of every topic. Money is in minor units, prices include tax, times are ISO 8601 in UTC.',
    },
    defaultContentType: 'application/json',
    servers: { kafka: { host: brokers.join(','), protocol: 'kafka' } },
    channels,
    components: { messages, schemas },
  }
}

/** A union is one message for each of its members. */
function eventsOf(schema: TSchema): TSchema[] {
  return (schema as { anyOf?: TSchema[] }).anyOf ?? [schema]
}

function typeOf(schema: TSchema): string {
  const { properties } = schema as { properties?: { type?: { const?: string } } }
  const type = properties?.type?.const
  if (type === undefined) throw new Error('an event without a type cannot be described')
  return type
}

function describeMessage(type: string, key: string): object {
  return {
    name: type,
    title: type,
    payload: { $ref: `#/components/schemas/${type}` },
    headers: SOURCE_HEADERS,
    bindings: { kafka: { key: { type: 'string', description: key }, bindingVersion: '0.5.0' } },
  }
}

function describeChannel(
  { name, layout, cleanup, retentionMs, maxMessageBytes }: TopicSettings,
  messages: readonly string[],
  description: string,
  { partitions, replicationFactor }: AsyncApiOptions,
): object {
  return {
    address: name,
    description,
    messages: Object.fromEntries(
      messages.map((message) => [message, { $ref: `#/components/messages/${message}` }]),
    ),
    bindings: {
      kafka: {
        topic: name,
        partitions: layout === 'single' ? 1 : partitions,
        replicas: replicationFactor,
        topicConfiguration: {
          'cleanup.policy': [cleanup],
          'retention.ms': retentionMs,
          'max.message.bytes': maxMessageBytes,
        },
        bindingVersion: '0.5.0',
      },
    },
  }
}
