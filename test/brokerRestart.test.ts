import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { kafkaClasspath, startKafka } from '../infra/kafka.ts'
import { findJava } from '../infra/kafkaJars.ts'
import { freePort } from '../infra/ports.ts'
import { run } from '../infra/serverProcess.ts'
import { createKafka } from '../kafkaConfig.ts'
import { formatPosition } from '../lib/record.ts'
import { until } from './harness.ts'
import {
  assertEachOnce,
  ids,
  makeProcessor,
  type TestGroup,
  type TestProcessor,
  testGroup,
  toMessage,
  untilDrained,
  withAdmin,
} from './processorHarness.ts'

const TOOL_TIMEOUT_MS = 60_000

/** One of Kafka's own tools, as an independent witness. */
async function askKafka(tool: string, args: string[]): Promise<string> {
  const [java, classpath] = await Promise.all([findJava(), kafkaClasspath()])
  const options = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx128m', '-cp', classpath, tool]
  const { status, stdout, stderr } = await run(java.command, [...options, ...args], {
    timeoutMs: TOOL_TIMEOUT_MS,
  })
  assert.equal(status, 0, stderr)
  return stdout
}

/** The lag of each partition that holds anything, by `kafka-consumer-groups --describe`. */
async function lagByKafka(group: TestGroup, broker: string): Promise<Record<string, string>> {
  const tool = 'org.apache.kafka.tools.consumer.group.ConsumerGroupCommand'
  const text = await askKafka(tool, ['--bootstrap-server', broker, '--describe', '--group', group.name])
  const rows = text.split('\n').map((line) => line.trim().split(/\s+/))
  const header = rows.find(([first]) => first === 'GROUP')!
  const column = (row: string[], name: string) => row[header.indexOf(name)]!
  const filled = rows.filter((row) => row[0] === group.name && column(row, 'LOG-END-OFFSET') !== '0')
  return Object.fromEntries(
    filled.map((row) => [`${column(row, 'TOPIC')}/${column(row, 'PARTITION')}`, column(row, 'LAG')]),
  )
}

/** The sources of all records of the output, by Kafka's read-committed console consumer. */
async function sourcesByKafka({ output }: TestGroup, broker: string, count: number): Promise<string[]> {
  const text = await askKafka('org.apache.kafka.tools.consumer.ConsoleConsumer', [
    ...['--bootstrap-server', broker, '--topic', output.name, '--from-beginning'],
    // Ends by number, so that a slow start is no end; by time only when there are fewer.
    ...['--max-messages', String(count), '--timeout-ms', '30000'],
    ...['--isolation-level', 'read_committed'],
    ...['--formatter-property', 'print.headers=true', '--formatter-property', 'print.value=false'],
  ])
  return [...text.matchAll(/^source:(\S+)$/gm)].map((match) => match[1]!)
}

/** Sends until told to stop, whatever the broker says: what is sent twice is two records. */
function startLoad(group: TestGroup): { stop(): Promise<void> } {
  let stopping = false
  const running = (async () => {
    const producer = createKafka(group.config, 'load', group.log).producer()
    for (let round = 0; !stopping; round++) {
      const messages = ids(`round ${round}`, 20).map((id) => ({ ...toMessage({ id }), partition: round % 2 }))
      try {
        await producer.connect()
        await producer.send({ topic: group.first.name, messages })
      } catch {
        // The broker is away.
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await producer.disconnect()
  })()
  return {
    async stop() {
      stopping = true
      await running
    },
  }
}

test('a broker that is killed under load and comes back costs time, and no record', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'broker-restart-'))
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  let broker = await startKafka({ dataDir, port })
  let load: ReturnType<typeof startLoad> | undefined
  let processor: TestProcessor | undefined
  t.after(async () => {
    await Promise.all([load?.stop(), processor?.stop()])
    await broker.stop()
    await rm(dataDir, { recursive: true, force: true })
  })
  const group = await testGroup(t, { KAFKA_BROKERS: address })
  processor = makeProcessor(group)
  void processor.run()
  load = startLoad(group)
  const { counters } = processor
  await until('it is at work', () => counters.in > 1_000)

  process.kill(broker.pid, 'SIGKILL')
  await broker.exited
  broker = await startKafka({ dataDir, port })
  const doneBefore = counters.in
  await until('it has gone on by itself', () => counters.in > doneBefore + 1_000, 90_000)
  await load.stop()
  await untilDrained(group)

  const ends = await withAdmin(group, (admin) => admin.fetchTopicOffsets(group.first.name))
  const positions = ends.flatMap(({ partition, high }) =>
    Array.from({ length: Number(high) }, (_, offset) => formatPosition(group.first.name, partition, offset)),
  )
  const [lag, sources] = await Promise.all([
    lagByKafka(group, address),
    sourcesByKafka(group, address, positions.length),
  ])
  assertEachOnce(sources, positions)
  assert.deepEqual(lag, { [`${group.first.name}/0`]: '0', [`${group.first.name}/1`]: '0' })
})
