/** What tests of traces share: a pipeline of one partition, and what a trace looks like. */
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { startScript, stopScript } from '../lib/childProcesses.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { createLogger } from '../lib/log.ts'
import { TOLD } from './fixtures/tellModules.ts'
import { type RunningScript, testEnvironment, until } from './harness.ts'
import type { ReceivedSpan, TraceReceiver } from './traceReceiver.ts'

const TELL_MODULES = fileURLToPath(new URL('fixtures/tellModules.ts', import.meta.url))
/** What whoever writes to the API has to show. */
export const TOKEN = 'a-token-of-the-shop'
/** The customer c-1. */
export const PERSON = { name: 'Erika Musterfrau', email: 'erika@example.com' }

export const hex = (bytes: number) => randomBytes(bytes).toString('hex')

/** Topics, tables and a customer. */
export async function prepare(t: TestContext, settings: Record<string, string> = {}) {
  const env = await testEnvironment(t, { PARTITIONS: '1', API_TOKENS: TOKEN, ...settings })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 1, log)
  await migrateDatabase(database, log)
  const { name, email } = PERSON
  await database.query(`INSERT INTO customers VALUES ('c-1', $1, $2, 'gold', 'DE', false)`, [name, email])
  await database.end()
  return { env, config, log }
}

/** Runs a script that can be asked how many modules of OpenTelemetry it has loaded. */
export function runTelling(
  t: TestContext,
  name: string,
  env: Record<string, string>,
): RunningScript & { modules(): Promise<number> } {
  const lines: string[] = []
  const child = startScript({
    script: `${name}.ts`,
    preload: [TELL_MODULES],
    env: { ...process.env, ...env, LOG_LEVEL: 'info' },
    print: (line) => lines.push(line),
  })
  t.after(() => stopScript(child))
  return {
    child,
    lines,
    async modules() {
      child.send('tell')
      await until('it tells its modules', () => lines.some((line) => line.startsWith(TOLD)))
      return Number(lines.find((line) => line.startsWith(TOLD))!.slice(TOLD.length))
    },
  }
}

/** Each span of a trace with its parent, as `service: name <- service: name`, without the prefix of the topics. */
export function edgesOf({ spans }: TraceReceiver, traceId: string, prefix: string): Set<string> {
  const ofTrace = spans.filter((span) => span.traceId === traceId)
  const byId = new Map(ofTrace.map((span) => [span.spanId, span]))
  const label = (span: ReceivedSpan | undefined) =>
    span ? `${span.service}: ${span.name.replace(prefix, '')}` : 'client'
  return new Set(ofTrace.map((span) => `${label(byId.get(span.parentSpanId ?? ''))} -> ${label(span)}`))
}
