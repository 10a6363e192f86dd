import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Ajv } from 'ajv'
import { parseConfig } from '../kafkaConfig.ts'
import { buildAsyncApi } from '../lib/asyncApi.ts'
import { defineTopics, listTopics, type Topic, type TopicTable } from '../lib/topics.ts'

// Its own ids are of draft-07 form and hold no secrets, but formats that nothing here knows.
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })
const isAsyncApi = ajv.compile(
  JSON.parse(
    readFileSync(
      new URL('../node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json', import.meta.url),
      'utf8',
    ),
  ),
)

interface Channel {
  address: string
  messages: Record<string, { $ref: string }>
  bindings: { kafka: { partitions: number; topicConfiguration: Record<string, unknown> } }
}

function build(topics: TopicTable) {
  const document = buildAsyncApi({
    topics,
    brokers: ['b:9092'],
    version: '1',
    partitions: 6,
    replicationFactor: 3,
  })
  // As it is served.
  return JSON.parse(JSON.stringify(document)) as ReturnType<typeof buildAsyncApi> & {
    channels: Record<string, Channel>
  }
}

test('the AsyncAPI document is one, by the schema of its specification', () => {
  const document = build(defineTopics(''))
  assert.ok(isAsyncApi(document), JSON.stringify(isAsyncApi.errors?.slice(0, 5), null, 1))
  const { info: _info, ...incomplete } = document
  assert.ok(!isAsyncApi(incomplete), 'one without `info` is refused: the schema does look')
})

test('it has every topic, as it is made on the broker', () => {
  const topics = parseConfig({ TOPIC_PREFIX: 'shop.' }).topics
  const channels = Object.values(build(topics).channels)
  assert.deepEqual(
    channels.map(({ address }) => address).sort(),
    listTopics(topics)
      .map(({ name }) => name)
      .sort(),
  )
  for (const { name, layout, cleanup, retentionMs, maxMessageBytes } of listTopics(topics)) {
    const { kafka } = channels.find(({ address }) => address === name)!.bindings
    assert.equal(kafka.partitions, layout === 'single' ? 1 : 6)
    assert.deepEqual(kafka.topicConfiguration, {
      'cleanup.policy': [cleanup],
      'retention.ms': retentionMs,
      'max.message.bytes': maxMessageBytes,
    })
  }
})

test('what it says of events is what the code takes: made by its schemas they are taken, broken they are not', () => {
  const topics = defineTopics('')
  const { channels, components } = build(topics)
  let checked = 0
  for (const [name, { messages }] of Object.entries(channels)) {
    const topic = (topics as unknown as Record<string, Topic<unknown>>)[name]
    if (!topic) continue
    for (const [type, { $ref }] of Object.entries(messages)) {
      assert.equal($ref, `#/components/messages/${type}`)
      const schema = components.schemas[type] as Schema
      const check = ajv.compile(schema as object)
      const event = sampleOf(schema) as Record<string, unknown>
      assert.ok(check(event), JSON.stringify([event, check.errors]))
      assert.deepEqual(topic.decode(Buffer.from(JSON.stringify(event))), event)
      for (const field of schema.required!) {
        const { [field]: _left, ...broken } = event
        assert.ok(!check(broken), `${type} without ${field}`)
        assert.throws(() => topic.decode(Buffer.from(JSON.stringify(broken))), /wrong shape/)
        checked++
      }
    }
  }
  assert.ok(checked > 80, `${checked} fields`)
})

interface Schema {
  type?: string
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minItems?: number
  minimum?: number
  format?: string
  pattern?: string
}

/** The plainest value that a schema allows. */
function sampleOf(schema: Schema): unknown {
  if (schema.const !== undefined) return schema.const
  if (schema.anyOf) return sampleOf(schema.anyOf[0]!)
  switch (schema.type) {
    case 'object': {
      const wanted = Object.entries(schema.properties ?? {}).filter(([name]) =>
        schema.required?.includes(name),
      )
      return Object.fromEntries(wanted.map(([name, field]) => [name, sampleOf(field)]))
    }
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items!))
    case 'integer':
      return Math.max(1, schema.minimum ?? 1)
    case 'string':
      if (schema.format === 'utc-milliseconds') return '2026-11-21T10:00:00.000Z'
      return schema.pattern?.includes('[A-Z]{3}') ? 'EUR' : 'x'
    default:
      throw new Error(`no sample for ${JSON.stringify(schema)}`)
  }
}
