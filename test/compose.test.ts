// docker-compose.yml cannot be run where there is no Docker engine; what can be known without one is checked here.

import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { CASSANDRA_VERSION } from '../infra/cassandra.ts'
import { CASSANDRA_HEAP, settingFlags } from '../infra/cassandraState.ts'
import { COMPOSE_CLUSTERS, findDocker } from '../infra/compose.ts'
import { KAFKA_VERSION } from '../infra/kafka.ts'
import { heapOptions, kafkaSettings } from '../infra/kafkaState.ts'
import { POSTGRES_NAME, POSTGRES_SETTINGS, POSTGRES_VERSION } from '../infra/postgres.ts'

interface Service {
  readonly image: string
  readonly command?: string[]
  readonly ports: string[]
  readonly environment: Record<string, string>
  readonly volumes?: string[]
  readonly healthcheck?: { readonly test: string[] }
  readonly profiles?: string[]
}

const text = await readFile(new URL('../docker-compose.yml', import.meta.url), 'utf8')
const compose = parse(text, { merge: true }) as {
  readonly services: Record<string, Service>
  readonly volumes: Record<string, null>
}
const service = (name: string): Service => compose.services[name] ?? assert.fail(`no service ${name}`)
const postgres = service('postgres')
const cassandra = service('cassandra')
const clusters = COMPOSE_CLUSTERS.map((cluster) => ({ ...cluster, nodes: cluster.services.map(service) }))

/** The names that the image turns back into settings: upper case, a dot becomes an underscore. */
function asEnvironment(settings: Readonly<Record<string, string>>): Record<string, string> {
  const rename = (name: string): string => `KAFKA_${name.replaceAll('.', '_').toUpperCase()}`
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [rename(name), value]))
}

test('the Compose file, the launchers and the poms name the same versions', async () => {
  const [kafkaPom, cassandraPom] = await Promise.all(
    ['pom.xml', 'cassandra/pom.xml'].map((name) =>
      readFile(new URL(`../infra/${name}`, import.meta.url), 'utf8'),
    ),
  )
  assert.equal(/<kafka\.version>(.+)<\/kafka\.version>/.exec(kafkaPom!)?.[1], KAFKA_VERSION)
  assert.equal(/<cassandra\.version>(.+)<\/cassandra\.version>/.exec(cassandraPom!)?.[1], CASSANDRA_VERSION)
  assert.equal(cassandra.image, `cassandra:${CASSANDRA_VERSION}`)
  for (const { image } of clusters.flatMap(({ nodes }) => nodes)) {
    assert.equal(image, `apache/kafka:${KAFKA_VERSION}`)
  }
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
  for (const { clusterId, nodes } of clusters) {
    assert.equal(Buffer.from(clusterId, 'base64url').length, 16, 'a Kafka cluster id has 16 bytes')
    for (const { environment } of nodes) {
      const rest = Object.entries(environment).filter(([name]) => !addressing.includes(name))
      const heap = nodes.length === 1 ? {} : { KAFKA_HEAP_OPTS: heapOptions(nodes.length).join(' ') }
      assert.deepEqual(Object.fromEntries(rest), { ...asEnvironment(kafkaSettings(nodes.length)), ...heap })
      assert.equal(environment.CLUSTER_ID, clusterId)
    }
  }
})

test('every listener of Kafka in Docker has a protocol, and an address for whoever uses it', () => {
  const names = (list: string | undefined): string[] =>
    (list ?? '').split(',').map((entry) => entry.split(':')[0] ?? '')
  for (const { services, portVariables, nodes } of clusters) {
    const voters = services.map((name, index) => `${index + 1}@${name}:29093`).join(',')
    for (const [index, { environment, ports, healthcheck }] of nodes.entries()) {
      const listeners = names(environment.KAFKA_LISTENERS)
      assert.deepEqual(names(environment.KAFKA_LISTENER_SECURITY_PROTOCOL_MAP), listeners)
      assert.deepEqual(
        [...names(environment.KAFKA_ADVERTISED_LISTENERS), environment.KAFKA_CONTROLLER_LISTENER_NAMES],
        listeners,
      )
      assert.equal(environment.KAFKA_INTER_BROKER_LISTENER_NAME, 'INTERNAL')
      assert.equal(environment.KAFKA_LISTENERS, 'HOST://:9092,INTERNAL://:19092,CONTROLLER://:29093')
      assert.equal(environment.KAFKA_CONTROLLER_QUORUM_VOTERS, voters)
      assert.equal(environment.KAFKA_NODE_ID, String(index + 1))
      // The host is sent on to the port that is bound there, the containers to the name of this one.
      const [, hostPort] = /^127\.0\.0\.1:(.+):9092$/.exec(ports[0] ?? '') ?? []
      assert.ok(hostPort?.startsWith(`\${${portVariables[index]}:-`))
      const advertised = `HOST://localhost:${hostPort},INTERNAL://${services[index]}:19092`
      assert.equal(environment.KAFKA_ADVERTISED_LISTENERS, advertised)
      assert.match(healthcheck?.test.at(-1) ?? '', /:19092$/)
    }
  }
  assert.equal(service('kafka-ui').environment.KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS, 'kafka:19092')
})

test('without a profile, what starts is one broker, PostgreSQL and Kafka UI; no two services share a port or a volume', () => {
  const all = Object.entries(compose.services)
  const byDefault = all.filter(([, { profiles }]) => profiles === undefined).map(([name]) => name)
  assert.deepEqual(byDefault, ['kafka', 'postgres', 'kafka-ui'])
  for (const { profiles } of clusters[1]!.nodes) assert.deepEqual(profiles, ['cluster'])
  assert.deepEqual(cassandra.profiles, ['cassandra'])
  const taken = all.flatMap(([, { ports, volumes = [] }]) => [
    ...ports.map((port) => /:-(\d+)}/.exec(port)?.[1]),
    ...volumes.map((volume) => volume.split(':')[0]),
  ])
  assert.equal(new Set(taken).size, taken.length)
})

test('the Compose file gives PostgreSQL the settings and the names of the launcher', () => {
  const flags = Object.entries(POSTGRES_SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  assert.deepEqual(postgres.command, ['postgres', ...flags])
  assert.deepEqual(Object.values(postgres.environment), [POSTGRES_NAME, POSTGRES_NAME, POSTGRES_NAME])
})

test('the Compose file gives Cassandra the settings of the launcher', () => {
  const { JVM_EXTRA_OPTS, MAX_HEAP_SIZE } = cassandra.environment
  assert.deepEqual(JVM_EXTRA_OPTS?.split(' '), settingFlags())
  assert.equal(MAX_HEAP_SIZE, CASSANDRA_HEAP)
})

test('every port of the Compose file is bound to this machine, every volume is declared, every server is checked', () => {
  for (const { ports, volumes = [] } of Object.values(compose.services)) {
    for (const port of ports) assert.match(port, /^127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+$/)
    for (const volume of volumes) assert.ok((volume.split(':')[0] ?? '') in compose.volumes)
  }
  // The image of version 18 refuses to start with a volume at the older images' /var/lib/postgresql/data.
  assert.deepEqual(postgres.volumes, ['postgres-data:/var/lib/postgresql'])
  for (const { volumes, environment, healthcheck } of clusters.flatMap(({ nodes }) => nodes)) {
    assert.ok(volumes?.[0]?.endsWith(`:${environment.KAFKA_LOG_DIRS}`))
    assert.ok(healthcheck)
  }
  assert.ok(postgres.healthcheck)
  assert.match(cassandra.healthcheck?.test.at(-1) ?? '', /\/9042$/)
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
  const [stopKafka] = await Promise.all([up(['kafka'], { KAFKA_PORT: '9095' }), up(['postgres'], {})])
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
