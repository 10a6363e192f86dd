/**
 * What tests stand on: a fresh set of topics and a fresh database for each, on the broker and the PostgreSQL that
 * `test/run.ts` started.
 */
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import pg from 'pg'
import { type Config, ensureTopics, parseConfig } from '../kafkaConfig.ts'

/** The environment of a test's own: topics by prefix, a database by name, any free ports, few partitions. */
export async function testEnvironment(
  t: TestContext,
  settings: Record<string, string> = {},
): Promise<Record<string, string>> {
  const { KAFKA_BROKERS, DATABASE_URL } = process.env
  if (!KAFKA_BROKERS || !DATABASE_URL) {
    throw new Error(
      'this test needs KAFKA_BROKERS and DATABASE_URL: run it by `npm test`, or start `npm run infra`',
    )
  }
  const id = `t${randomBytes(5).toString('hex')}`
  const admin = new pg.Client({ connectionString: DATABASE_URL })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${id}`)
  t.after(async () => {
    await admin.query(`DROP DATABASE IF EXISTS ${id} WITH (FORCE)`)
    await admin.end()
  })
  const url = new URL(DATABASE_URL)
  url.pathname = `/${id}`
  return {
    KAFKA_BROKERS,
    DATABASE_URL: url.href,
    TOPIC_PREFIX: `${id}.`,
    PARTITIONS: '3',
    HEALTH_PORT: '0',
    GATEWAY_PORT: '0',
    LOG_LEVEL: process.env.TEST_LOG_LEVEL ?? 'silent',
    // A file that is not there: the `.env` of whoever runs the tests must not matter.
    ENV_FILE: '/nonexistent/.env',
    ...settings,
  }
}

/** A configuration of a test's own, with its topics made. */
export async function testConfig(t: TestContext, settings: Record<string, string> = {}): Promise<Config> {
  const config = parseConfig(await testEnvironment(t, settings))
  await ensureTopics(config, () => undefined)
  return config
}

/** Waits until something is so. @throws after the deadline, with what it waited for */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  deadlineMs = 30_000,
): Promise<void> {
  const endMs = Date.now() + deadlineMs
  while (!(await isSo())) {
    if (Date.now() > endMs) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
