/**
 * Everything at once (npm start): Kafka and PostgreSQL if they are not there, topics, every service and the
 * simulator as processes of their own, and live figures, until Ctrl-C.
 *
 *   --orders N   places N orders as fast as it goes, waits until the pipeline has drained, checks that each was decided
 *                and carried out once and that stock, ledger and analytics agree, prints the summary and exits with 0
 *                only if so
 *   --file F     the same with the orders of a real history (Online Retail, CSV or CSV.gz)
 *   --rate R     orders per second, instead of ORDERS_PER_SECOND
 *   --json       the last line on standard output is the summary as one JSON object
 *   --verbose    also what the services say while all is well
 */
import { randomBytes } from 'node:crypto'
import { createMissingKeys, readEnvironment } from './kafkaConfig.ts'
import { ConfigurationError } from './lib/errors.ts'
import { removeDead } from './lib/instances.ts'
import { PipelineRun, type RunOptions } from './lib/pipelineRun.ts'
import { runMain } from './lib/service.ts'

const flags = {
  orders: { type: 'string' },
  file: { type: 'string' },
  rate: { type: 'string' },
  json: { type: 'boolean' },
  verbose: { type: 'boolean' },
  help: { type: 'boolean' },
} as const

const demoToken = createMissingDemoToken()

await runMain(
  'start',
  'Runs the whole pipeline: infrastructure, services, simulator.',
  flags,
  async (service, values) => {
    checkFlags(values)
    const keysFile = createMissingKeys()
    if (keysFile) console.error(`made keys for the workers in ${keysFile}`)
    if (demoToken) console.error(`controls on the dashboard take this token: ${demoToken}`)
    removeDead(service.config.instancesDir)
    const run = new PipelineRun(service, values)
    try {
      await run.start()
      if (values.orders || values.file) await run.finish()
      else await run.watch()
    } finally {
      await run.stop()
    }
  },
)

/** For this run, where controls are asked for without one: before the configuration is read, which insists on it. */
function createMissingDemoToken(): string | undefined {
  const env = readEnvironment()
  if (env.DEMO_CONTROLS?.trim() !== 'on' || env.DEMO_TOKEN?.trim()) return undefined
  const token = randomBytes(12).toString('hex')
  process.env.DEMO_TOKEN = token
  return token
}

function checkFlags({ orders, file, rate }: RunOptions): void {
  if (orders !== undefined && !(Number.isInteger(Number(orders)) && Number(orders) > 0)) {
    throw new ConfigurationError(`--orders ${orders} is not usable: it takes a whole number above 0`)
  }
  if (file !== undefined && (orders !== undefined || rate !== undefined)) {
    throw new ConfigurationError('--file places the orders of the file: leave out --orders and --rate')
  }
}
