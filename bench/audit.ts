/**
 * How fast the auditor looks: writes a history in which all is well straight into the topics and tables of a Kafka and
 * a PostgreSQL of its own, then audits it with tools/verify.ts, as anybody would.
 *
 *   npx tsx bench/audit.ts
 *   --records N   how many records over all topics, 5,000,000 by default
 *   --json        one JSON object on standard output
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Producer } from 'kafkajs'
import pg from 'pg'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import type { AuditReport } from '../lib/auditReport.ts'
import { ended, startScript } from '../lib/childProcesses.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { Progress } from '../lib/progress.ts'
import { type Chunk, type Message, makeChunk, PRODUCTS, RECORDS_PER_ORDER } from './auditHistory.ts'

const { values } = parseArgs({ options: { records: { type: 'string' }, json: { type: 'boolean' } } })
const wanted = Number(values.records ?? 5_000_000)
if (!(Number.isInteger(wanted) && wanted > 0))
  throw new Error(`--records ${values.records}: a whole number above 0`)

const CHUNK_ORDERS = 2_000
const RECEIVED = 1_000_000_000
const POLL_MS = 200

const say = (line: string) => console.error(line)
const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress: say })
try {
  const env = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgres.url,
    LOG_LEVEL: 'warn',
    // The settings of whoever runs this must not matter.
    ENV_FILE: join(dataDir, 'no.env'),
  }
  const config = parseConfig(env)
  await ensureTopics(config, say)
  await preload(config)
  const result = await measure({ ...process.env, ...env })
  if (values.json) console.log(JSON.stringify(result))
  else {
    console.log(
      `${result.records.toLocaleString('en-GB')} records and ${result.rows.toLocaleString('en-GB')} rows audited in ` +
        `${result.seconds.toFixed(1)} s (${result.recordsPerSecond.toLocaleString('en-GB')} records/s), ` +
        `${result.cpuSeconds.toFixed(1)} s of CPU, at most ${result.memoryMiB} MiB, ` +
        `${result.cores} cores with broker and database beside it, Node ${result.node}`,
    )
  }
  if (!result.ok) process.exitCode = 1
} finally {
  await Promise.all([kafka.stop(), postgres.stop()])
  await rm(dataDir, { recursive: true, force: true })
}

/** Chunk by chunk, one partition at a time: so the offsets are known before they are written. */
async function preload(config: Config): Promise<void> {
  const log = createLogger('bench', config.log)
  const pool = openDatabase(config.databaseUrl, 1, log)
  await migrateDatabase(pool, log)
  await pool.end()
  // Without the time limits of the services.
  const database = new pg.Client({ connectionString: config.databaseUrl })
  await database.connect()
  const producer = createKafka(config, 'bench', log).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const orders = Math.ceil(wanted / RECORDS_PER_ORDER)
  const progress = new Progress({
    total: orders,
    unit: 'orders written',
    output: process.stderr,
    color: false,
  })
  const committed = new Array<number>(PRODUCTS).fill(0)
  const positions = Array.from({ length: config.partitions }, () => ({ raw: 0, validated: 0, completed: 0 }))
  for (let first = 0, chunk = 0; first < orders; first += CHUNK_ORDERS, chunk++) {
    const partition = chunk % config.partitions
    const end = Math.min(orders, first + CHUNK_ORDERS)
    const history = makeChunk(config.topics, partition, positions[partition]!, first, end)
    for (const { product, quantity } of history.committed) committed[product]! += quantity
    await Promise.all([sendAll(producer, history.messages, partition), insertAll(database, history)])
    progress.update(first)
  }
  progress.finish(orders)
  await insertStock(database, committed)
  await producer.disconnect()
  await database.end()
}

async function sendAll(
  producer: Producer,
  messages: ReadonlyMap<string, Message[]>,
  partition: number,
): Promise<void> {
  await producer.sendBatch({
    topicMessages: [...messages].map(([topic, list]) => ({
      topic,
      messages: list.map((message) => ({ ...message, partition })),
    })),
  })
}

async function insertAll(database: pg.Client, { outcomes, ledger }: Chunk): Promise<void> {
  for (const [table, rows] of outcomes) {
    await database.query(
      `INSERT INTO ${table} (order_id, operation, source, event, note)
       SELECT *, '' FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])`,
      [
        rows.map(({ orderId }) => orderId),
        rows.map(({ operation }) => operation),
        rows.map(({ source }) => source),
        rows.map(({ event }) => event),
      ],
    )
  }
  await database.query(
    `INSERT INTO gateway.ledger (idempotency_key, operation, order_id, amount_minor, currency, status, authorisation_id)
     SELECT order_id || ':' || operation, operation, order_id, amount, currency, status, 'auth-' || order_id
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
       AS new (order_id, operation, amount, currency, status)`,
    [
      ledger.map(({ orderId }) => orderId),
      ledger.map(({ operation }) => operation),
      ledger.map(({ amountMinor }) => amountMinor),
      ledger.map(({ currency }) => currency),
      ledger.map(({ status }) => status),
    ],
  )
}

async function insertStock(database: pg.Client, committed: readonly number[]): Promise<void> {
  const skus = committed.map((_, product) => `SKU-${product}`)
  await database.query(
    `INSERT INTO stock (sku, received, available, committed)
     SELECT sku, $3::bigint, $3::bigint - committed, committed FROM unnest($1::text[], $2::bigint[]) AS new (sku, committed)`,
    [skus, committed, RECEIVED],
  )
  await database.query(
    `INSERT INTO stock_receipts (cause, sku, quantity) SELECT 'initial', sku, $2 FROM unnest($1::text[]) AS sku`,
    [skus, RECEIVED],
  )
}

async function measure(env: NodeJS.ProcessEnv) {
  const lines: string[] = []
  const child = startScript({
    script: 'tools/verify.ts',
    args: ['--json'],
    env,
    print: say,
    onOutput: (line) => lines.push(line),
  })
  let [cpuSeconds, memoryMiB] = [0, 0]
  const watch = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '')
    memoryMiB = Math.max(memoryMiB, Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024))
    const ticks = (await readFile(`/proc/${child.pid}/stat`, 'utf8').catch(() => '')).split(' ')
    if (ticks.length > 15) cpuSeconds = (Number(ticks[13]) + Number(ticks[14])) / 100
  }, POLL_MS)
  await ended(child)
  clearInterval(watch)
  const report = JSON.parse(lines.at(-1) ?? 'null') as AuditReport | null
  if (!report) throw new Error('the auditor could not look')
  for (const { name, offenders } of report.checks.filter(({ ok }) => !ok))
    say(`${name}: ${JSON.stringify(offenders)}`)
  const records = Object.values(report.records).reduce((sum, count) => sum + count, 0)
  return {
    ok: report.ok,
    records,
    rows: report.rows,
    seconds: report.seconds,
    recordsPerSecond: Math.round(records / report.seconds),
    cpuSeconds,
    memoryMiB,
    cores: cpus().length,
    node: process.version,
  }
}
