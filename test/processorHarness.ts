/**
 * What the tests of the processor share: a group with two inputs and one output of its own, ways to fill and read
 * them, and the counting that tells lost from doubled.
 */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Admin, IHeaders } from 'kafkajs'
import { pino } from 'pino'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { describe, UnusableRecordError } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import { Processor, type ProcessorOptions, type Work } from '../lib/processor.ts'
import { headerText, publish, SOURCE_HEADER } from '../lib/record.ts'
import { readTopics } from '../lib/topicReader.ts'
import type { Topic, TopicSettings } from '../lib/topics.ts'
import { testEnvironment, until } from './harness.ts'

export interface TestEvent {
  id: string
  /** Who decided it, or what is to happen with it: up to the test. */
  note?: string
}

export interface TestGroup {
  name: string
  config: Config
  log: Logger
  /** What was logged as a warning or an error. */
  complaints: string[]
  first: Topic<TestEvent>
  second: Topic<TestEvent>
  output: Topic<TestEvent>
  deadLetters: TopicSettings
  retries: TopicSettings
}

/** The group of a configuration: made alike in the test and in the child processes that it starts. */
export function groupOf(config: Config): TestGroup {
  const { ordersRaw, ordersValidated, inventoryEvents, deadLetters, retries } = config.topics
  const complaints: string[] = []
  return {
    name: `${config.topicPrefix}validator`,
    config,
    log: collectingLog(complaints),
    complaints,
    first: testTopic(ordersRaw),
    second: testTopic(ordersValidated),
    output: testTopic(inventoryEvents),
    deadLetters: deadLetters.validator,
    retries: retries.validator,
  }
}

/** A group with topics of its own, two partitions each unless told otherwise. */
export async function testGroup(
  t: TestContext,
  settings: Record<string, string> = {},
): Promise<TestGroup & { environment: Record<string, string> }> {
  const environment = await testEnvironment(t, { PARTITIONS: '2', ...settings })
  const group = groupOf(parseConfig(environment))
  await ensureTopics(group.config, () => undefined)
  await untilUsable(group)
  return { ...group, environment }
}

/** A topic that was just made answers with errors for a moment: a processor waits that out, a test would count it. */
async function untilUsable(group: TestGroup): Promise<void> {
  const { first, second, output, deadLetters, retries } = group
  const areThere = async (admin: Admin) => {
    for (const { name } of [first, second, output, deadLetters, retries]) await admin.fetchTopicOffsets(name)
    return true
  }
  await withAdmin(group, (admin) =>
    until('the topics have leaders', () => areThere(admin).catch(() => false)),
  )
}

function testTopic({ name, layout, cleanup, retentionMs, maxMessageBytes }: TopicSettings): Topic<TestEvent> {
  return {
    ...{ name, layout, cleanup, retentionMs, maxMessageBytes },
    address: 'test',
    isSealed: false,
    open: (value) => value,
    encode: (event) => JSON.stringify(event),
    keyOf: ({ id }) => id,
    decode(value) {
      try {
        return JSON.parse(value.toString()) as TestEvent
      } catch (error) {
        throw new UnusableRecordError(`not JSON: ${describe(error)}`, { cause: error })
      }
    },
  }
}

function collectingLog(complaints: string[]): Logger {
  const show = process.env.TEST_LOG_LEVEL !== undefined
  const write = (line: string) => {
    const { level, msg } = JSON.parse(line) as { level: number; msg: string }
    if (level >= 40) complaints.push(msg)
    if (show) process.stderr.write(line)
  }
  return pino({ level: process.env.TEST_LOG_LEVEL ?? 'info' }, { write })
}

export type TestWork = Work<TestEvent, string[]>
export type TestProcessor = Processor<TestEvent, string[]>

/** A processor that answers each record with one of the same id, unless told otherwise; not yet running. */
export function makeProcessor(
  group: TestGroup,
  work: Partial<TestWork> = {},
  options: Partial<ProcessorOptions<TestEvent, string[]>> = {},
): TestProcessor {
  const { config, first, second, output, log, deadLetters, retries } = group
  return new Processor<TestEvent, string[]>({
    group: group.name,
    work: {
      inputs: [first, second],
      createState: () => [],
      handle: (records) => records.map(({ event: { id } }) => [publish(output, { id }, '')]),
      maxBatchRecords: 500,
      ...work,
    },
    outputs: [output],
    deadLetters,
    retries,
    createKafka: (purpose) => createKafka(config, purpose, log),
    sessionTimeoutMs: config.kafka.sessionTimeoutMs,
    commitIntervalMs: 10,
    log,
    ...options,
  })
}

/** The same, running until the test ends. */
export function startProcessor(t: TestContext, ...what: Parameters<typeof makeProcessor>): TestProcessor {
  const processor = makeProcessor(...what)
  void processor.run()
  t.after(() => processor.stop())
  return processor
}

/** Ids that tell where a record came from. */
export function ids(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
}

export function toMessage(event: TestEvent): { key: string; value: string } {
  return { key: event.id, value: JSON.stringify(event) }
}

export function toMessages(eventIds: readonly string[]): { key: string; value: string }[] {
  return eventIds.map((id) => toMessage({ id }))
}

type Messages = { key: string | Buffer | null; value: string | Buffer | null; headers?: IHeaders }[]

/** Writes records to one partition, in one batch and without a transaction. */
export async function send(
  { config, log }: TestGroup,
  topic: TopicSettings,
  partition: number,
  messages: Messages,
): Promise<void> {
  const producer = createKafka(config, 'test', log).producer({ createPartitioner: () => () => partition })
  await producer.connect()
  await producer.send({ topic: topic.name, messages: messages as never })
  await producer.disconnect()
}

export interface FoundRecord {
  topic: string
  partition: number
  offset: number
  id: string
  source: string | undefined
  key: Buffer | null
  value: Buffer | null
  headers: IHeaders
}

/** All that a read-committed reader finds in these topics. */
export async function readAll(group: TestGroup, ...topics: TopicSettings[]): Promise<FoundRecord[]> {
  const found: FoundRecord[] = []
  await readTopics({
    kafka: createKafka(group.config, 'test', group.log),
    topics: topics.map(({ name }) => name),
    from: 'beginning',
    until: 'end',
    log: group.log,
    onRecords(topic, partition, records) {
      for (const { offset, key, value, headers } of records) {
        const id = key?.toString() ?? ''
        found.push({
          topic,
          partition,
          offset,
          id,
          source: headerText(headers, SOURCE_HEADER),
          key,
          value,
          headers,
        })
      }
    },
  })
  return found
}

/** Waits until the group has committed all of its inputs to their ends, control records included. */
export async function untilDrained(group: TestGroup, deadlineMs = 60_000): Promise<void> {
  await withAdmin(group, (admin) =>
    until(
      `lag 0 of ${group.name}`,
      // A broker that is away or coming up is no lag.
      async () => (await lagOf(admin, group).catch(() => Number.NaN)) === 0,
      deadlineMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; ${group.complaints.at(-1) ?? 'no complaints'}`)
    }),
  )
}

async function lagOf(admin: Admin, { name, first, second, retries }: TestGroup): Promise<number> {
  const topics = [first.name, second.name, retries.name]
  const committed = await admin.fetchOffsets({ groupId: name, topics })
  let lag = 0
  for (const { topic, partitions } of committed) {
    const ends = await admin.fetchTopicOffsets(topic)
    for (const { partition, high, low } of ends) {
      const offset = partitions.find((entry) => entry.partition === partition)?.offset ?? '-1'
      lag += Number(high) - Math.max(Number(offset), Number(low))
    }
  }
  return lag
}

export async function withAdmin<Result>(
  { config, log }: TestGroup,
  use: (admin: Admin) => Promise<Result>,
): Promise<Result> {
  const admin = createKafka(config, 'test', log).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

/** Fails with the few that are at fault, not with all of thousands. */
export function assertEachOnce(found: readonly (string | undefined)[], expected: readonly string[]): void {
  const counts = new Map<string, number>()
  for (const id of found) counts.set(String(id), (counts.get(String(id)) ?? 0) + 1)
  const wanted = new Set(expected)
  const few = (list: string[]) =>
    list.length > 5 ? [...list.slice(0, 5), `and ${list.length - 5} more`] : list
  assert.deepEqual(
    {
      lost: few(expected.filter((id) => !counts.has(id))),
      doubled: few([...counts].filter(([, count]) => count > 1).map(([id]) => id)),
      unexpected: few([...counts.keys()].filter((id) => !wanted.has(id))),
    },
    { lost: [], doubled: [], unexpected: [] },
  )
}
