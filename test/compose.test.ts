// docker-compose.yml cannot be run where there is no Docker engine; what can be known without one is checked here.

import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { COMPOSE_CLUSTER_ID, findDocker } from '../infra/compose.ts'
import { KAFKA_SETTINGS, KAFKA_VERSION } from '../infra/kafka.ts'
import { POSTGRES_NAME, POSTGRES_SETTINGS, POSTGRES_VERSION } from '../infra/postgres.ts'

interface Service {
  readonly image: string
  readonly command?: string[]
  readonly ports: string[]
  readonly environment: Record<string, string>
  readonly volumes?: string[]
  readonly healthcheck?: { readonly test: string[] }
}

const compose = parse(await readFile(new URL('../docker-compose.yml', import.meta.url), 'utf8')) as {
  readonly services: { readonly kafka: Service; readonly postgres: Service; readonly 'kafka-ui': Service }
  readonly volumes: Record<string, null>
}
const { kafka, postgres } = compose.services

/** The names that the image turns back into settings: upper case, a dot becomes an underscore. */
function asEnvironment(settings: Readonly<Record<string, string>>): Record<string, string> {
  const rename = (name: string): string => `KAFKA_${name.replaceAll('.', '_').toUpperCase()}`
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [rename(name), value]))
}

test('the Compose file, the launchers and the pom name the same versions', async () => {
  const pom = await readFile(new URL('../infra/pom.xml', import.meta.url), 'utf8')
  assert.equal(/<kafka\.version>(.+)<\/kafka\.version>/.exec(pom)?.[1], KAFKA_VERSION)
  assert.equal(kafka.image, `apache/kafka:${KAFKA_VERSION}`)
  assert.equal(postgres.image, `postgres:${POSTGRES_VERSION.split('.')[0]}`)
})

test('the Compose file gives Kafka the settings of the launcher, and beyond them only addresses and roles', () => {
  const addressing = [
    'KAFKA_NODE_ID',
    'KAFKA_PROCESS_ROLES',
    'KAFKA_CONTROLLER_QUORUM_VOTERS',
    'KAFKA_CONTROLLER_LISTENER_NAMES',
    'KAFKA_LISTENERS',
    'KAFKA_ADVERTISED_LISTENERS',
    'KAFKA_LISTENER_SECURITY_PROTOCOL_MAP',
    'KAFKA_INTER_BROKER_LISTENER_NAME',
    'KAFKA_LOG_DIRS',
    'CLUSTER_ID',
  ]
  const rest = Object.entries(kafka.environment).filter(([name]) => !addressing.includes(name))
  assert.deepEqual(Object.fromEntries(rest), asEnvironment(KAFKA_SETTINGS))
  assert.equal(kafka.environment.CLUSTER_ID, COMPOSE_CLUSTER_ID)
  assert.equal(Buffer.from(COMPOSE_CLUSTER_ID, 'base64url').length, 16, 'a Kafka cluster id has 16 bytes')
})

test('every listener of Kafka in Docker has a protocol, and an address for whoever uses it', () => {
  const names = (list: string | undefined): string[] =>
    (list ?? '').split(',').map((entry) => entry.split(':')[0] ?? '')
  const { environment } = kafka
  const listeners = names(environment.KAFKA_LISTENERS)
  assert.deepEqual(names(environment.KAFKA_LISTENER_SECURITY_PROTOCOL_MAP), listeners)
  assert.deepEqual(
    [...names(environment.KAFKA_ADVERTISED_LISTENERS), environment.KAFKA_CONTROLLER_LISTENER_NAMES],
    listeners,
  )
  assert.ok(listeners.includes(environment.KAFKA_INTER_BROKER_LISTENER_NAME ?? ''))
  const portOf = (listener: string): string | undefined =>
    new RegExp(`${listener}://[^:]*:(\\d+)`).exec(environment.KAFKA_LISTENERS ?? '')?.[1]
  assert.ok(environment.KAFKA_ADVERTISED_LISTENERS?.endsWith(`INTERNAL://kafka:${portOf('INTERNAL')}`))
  assert.equal(environment.KAFKA_CONTROLLER_QUORUM_VOTERS, `1@kafka:${portOf('CONTROLLER')}`)
  assert.ok(kafka.ports[0]?.endsWith(`:${portOf('HOST')}`))
  assert.equal(
    compose.services['kafka-ui'].environment.KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS,
    `kafka:${portOf('INTERNAL')}`,
  )
})

test('the Compose file gives PostgreSQL the settings and the names of the launcher', () => {
  const flags = Object.entries(POSTGRES_SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  assert.deepEqual(postgres.command, ['postgres', ...flags])
  assert.deepEqual(Object.values(postgres.environment), [POSTGRES_NAME, POSTGRES_NAME, POSTGRES_NAME])
})

test('every port of the Compose file is bound to this machine, every volume is declared, both servers are checked', () => {
  for (const service of Object.values(compose.services)) {
    for (const port of service.ports) assert.match(port, /^127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+$/)
    for (const volume of service.volumes ?? []) assert.ok((volume.split(':')[0] ?? '') in compose.volumes)
  }
  // The image of version 18 refuses to start with a volume at the older images' /var/lib/postgresql/data.
  assert.deepEqual(postgres.volumes, ['postgres-data:/var/lib/postgresql'])
  assert.ok(kafka.volumes?.[0]?.endsWith(`:${kafka.environment.KAFKA_LOG_DIRS}`))
  assert.ok(kafka.healthcheck && postgres.healthcheck)
})

test('with Docker, services are brought up one after the other and only these are stopped', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'compose-test-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const log = join(directory, 'log')
  // Says when each call begins and ends, so that two at once would show.
  const script = `#!/bin/sh\necho "begin $* port=$KAFKA_PORT" >> ${log}\n[ "$1" = info ] || sleep 0.05\necho end >> ${log}\n`
  await writeFile(join(directory, 'docker'), script)
  await chmod(join(directory, 'docker'), 0o755)
  const path = process.env.PATH
  process.env.PATH = `${directory}:${path}`
  t.after(() => {
    process.env.PATH = path
  })

  const up = await findDocker(() => {})
  assert.ok(up !== undefined)
  const [stopKafka] = await Promise.all([up('kafka', { KAFKA_PORT: '9095' }), up('postgres', {})])
  await stopKafka()
  const lines = (await readFile(log, 'utf8')).trim().split('\n')
  const calls = lines.map((line) => line.replace(/--file \S+docker-compose\.yml /, ''))
  assert.deepEqual(
    calls.filter((_, index) => index % 2 === 1).every((line) => line === 'end'),
    true,
    'two calls at once',
  )
  assert.deepEqual(
    calls.filter((_, index) => index % 2 === 0),
    [
      'begin info port=',
      'begin compose version port=',
      'begin compose up --detach --wait kafka port=9095',
      'begin compose up --detach --wait postgres port=',
      'begin compose stop kafka port=9095',
    ],
  )
})
