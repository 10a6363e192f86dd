/**
 * npm run bench:command-center: what a hop through the Command Center costs, with messages of 1 KB sealed.
 *
 *   --rate N       messages/s for the latency, 1,000 by default
 *   --seconds N    how long each latency is measured, 20 by default
 *   --messages N   size of the backlog for the throughput, 200,000 by default
 *   --partitions N of the topics, 6 by default: each partition has transactions of its own
 *   --json         one JSON object on standard output
 *
 * Latency is the time from before a message is sent until a read-committed consumer has it: `direct` without anybody in
 * between; `plain` by way of a forwarder that is not exactly-once (kafkajs, eachBatch, acks=all); `commandCenter`.
 * Throughput is that of a backlog, between the first and the last commit, of one instance and of two, with the broker
 * and the database beside them on this machine.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHistogram } from 'node:perf_hooks'
import { type Consumer, type Kafka, Partitioners } from 'kafkajs'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { startScript, stopScript } from '../lib/childProcesses.ts'
import { seal } from '../lib/crypto.ts'
import { createLogger } from '../lib/log.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { runMain } from '../lib/service.ts'
import { formatCount } from '../lib/text.ts'

const FLAGS = {
  rate: { type: 'string' },
  seconds: { type: 'string' },
  messages: { type: 'string' },
  partitions: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const
const MESSAGE_BYTES = 1_024
const TICK_MS = 10
const WARM_UP_MS = 20_000
const MICROSECONDS = 1_000
const SENT_HEADER = 'sent'
const say = (line: string) => console.error(line)

interface Latency {
  p50Ms: number
  p99Ms: number
  messages: number
}

interface Bench {
  kafka: Kafka
  config: Config
  /** Sealed for the route that leads to `target`. */
  messages: { key: string; value: string }[]
  target: string
  env: NodeJS.ProcessEnv
}

await runMain('bench', 'Measures a hop through the Command Center.', FLAGS, async (_, flags) => {
  const rate = readNumberFlag('rate', flags.rate ?? '1000', { min: 1, max: 100_000, isWhole: true })
  const seconds = readNumberFlag('seconds', flags.seconds ?? '20', { min: 1, max: 600, isWhole: true })
  const count = readNumberFlag('messages', flags.messages ?? '200000', { min: 1, max: 1e7, isWhole: true })
  const partitions = readNumberFlag('partitions', flags.partitions ?? '6', {
    min: 1,
    max: 100,
    isWhole: true,
  })
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
  const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
  const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
  const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress: say })
  try {
    const bench = await prepare({
      KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
      DATABASE_URL: postgres.url,
      ROUTING: 'command-center',
      PARTITIONS: String(partitions),
      ENCRYPTION_KEY: randomBytes(32).toString('base64'),
      LOG_LEVEL: 'warn',
      HEALTH_PORT: '0',
      // The settings of whoever runs this must not matter.
      ENV_FILE: join(dataDir, 'no.env'),
    })
    const { inbox } = bench.config.topics
    const load = { rate, seconds }
    const direct = await measureLatency(bench, { ...load, name: 'direct', topic: bench.target })
    const forwarder = await startPlainForwarder(bench)
    const plain = await measureLatency(bench, { ...load, name: 'plain', topic: forwarder.topic })
    await forwarder.stop()
    const router = startScript({ script: 'commandCenter.ts', env: bench.env, print: say })
    const routed = await measureLatency(bench, { ...load, name: 'commandCenter', topic: inbox.name })
    await stopScript(router)
    const one = await measureThroughput(bench, 1, count)
    const two = await measureThroughput(bench, 2, count)
    const latency = { direct, plain, commandCenter: routed }
    const result = { rate, partitions, latency, one, two, cores: cpus().length, node: process.version }
    if (flags.json) console.log(JSON.stringify(result))
    else report(result)
  } finally {
    await Promise.all([kafka.stop(), postgres.stop()])
    await rm(dataDir, { recursive: true, force: true })
  }
})

async function prepare(env: Record<string, string>): Promise<Bench> {
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const { answers } = config.topics
  const messages = Array.from({ length: 1_000 }, (_, index) => {
    const label = {
      requestId: `ord-${index}`,
      workerName: answers.address,
      sender: 'bench',
      eventId: `ord-${index}/Bench`,
    }
    return { key: label.requestId, value: seal(config.keys(), label, 'x'.repeat(MESSAGE_BYTES)) }
  })
  const kafka = createKafka(config, 'bench', createLogger('bench', config.log))
  return { kafka, config, messages, target: answers.name, env: { ...process.env, ...env } }
}

/** Sends at a rate to one topic and reads them from the target. */
async function measureLatency(
  { kafka, messages, target }: Bench,
  { name, topic, rate, seconds }: { name: string; topic: string; rate: number; seconds: number },
): Promise<Latency> {
  say(`${name}: ${formatCount(rate)} messages/s for ${seconds} s ...`)
  let histogram = createHistogram()
  const consumer = kafka.consumer({ groupId: `bench-${name}`, maxWaitTimeInMs: 5, minBytes: 1 })
  await consume(consumer, target, (headers) => {
    const sentMs = Number(headers[SENT_HEADER]?.toString())
    if (sentMs > 0) histogram.record(Math.max(1, Math.round((now() - sentMs) * MICROSECONDS)))
  })
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const startedMs = now()
  const endMs = startedMs + WARM_UP_MS + seconds * 1_000
  let sent = 0
  let isWarm = false
  while (now() < endMs) {
    if (!isWarm && now() > startedMs + WARM_UP_MS) {
      isWarm = true
      histogram = createHistogram()
    }
    const owed = Math.floor(((now() - startedMs) / 1_000) * rate) - sent
    const batch = Array.from({ length: owed }, (_, index) => {
      return { ...messages[(sent + index) % messages.length]!, headers: { [SENT_HEADER]: String(now()) } }
    })
    sent += owed
    if (owed > 0) await producer.send({ topic, messages: batch, acks: -1 })
    await sleep(TICK_MS)
  }
  const { count } = histogram
  const latency = {
    p50Ms: histogram.percentile(50) / MICROSECONDS,
    p99Ms: histogram.percentile(99) / MICROSECONDS,
    messages: count,
  }
  await producer.disconnect()
  await consumer.disconnect()
  return latency
}

/** Of this machine's clock, with fractions. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

async function consume(
  consumer: Consumer,
  topic: string,
  onHeaders: (headers: Record<string, unknown>) => void,
): Promise<void> {
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: false })
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
  await consumer.run({
    eachBatch: async ({ batch }) => {
      for (const { headers } of batch.messages) onHeaders(headers ?? {})
    },
  })
  await joined
}

/** What most would write: reads, sends on, commits the offsets later. */
async function startPlainForwarder({ kafka, config, target }: Bench) {
  const topic = config.topics.inventoryRequests.name
  const consumer = kafka.consumer({ groupId: 'bench-forwarder', maxWaitTimeInMs: 5, minBytes: 1 })
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: false })
  await consumer.run({
    eachBatch: async ({ batch }) => {
      const messages = batch.messages.map(({ key, value, headers }) => ({
        key,
        value,
        ...(headers && { headers }),
      }))
      await producer.send({ topic: target, messages, acks: -1 })
    },
  })
  return {
    topic,
    async stop() {
      await consumer.disconnect()
      await producer.disconnect()
    },
  }
}

interface Health {
  in: number
}

/** A backlog, worked off by so many instances. */
async function measureThroughput({ kafka, config, messages, env }: Bench, instances: number, count: number) {
  say(`placing ${formatCount(count)} messages for ${instances === 1 ? 'one instance' : 'two instances'} ...`)
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  for (let placed = 0; placed < count; placed += messages.length) {
    const batch = messages.slice(0, count - placed)
    await producer.send({ topic: config.topics.inbox.name, messages: batch, acks: -1 })
  }
  await producer.disconnect()
  const ports = await Promise.all(Array.from({ length: instances }, () => freePort()))
  const routers = ports.map((port) =>
    startScript({ script: 'commandCenter.ts', env: { ...env, HEALTH_PORT: String(port) }, print: say }),
  )
  try {
    let first: { done: number; atMs: number } | undefined
    for (;;) {
      const shares = await Promise.all(ports.map(fetchDone))
      const done = shares.reduce((sum, share) => sum + share, 0)
      // Both at work, so that the start of the second is not in it.
      if (!first && shares.every((share) => share > 0)) first = { done, atMs: now() }
      if (first && done >= count) {
        const messagesPerSecond = Math.round((done - first.done) / ((now() - first.atMs) / 1_000))
        return { messagesPerSecond, shares: shares.map((share) => share / done) }
      }
      await sleep(100)
    }
  } finally {
    await Promise.all(routers.map(stopScript))
  }
}

async function fetchDone(port: number): Promise<number> {
  const health = await fetch(`http://127.0.0.1:${port}/health`).then(
    (response) => response.json() as Promise<Health>,
    () => undefined,
  )
  return health?.in ?? 0
}

interface Result {
  rate: number
  latency: Record<string, Latency>
  one: Awaited<ReturnType<typeof measureThroughput>>
  two: Awaited<ReturnType<typeof measureThroughput>>
}

function report({ rate, latency, one, two }: Result): void {
  for (const [name, { p50Ms, p99Ms }] of Object.entries(latency)) {
    console.log(
      `${name.padEnd(14)} p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms at ${formatCount(rate)}/s`,
    )
  }
  const shares = two.shares.map((share) => `${Math.round(share * 100)} %`).join(' and ')
  console.log(`${formatCount(one.messagesPerSecond)} messages/s by one instance, exactly once`)
  console.log(`${formatCount(two.messagesPerSecond)} messages/s by two, which did ${shares}`)
}
