import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { createLogger } from '../lib/log.ts'
import { listTopics } from '../lib/topics.ts'
import { testEnvironment } from './harness.ts'

const run = promisify(execFile)

describe('the configuration', () => {
  it('has defaults for everything, and .env.example shows exactly those', () => {
    const example = parseDotenv(readFileSync('.env.example'))
    const comparable = (env: Record<string, string>) => {
      const { topics, keys, ...rest } = parseConfig(env)
      return { ...rest, keys: typeof keys, topics: listTopics(topics).map(({ name }) => name) }
    }
    assert.deepEqual(comparable(example), comparable({}))
  })

  it('explains every variable in .env.example that the code reads, and no other', () => {
    const read = new Set<string>()
    const sasl = { KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' }
    const given = { ...sasl, SEALED_TOPICS: 'all', ENCRYPTION_KEY: 'k'.repeat(43).concat('=') }
    const get = (env: Record<string, string>, name: string) => {
      read.add(name)
      return env[name]
    }
    parseConfig(new Proxy<Record<string, string>>(given, { get }))
    // Known everywhere, and nothing of ours.
    for (const name of ['NO_COLOR', 'FORCE_COLOR', 'TERM']) read.delete(name)
    assert.deepEqual([...read].sort(), Object.keys(parseDotenv(readFileSync('.env.example'))).sort())
  })

  const wrong: [name: string, value: string, says: RegExp][] = [
    ['KAFKA_BROKERS', 'localhost', /KAFKA_BROKERS=localhost is not usable: it takes host:port/],
    ['PARTITIONS', 'six', /PARTITIONS=six .* whole number from 1 to 1000/],
    ['PARTITIONS', '0', /PARTITIONS=0/],
    ['ORDERS_PER_SECOND', '-1', /ORDERS_PER_SECOND=-1/],
    ['BAD_ORDER_RATIO', '2', /BAD_ORDER_RATIO=2 .* number from 0 to 1/],
    ['ORDER_LIMIT', '1,000', /ORDER_LIMIT=1,000 .* amount such as/],
    ['MIN_INSYNC_REPLICAS', '2', /MIN_INSYNC_REPLICAS=2 .* above REPLICATION_FACTOR \(1\)/],
    ['TOPIC_PREFIX', 'a b', /TOPIC_PREFIX=a b/],
    ['ROUTING', 'scenic', /ROUTING=scenic .* one of direct, command-center/],
    ['SEALED_TOPICS', 'products', /SEALED_TOPICS=products .* all, or some of orders.raw/],
    ['LOG_LEVEL', 'loud', /LOG_LEVEL=loud .* one of trace, debug/],
    ['KAFKA_SASL_MECHANISM', 'plain', /needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD/],
    [
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'localhost:4318',
      /OTEL_EXPORTER_OTLP_ENDPOINT is not usable: it takes a URL/,
    ],
    ['OTEL_TRACES_SAMPLER', 'some', /OTEL_TRACES_SAMPLER=some .* one of parentbased_always_on, /],
    ['OTEL_TRACES_SAMPLER_ARG', '2', /OTEL_TRACES_SAMPLER_ARG=2 .* number from 0 to 1/],
    ['KAFKA_TLS_CA_FILE', '/no/such.pem', /KAFKA_TLS_CA_FILE=\/no\/such\.pem .* no such file/],
  ]
  for (const [name, value, says] of wrong) {
    it(`refuses ${name}=${value} and says what is allowed`, () => {
      assert.throws(
        () => parseConfig({ [name]: value }),
        (error) => {
          assert.ok(error instanceof ConfigurationError)
          assert.match(error.message, says)
          return true
        },
      )
    })
  }

  it('does not repeat a URL that holds a password', () => {
    assert.throws(
      () => parseConfig({ DATABASE_URL: 'mysql://user:secret@host/db' }),
      (error: Error) => {
        assert.match(error.message, /DATABASE_URL is not usable/)
        assert.doesNotMatch(error.message, /secret/)
        return true
      },
    )
  })

  it('reads what the trace collector is to be told, and does not repeat it when it is wrong', () => {
    const { headers } = parseConfig({
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20a%2Cb, x-of = ours',
    }).tracing
    assert.deepEqual(headers, { authorization: 'Bearer a,b', 'x-of': 'ours' })
    for (const wrong of ['authorization: secret', 'authorization=%secret', '=secret']) {
      assert.throws(
        () => parseConfig({ OTEL_EXPORTER_OTLP_HEADERS: wrong }),
        ({ message }: Error) =>
          /OTEL_EXPORTER_OTLP_HEADERS is not usable/.test(message) && !/secret/.test(message),
      )
    }
  })

  it('ends a script with one sentence when it is wrong', async () => {
    const env = { ...process.env, PARTITIONS: 'six', ENV_FILE: '/nonexistent/.env' }
    await assert.rejects(run(process.execPath, ['--import', 'tsx', 'validator.ts'], { env }), (error) => {
      const { stderr, code } = error as unknown as { stderr: string; code: number }
      assert.equal(code, 1)
      assert.match(stderr, /^validator: PARTITIONS=six is not usable[^\n]*\n$/)
      return true
    })
  })
})

describe('ensureTopics', () => {
  it('creates what is missing, with the settings of the table, and then has nothing to do', async (t) => {
    const config = parseConfig(await testEnvironment(t))
    const first = await ensureTopics(config, () => undefined)
    assert.equal(first.created.length, listTopics(config.topics).length)
    const second = await ensureTopics(config, () => undefined)
    assert.deepEqual([second.created, second.drifted], [[], []])
  })

  it('reports what differs and leaves it as it is', async (t) => {
    const config = parseConfig(await testEnvironment(t))
    await ensureTopics(config, () => undefined)
    const lines: string[] = []
    const report = await ensureTopics({ ...config, partitions: 5 }, (line) => lines.push(line))
    assert.equal(report.drifted.length, listTopics(config.topics).length - 1)
    assert.match(lines.join('\n'), /DIFFERS .*orders\.raw: partitions is 3, the table says 5/)
    const admin = createKafka(config, 'test', createLogger('test', config.log)).admin()
    await admin.connect()
    t.after(() => admin.disconnect())
    const { topics } = await admin.fetchTopicMetadata({ topics: [config.topics.ordersRaw.name] })
    assert.equal(topics[0]!.partitions.length, 3)
  })

  it('refuses a replication that the cluster cannot give', async (t) => {
    const config = parseConfig(await testEnvironment(t))
    await assert.rejects(
      ensureTopics({ ...config, replicationFactor: 3 }, () => undefined),
      /REPLICATION_FACTOR=3 needs as many brokers, and the cluster has 1/,
    )
  })

  it('works as the one line of the README', async (t) => {
    const env = { ...process.env, ...(await testEnvironment(t)) }
    const line = "import('./kafkaConfig.ts').then(m => m.ensureTopics())"
    const { stdout } = await run('npx', ['tsx', '-e', line], { env })
    assert.match(stdout, /created .*orders\.raw/)
  })
})
