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
  readonly network_mode?: string
  readonly environment: Record<string, string>
  readonly volumes: (string | Mount)[]
  readonly healthcheck?: { readonly test: string[] }
  readonly profiles?: string[]
}

interface Mount {
  readonly source: string
  readonly target: string
  readonly read_only: boolean
  readonly bind: { readonly create_host_path: boolean }
}

const text = await readFile(new URL('../docker-compose.yml', import.meta.url), 'utf8')
const { services: written, volumes: declared } = parse(text, { merge: true }) as {
  readonly services: Record<string, Partial<Service> & Pick<Service, 'image'>>
  readonly volumes: Record<string, null>
}
const all = Object.entries(written).map(([name, settings]): [string, Service] => [
  name,
  { ports: [], environment: {}, volumes: [], ...settings },
])
const services = new Map(all)
const service = (name: string): Service => services.get(name) ?? assert.fail(`no service ${name}`)
/** The volumes of Docker's own that a service writes to; the rest are directories of the project. */
const namedVolumes = ({ volumes }: Service): string[] =>
  volumes.flatMap((volume) =>
    typeof volume === 'string' && !volume.startsWith('./') ? [volume.split(':')[0]!] : [],
  )
const postgres = service('postgres')
const cassandra = service('cassandra')
const clusters = COMPOSE_CLUSTERS.map((cluster) => ({ ...cluster, nodes: cluster.services.map(service) }))

/** The names that the image turns back into settings: upper case, a dot becomes an underscore. */
function asEnvironment(settings: Readonly<Record<string, string>>): Record<string, string> {
  const rename = (name: string): string => `KAFKA_${name.replaceAll('.', '_').toUpperCase()}`
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [rename(name), value]))
}

/** How the Compose file names a setting and what it is without. */
const setting = (name: string, otherwise: string): string => `\${${name}:-${otherwise}}`
/** @returns whatever is in it, to be compared */
const readYaml = async (name: string) =>
  parse(await readFile(new URL(`../deploy/${name}`, import.meta.url), 'utf8'))

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
  const byDefault = all.filter(([, { profiles }]) => profiles === undefined).map(([name]) => name)
  assert.deepEqual(byDefault, ['kafka', 'postgres', 'kafka-ui'])
  for (const { profiles } of clusters[1]!.nodes) assert.deepEqual(profiles, ['cluster'])
  assert.deepEqual(cassandra.profiles, ['cassandra'])
  const taken = all.flatMap(([, each]) => [
    ...each.ports.map((port) => /:-(\d+)}/.exec(port)?.[1]),
    ...namedVolumes(each),
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
  for (const [, each] of all) {
    for (const port of each.ports) assert.match(port, /^127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+$/)
    for (const volume of namedVolumes(each)) assert.ok(volume in declared)
  }
  // The image of version 18 refuses to start with a volume at the older images' /var/lib/postgresql/data.
  assert.deepEqual(postgres.volumes, ['postgres-data:/var/lib/postgresql'])
  for (const { volumes, environment, healthcheck } of clusters.flatMap(({ nodes }) => nodes)) {
    assert.ok(String(volumes[0]).endsWith(`:${environment.KAFKA_LOG_DIRS}`))
    assert.ok(healthcheck)
  }
  assert.ok(postgres.healthcheck)
  assert.match(cassandra.healthcheck?.test.at(-1) ?? '', /\/9042$/)
})

test('Jaeger takes traces where the settings say, and shows them', async () => {
  const { image, profiles, ports, healthcheck } = service('jaeger')
  assert.match(image, /:\d+\.\d+\.\d+$/)
  assert.deepEqual(profiles, ['tracing'])
  assert.deepEqual(ports, [
    `127.0.0.1:${setting('JAEGER_OTLP_PORT', '4318')}:4318`,
    `127.0.0.1:${setting('JAEGER_UI_PORT', '16686')}:16686`,
  ])
  assert.ok(healthcheck)
  const example = await readFile(new URL('../.env.example', import.meta.url), 'utf8')
  assert.match(example, /such as http:\/\/127\.0\.0\.1:4318 /)
})

test('Prometheus and Grafana, on the network of this machine, listen on 127.0.0.1 alone and change nothing here', async () => {
  const [prometheus, grafana] = [service('prometheus'), service('grafana')]
  for (const { image, profiles, network_mode, ports, healthcheck } of [prometheus, grafana]) {
    assert.match(image, /:v?\d+\.\d+\.\d+$/)
    assert.deepEqual([profiles, network_mode, ports], [['monitoring'], 'host', []])
    assert.ok(healthcheck)
  }
  assert.ok(
    prometheus.command?.includes(`--web.listen-address=127.0.0.1:${setting('PROMETHEUS_PORT', '9090')}`),
  )
  const { GF_SERVER_HTTP_ADDR, GF_SERVER_HTTP_PORT, PROMETHEUS_PORT } = grafana.environment
  assert.deepEqual([GF_SERVER_HTTP_ADDR, GF_SERVER_HTTP_PORT], ['127.0.0.1', setting('GRAFANA_PORT', '3010')])
  assert.equal(PROMETHEUS_PORT, setting('PROMETHEUS_PORT', '9090'))

  // The configuration names the instances relative to itself, so both must lie there as they do here.
  const [configuration, instances] = prometheus.volumes
  assert.equal(configuration, './deploy/prometheus:/pipeline/deploy/prometheus:ro')
  assert.deepEqual(instances, {
    type: 'bind',
    source: setting('INSTANCES_DIR', './.data/instances'),
    target: '/pipeline/.data/instances',
    read_only: true,
    bind: { create_host_path: false },
  })
  for (const volume of grafana.volumes) {
    if (typeof volume === 'string' && volume.startsWith('./')) assert.match(volume, /:ro$/)
  }
  const [{ scrape_interval }, datasource] = await Promise.all([
    readYaml('prometheus/prometheus.yml').then(({ global }) => global),
    readYaml('grafana/provisioning/datasources/prometheus.yml').then(({ datasources: [each] }) => each),
  ])
  assert.equal(datasource.jsonData.timeInterval, scrape_interval)
  const { providers } = await readYaml('grafana/provisioning/dashboards/order-pipeline.yml')
  assert.ok(grafana.volumes.includes(`./deploy/grafana/dashboards:${providers[0].options.path}:ro`))
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
