/** Takes the tour in a test, and looks whether it leaves nothing behind. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { createKafka, parseConfig } from '../kafkaConfig.ts'
import { runScript } from '../lib/childProcesses.ts'
import { createLogger } from '../lib/log.ts'
import type { TourResult } from '../lib/tour.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** A file that is not there: the `.env` of whoever runs the tests must not matter. */
export const tourSettings = () => ({ ...process.env, ENV_FILE: '/nonexistent/.env', LOG_LEVEL: 'warn' })

/** Before the topics of a tour, by what it has told; undefined while it has none. */
export function prefixIn(narration: string): string | undefined {
  return /TOPIC_PREFIX=(tour-\w+\.)/.exec(narration)?.[1]
}

/** Takes a tour on the Kafka and the PostgreSQL of the tests. @throws when it fails, with what it has told */
export async function takeTour(
  t: TestContext,
  args: string[],
): Promise<{ result: TourResult; narration: string }> {
  const told: string[] = []
  const { status, lines } = await runScript({
    script: 'tools/tour.ts',
    args: ['--fast', '--json', ...args],
    env: tourSettings(),
    print: (line) => told.push(line),
    signal: t.signal,
  })
  const narration = told.join('\n')
  assert.equal(status, 0, narration)
  const prefix = prefixIn(narration)
  assert.ok(prefix, narration)
  await assertGone(prefix)
  return { result: JSON.parse(lines.join('')) as TourResult, narration }
}

/** No topic, no group, no database and no directory. */
export async function assertGone(prefix: string): Promise<void> {
  const config = parseConfig({ ...process.env })
  const admin = createKafka(config, 'test', createLogger('test', config.log)).admin()
  const database = new pg.Client({ connectionString: config.databaseUrl })
  await Promise.all([admin.connect(), database.connect()])
  try {
    const { groups } = await admin.listGroups()
    const names = [...(await admin.listTopics()), ...groups.map(({ groupId }) => groupId)]
    assert.deepEqual(
      names.filter((name) => name.startsWith(prefix)),
      [],
    )
    const name = prefix.slice(0, -1).replace('-', '_')
    const { rows } = await database.query('SELECT FROM pg_database WHERE datname = $1', [name])
    assert.equal(rows.length, 0)
    assert.ok(!existsSync(join(ROOT, '.data', name)))
  } finally {
    await Promise.all([admin.disconnect(), database.end()])
  }
}
