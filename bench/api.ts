/**
 * How many orders a second POST /orders takes, with broker and database beside it on this machine, and how many when
 * the same work is done inside of the request (bench/synchronousApi.ts).
 *
 * Every order has an Idempotency-Key of its own. After the load the validator is started, and each order that was
 * answered with 202 has to be in orders.validated exactly once; with --together it runs under the load.
 *
 *   --seconds N      of load, 15 by default
 *   --connections N  64 by default
 *   --together       the validator runs beside it
 *   --json           one JSON object on standard output
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { ended, startScript, stopScript } from '../lib/childProcesses.ts'
import { createLogger } from '../lib/log.ts'
import { createSimulator } from '../lib/simulator.ts'
import { readTopics } from '../lib/topicReader.ts'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '15' },
    connections: { type: 'string', default: '64' },
    together: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const seconds = wholeNumber('--seconds', values.seconds)
const connections = wholeNumber('--connections', values.connections)
const BODIES = 2_000
const WARM_UP_SECONDS = 8

const say = (line: string) => console.error(line)
const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
const kafkaPort = await freePort()
const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
const postgres = await startPostgres({ dataDir, port: await freePort(), onProgress: say })
try {
  const settings = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgres.url,
    HEALTH_PORT: '0',
    API_PORT: String(await freePort()),
    API_MAX_REQUESTS_PER_SECOND: '0',
    GATEWAY_PORT: String(await freePort()),
    GATEWAY_DECLINE_RATIO: '0',
    LOG_LEVEL: 'warn',
    // The settings of whoever runs this must not matter.
    ENV_FILE: join(dataDir, 'no.env'),
  }
  const config = parseConfig(settings)
  await ensureTopics(config, say)
  const env = { ...process.env, ...settings }
  say('registering products and customers ...')
  await run('producer.ts', ['--orders', '1', '--max', '--seed', '1'], env)
  const api = await measureApi(config, env)
  const synchronous = await measureSynchronous(config, env)
  const result = {
    ...{ api, synchronous, connections, seconds, together: values.together },
    throughputRatio: round(api.requestsPerSecond / synchronous.requestsPerSecond),
    p99Ratio: round(synchronous.p99Ms / api.p99Ms),
    ...{ cores: cpus().length, node: process.version },
  }
  if (values.json) console.log(JSON.stringify(result))
  else report(result)
  if (!api.isExactlyOnce) process.exitCode = 1
} finally {
  await Promise.all([kafka.stop(), postgres.stop()])
  await rm(dataDir, { recursive: true, force: true })
}

async function measureApi(config: Config, env: NodeJS.ProcessEnv) {
  const api = startScript({ script: 'api.ts', env, print: say })
  const together = values.together ? startScript({ script: 'validator.ts', env, print: say }) : undefined
  const accepted: string[] = []
  let validator = together
  try {
    const url = `http://127.0.0.1:${config.api.port}`
    await untilAnswers(`${url}/health/ready`)
    const load = await measure(url, 202, (body) =>
      accepted.push((JSON.parse(body) as { orderId: string }).orderId),
    )
    say(`validating ${accepted.length} orders ...`)
    validator ??= startScript({ script: 'validator.ts', env, print: say })
    const counts = await countValidated(config, accepted)
    const isExactlyOnce = accepted.every((orderId) => counts.get(orderId) === 1)
    return { ...load, accepted: accepted.length, isExactlyOnce }
  } finally {
    await Promise.all([stopScript(api), ...(validator ? [stopScript(validator)] : [])])
  }
}

async function measureSynchronous(config: Config, env: NodeJS.ProcessEnv) {
  const gateway = startScript({ script: 'paymentGateway.ts', env, print: say })
  const server = startScript({ script: 'bench/synchronousApi.ts', env, print: say })
  try {
    await untilAnswers(`http://127.0.0.1:${config.gateway.port}/health`)
    const url = `http://127.0.0.1:${config.api.port}`
    await untilAnswers(`${url}/health/ready`)
    return await measure(url, 201, () => undefined)
  } finally {
    await Promise.all([stopScript(server), stopScript(gateway)])
  }
}

/** @param onAnswer takes the body of each answer with the status that is wanted, those of the warm-up too */
async function measure(url: string, wantedStatus: number, onAnswer: (body: string) => void) {
  const simulator = createSimulator({ seed: 1, badRatio: 0, runId: 'bench' })
  let count = 0
  const key = () => `${process.pid}-${wantedStatus}-${++count}`
  const requests = Array.from({ length: BODIES }, () => {
    const { customerId, currency, items, shippingAddress } = JSON.parse(simulator.next().value.toString())
    return {
      ...{ method: 'POST', path: '/orders' },
      headers: { 'content-type': 'application/json' } as Record<string, string>,
      body: JSON.stringify({ customerId, currency, items, shippingAddress }),
      setupRequest: <Given extends { headers: Record<string, string> }>(request: Given) => ({
        ...request,
        headers: { ...request.headers, 'idempotency-key': key() },
      }),
      onResponse: (status: number, body: string) => {
        if (status === wantedStatus) onAnswer(body)
      },
    }
  })
  const shoot = (duration: number) => autocannon({ url, connections, duration, requests })
  say(`warming up ${url} ...`)
  await shoot(WARM_UP_SECONDS)
  say(`${connections} connections for ${seconds} s ...`)
  const { requests: sent, latency, errors, timeouts, non2xx } = await shoot(seconds)
  return {
    requestsPerSecond: Math.round(sent.average),
    ...{ p50Ms: latency.p50, p99Ms: latency.p99, maxMs: latency.max },
    failed: errors + timeouts + non2xx,
  }
}

/** How often each order is in orders.validated, once nothing of what was accepted is missing or nothing more comes. */
async function countValidated(config: Config, accepted: readonly string[]): Promise<Map<string, number>> {
  const log = createLogger('bench', config.log)
  for (let before = -1; ; await sleep(2_000)) {
    const counts = new Map<string, number>()
    let records = 0
    await readTopics({
      ...{ kafka: createKafka(config, 'bench', log), topics: [config.topics.ordersValidated.name], log },
      ...{ from: 'beginning', until: 'end' },
      onRecords(_topic, _partition, some) {
        records += some.length
        for (const { key } of some) counts.set(String(key), (counts.get(String(key)) ?? 0) + 1)
      },
    })
    const isComplete = accepted.every((orderId) => counts.has(orderId))
    if (isComplete || (records === before && records > 0)) return counts
    before = records
  }
}

async function run(script: string, args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  const status = await ended(startScript({ script, args, env, print: say }))
  if (status !== 0) throw new Error(`${script} ended with ${status}`)
}

async function untilAnswers(url: string): Promise<void> {
  const deadlineMs = Date.now() + 60_000
  for (;;) {
    const isOk = await fetch(url).then(
      ({ ok }) => ok,
      () => false,
    )
    if (isOk) return
    if (Date.now() > deadlineMs) throw new Error(`${url} does not answer`)
    await sleep(100)
  }
}

function wholeNumber(flag: string, text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && number > 0) return number
  throw new Error(`${flag} ${text}: a whole number above 0`)
}

function round(number: number): number {
  return Math.round(number * 10) / 10
}

interface Load {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  failed: number
}

function report(result: {
  api: Load & { accepted: number; isExactlyOnce: boolean }
  synchronous: Load
  throughputRatio: number
  p99Ratio: number
  cores: number
}): void {
  const line = (name: string, { requestsPerSecond, p50Ms, p99Ms, maxMs, failed }: Load) =>
    `${name.padEnd(12)} ${requestsPerSecond.toLocaleString('en-GB').padStart(7)} requests/s  ` +
    `p50 ${p50Ms} ms  p99 ${p99Ms} ms  most ${maxMs} ms  failed ${failed}`
  const { api, synchronous, throughputRatio, p99Ratio, cores } = result
  console.log(line('api.ts', api))
  console.log(line('synchronous', synchronous))
  console.log(
    `${throughputRatio} times as many, p99 ${p99Ratio} times as short, ${cores} cores with all beside it`,
  )
  const verdict = api.isExactlyOnce ? 'each validated exactly once' : 'NOT each validated exactly once'
  console.log(`${api.accepted.toLocaleString('en-GB')} orders accepted, ${verdict}`)
}
