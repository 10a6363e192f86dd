/**
 * npm test: types, lint, then all tests against a Kafka and a PostgreSQL of their own, in a directory and on ports
 * of their own, which are gone afterwards. With --all also what takes longer (test/slow). Other arguments name test
 * files to run alone: `npm test -- test/processor.test.ts`.
 */
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'

const args = process.argv.slice(2)
const isAll = args.includes('--all')
const named = args.filter((arg) => !arg.startsWith('--'))
const patterns = named.length > 0 ? named : ['test/*.test.ts', ...(isAll ? ['test/slow/*.test.ts'] : [])]

if (named.length === 0) {
  for (const [command, ...rest] of [['tsc'], ['biome', 'check', '.']] as const) {
    const status = await run(command, [join('node_modules', '.bin', command), ...rest])
    if (status !== 0) process.exit(status)
  }
}

const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-test-'))
const onProgress = (line: string) => console.log(line)
const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress })
const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress })
let status = 1
try {
  status = await run('tests', [
    process.execPath,
    '--import',
    'tsx',
    '--test',
    // Each file has topics and a database of its own; what they share is the machine.
    '--test-concurrency=2',
    '--test-timeout=240000',
    ...patterns.flatMap((pattern) => globSync(pattern)).sort(),
  ])
} finally {
  await Promise.all([kafka.stop(), postgres.stop()])
  await rm(dataDir, { recursive: true, force: true })
}
process.exit(status)

function run(what: string, [command, ...rest]: readonly string[]): Promise<number> {
  console.log(`\n# ${what}`)
  const env = { ...process.env, KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`, DATABASE_URL: postgres?.url }
  const child = spawn(command!, rest, { stdio: 'inherit', env })
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)))
}
