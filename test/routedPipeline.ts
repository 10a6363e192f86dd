/** What the tests of the wiring through the Command Center share: all services of a life, and orders through them. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import type { AuditReport } from '../lib/auditReport.ts'
import { ended, runScript as runToEnd } from '../lib/childProcesses.ts'
import { fetchLag, workingGroups } from '../lib/groupLag.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { createSimulatedCatalogue } from '../lib/simulatedCatalogue.ts'
import { WHOLE_LIFE } from '../lib/tally.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readAll,
  runScript,
  testEnvironment,
  until,
  untilDrained,
} from './harness.ts'

export const ROUTED_SERVICES = [
  'commandCenter',
  'metadataLog',
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
]

export interface RoutedPipeline {
  environment: Record<string, string>
  config: Config
  /** By the name of the script. */
  services: Map<string, RunningScript>
  /** Places so many more orders, and waits until the producer has ended. */
  place(orders: number): Promise<void>
  /** Waits until all that was placed has come to its end. */
  untilDrained(): Promise<void>
  /** What the auditor says. */
  verify(args?: string[]): Promise<AuditReport>
  /** One of our tools, to its end. @returns what it wrote to standard output */
  run(tool: string, args: string[]): Promise<string[]>
  deadLetters(): Promise<number>
}

/** Topics, database and processes of a test's own, sealed with a key of its own. */
export async function startRouted(
  t: TestContext,
  settings: Record<string, string> = {},
  names: readonly string[] = ROUTED_SERVICES,
): Promise<RoutedPipeline> {
  const environment = await testEnvironment(t, {
    ROUTING: 'command-center',
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    BAD_ORDER_RATIO: '0',
    ...settings,
  })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const services = new Map(names.map((name) => [name, runScript(t, name, environment)]))
  let placed = 0
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const env = { ...process.env, ...environment }
  return {
    environment,
    config,
    services,
    async place(orders) {
      placed += orders
      const producer = runScript(t, 'producer', environment, ['--orders', String(orders), '--max'])
      assert.equal(await ended(producer.child), 0)
    },
    async untilDrained() {
      await untilDrained(config, placed, { answering: WHOLE_LIFE, deadlineMs: 180_000 })
      const groups = workingGroups(config.topicPrefix, config.topics)
      await until(
        'nothing is left in any topic',
        async () => (await fetchLag(kafka, groups)) === 0,
        60_000,
        READ_ALL_POLL_MS,
      )
    },
    async verify(args = ['--drained']) {
      const said: string[] = []
      const { status, lines } = await runToEnd({
        script: 'tools/verify.ts',
        args: [...args, '--json'],
        env,
        print: (line) => void said.push(line),
      })
      assert.ok(status === 0 || status === 1, said.join('\n'))
      return JSON.parse(lines.join('\n')) as AuditReport
    },
    async run(tool, args) {
      const said: string[] = []
      const { status, lines } = await runToEnd({
        script: `tools/${tool}.ts`,
        args,
        env,
        print: (line) => void said.push(line),
      })
      assert.equal(status, 0, said.join('\n'))
      return lines
    },
    async deadLetters() {
      const { name } = config.topics.deadLetters['command-center']
      return (await readAll(config, [name])).get(name)!.length
    },
  }
}

/** What an audit has found, in words; nothing when all is well. */
export function failuresOf({ checks }: AuditReport): string[] {
  return checks.filter(({ ok }) => !ok).map(({ name, offenders }) => `${name}: ${JSON.stringify(offenders)}`)
}

/** What only somebody who has opened an order knows. */
export function plaintextMarks(): string[] {
  const { customers } = createSimulatedCatalogue()
  const people = customers.slice(0, 40).flatMap(({ name, email }) => [name, email])
  return ['"unitPrice"', '"customerId"', '"shippingAddress"', '"authorisationId"', ...people]
}

/** The marks that stand in the bytes of the log segments of these topics, as the broker has them on disk. */
export function marksInSegments(topics: readonly string[], marks: readonly string[]): string[] {
  const { KAFKA_DATA_DIR } = process.env
  if (!KAFKA_DATA_DIR)
    throw new Error('this test needs KAFKA_DATA_DIR: the directory of the broker that it uses')
  const wanted = new Set(topics)
  const segments = readdirSync(KAFKA_DATA_DIR, { recursive: true, encoding: 'utf8' }).filter((path) => {
    const [directory = '', file = ''] = path.split('/').slice(-2)
    return file.endsWith('.log') && wanted.has(directory.replace(/-\d+$/, ''))
  })
  assert.ok(segments.length >= topics.length, 'the segments are there')
  const found = new Set<string>()
  for (const segment of segments) {
    const bytes = readFileSync(join(KAFKA_DATA_DIR, segment))
    for (const mark of marks) if (bytes.includes(mark)) found.add(`${mark} in ${segment}`)
  }
  return [...found]
}
