/**
 * npm test: types, lint, then all tests against a Kafka and a PostgreSQL of their own, in a directory and on ports
 * of their own, which are gone afterwards. With --all also what takes longer (test/slow). Other arguments name test
 * files to run alone: `npm test -- test/processor.test.ts`.
 */
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'

const args = process.argv.slice(2)
const isAll = args.includes('--all')
const named = args.filter((arg) => !arg.startsWith('--'))
const files = named.length > 0 ? named : ['test', ...(isAll ? ['test/slow'] : [])].flatMap(testsIn)

if (named.length === 0) {
  for (const [command, ...rest] of [['tsc'], ['tsc', '-p', 'web'], ['biome', 'check', '.']] as const) {
    const status = await run(command, [join('node_modules', '.bin', command), ...rest], {})
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
  status = await run(
    'tests',
    [
      process.execPath,
      '--import',
      'tsx',
      '--test',
      // Each file has topics and a database of its own; what they share is the machine.
      '--test-concurrency=2',
      '--test-timeout=600000',
      ...files,
    ],
    { KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`, KAFKA_DATA_DIR: dataDir, DATABASE_URL: postgres.url },
  )
} finally {
  await Promise.all([kafka.stop(), postgres.stop()])
  await rm(dataDir, { recursive: true, force: true })
}
process.exit(status)

function testsIn(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => name.endsWith('.test.ts'))
  return names.sort().map((name) => join(directory, name))
}

function run(what: string, [command, ...rest]: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  console.log(`\n# ${what}`)
  const child = spawn(command!, rest, { stdio: 'inherit', env: { ...process.env, ...env } })
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)))
}
