/**
 * npm run bench: how fast one process of the whole validator works off a backlog (schema check, duplicates, look-ups
 * in PostgreSQL and the catalogue, exactly-once), with the broker and the database beside it on this machine.
 *
 *   --orders N   size of the backlog, 600,000 by default
 *   --json       one JSON object on standard output
 *
 * The rate is that between the first and the last commit, so that it says nothing of how fast a process starts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { ended, startScript, stopScript } from '../lib/childProcesses.ts'

const { values } = parseArgs({ options: { orders: { type: 'string' }, json: { type: 'boolean' } } })
const orders = Number(values.orders ?? 600_000)
if (!(Number.isInteger(orders) && orders > 0))
  throw new Error(`--orders ${values.orders}: a whole number above 0`)

interface Health {
  in: number
  cpuSeconds: number
  memoryMiB: number
  deadLetters: number
  out: Record<string, number>
}

const say = (line: string) => console.error(line)
const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
const [kafkaPort, postgresPort, healthPort] = [await freePort(), await freePort(), await freePort()]
const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress: say })
try {
  const env = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgres.url,
    HEALTH_PORT: String(healthPort),
    LOG_LEVEL: 'warn',
    // The settings of whoever runs this must not matter.
    ENV_FILE: join(dataDir, 'no.env'),
  }
  const config = parseConfig(env)
  await ensureTopics(config, say)
  await preload({ ...process.env, ...env })
  const result = await measure({ ...process.env, ...env }, `http://127.0.0.1:${healthPort}/health`)
  if (values.json) console.log(JSON.stringify(result))
  else report(result)
} finally {
  await Promise.all([kafka.stop(), postgres.stop()])
  await rm(dataDir, { recursive: true, force: true })
}

/** Places the orders with the simulator, before anybody reads them. */
async function preload(env: NodeJS.ProcessEnv): Promise<void> {
  say(`placing ${orders} orders ...`)
  const producer = startScript({
    script: 'producer.ts',
    args: ['--orders', String(orders), '--max'],
    env,
    print: say,
  })
  const status = await ended(producer)
  if (status !== 0) throw new Error(`the producer ended with ${status}`)
}

async function measure(env: NodeJS.ProcessEnv, healthUrl: string) {
  say('validating ...')
  const validator = startScript({ script: 'validator.ts', env, print: say })
  try {
    let first: { health: Health; atMs: number } | undefined
    for (;;) {
      const health = await fetch(healthUrl).then(
        (response) => response.json() as Promise<Health>,
        () => undefined,
      )
      const atMs = performance.now()
      if (health && health.in > 0 && !first) first = { health, atMs }
      if (first && health && health.in >= orders) {
        const done = health.in - first.health.in
        const seconds = (atMs - first.atMs) / 1_000
        return {
          orders,
          ordersPerSecond: Math.round(done / seconds),
          seconds,
          cpuMicrosecondsPerOrder: ((health.cpuSeconds - first.health.cpuSeconds) / done) * 1e6,
          memoryMiB: health.memoryMiB,
          out: health.out,
          deadLetters: health.deadLetters,
          cores: cpus().length,
          node: process.version,
        }
      }
      await sleep(100)
    }
  } finally {
    await stopScript(validator)
  }
}

function report(result: Awaited<ReturnType<typeof measure>>): void {
  console.log(`${result.ordersPerSecond.toLocaleString('en-GB')} orders/s by one validator, exactly once`)
  console.log(
    `${result.orders.toLocaleString('en-GB')} orders in ${result.seconds.toFixed(1)} s, ` +
      `${result.cpuMicrosecondsPerOrder.toFixed(1)} µs of CPU each, ${result.memoryMiB} MiB, ` +
      `${result.cores} cores with broker and database beside it, Node ${result.node}`,
  )
}
