// What the docs tell people to type exists, and without Docker it is run here; what they quote stands in the code.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parse as parseDotenv } from 'dotenv'
import kafkajs from 'kafkajs'
import { KAFKA_VERSION, kafkaClasspath } from '../infra/kafka.ts'
import { classArchive, findJava } from '../infra/kafkaJars.ts'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { toDeadLetter } from '../lib/deadLetters.ts'
import { createLogger } from '../lib/log.ts'
import { findReasons } from '../lib/orderRules.ts'
import { PRODUCER_FLAGS } from '../lib/producerFlags.ts'
import { WORKER_FLAGS } from '../lib/service.ts'
import { createSimulatedCatalogue } from '../lib/simulatedCatalogue.ts'
import { readAll, testEnvironment, until } from './harness.ts'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const CLI = read('docs/CLI.md')
const TROUBLESHOOTING = read('docs/TROUBLESHOOTING.md')
const BOTH = `${CLI}\n${TROUBLESHOOTING}`

/** What bin/kafka-*.sh of Kafka starts. */
const CLASS_OF: Record<string, string> = {
  topics: 'org.apache.kafka.tools.TopicCommand',
  'consumer-groups': 'org.apache.kafka.tools.consumer.group.ConsumerGroupCommand',
  'console-consumer': 'org.apache.kafka.tools.consumer.ConsoleConsumer',
  'console-producer': 'org.apache.kafka.tools.ConsoleProducer',
  'get-offsets': 'org.apache.kafka.tools.GetOffsetShell',
  configs: 'kafka.admin.ConfigCommand',
  transactions: 'org.apache.kafka.tools.TransactionsCommand',
}
const DOCKER_FORM = /docker compose exec (?:-T )?kafka \/opt\/kafka\/bin\/kafka-([\w-]+)\.sh/
const JAVA_FORM = /java -cp '\.data\/kafka-jars-([\w.-]+)\/\*' ([\w.]+)/

/** The fenced blocks in one language. */
function fences(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, found]) => found === language)
    .map(([, , content]) => content!)
}

const blocks = fences(CLI, 'sh')
const commands = blocks.flatMap((block) => block.trim().split('\n'))
const javaCommands = commands.filter((command) => JAVA_FORM.test(command))
const orderAssignment = commands.find((command) => command.startsWith('order='))!

/** These are run, so their flags need no other proof. */
const isReplay = (command: string) => command.startsWith('npx tsx analytics.ts')

/** Known without starting the script. */
const FLAGS_OF: Record<string, string[]> = {
  'producer.ts': Object.keys(PRODUCER_FLAGS),
  'validator.ts': Object.keys(WORKER_FLAGS),
}

async function readFlags(script: string): Promise<string[]> {
  const { stdout } = await run(process.execPath, ['--import', 'tsx', script, '--help'], { cwd: ROOT })
  return [...stdout.matchAll(/--([a-z][\w-]*)/g)].map(([, flag]) => flag!)
}

/** All Markdown files of the project. */
function markdownFiles(directory = ROOT): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules' || entry.name.startsWith('.')) return []
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return markdownFiles(path)
    return entry.name.endsWith('.md') ? [path] : []
  })
}

/** The anchor that GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')
}

/** Runs all, so many at a time. */
async function runAll<Item>(items: Item[], atOnce: number, work: (item: Item) => Promise<void>) {
  const queue = [...items]
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

describe('the commands of docs/CLI.md', () => {
  it('say the same with Docker and without, in the bundled version', () => {
    const inJava = commands
      .filter((command) => DOCKER_FORM.test(command))
      .map((command) =>
        command.replace(DOCKER_FORM, (_, script: string) => {
          const name = CLASS_OF[script]
          assert.ok(name, `kafka-${script}.sh`)
          return `java -cp '.data/kafka-jars-${KAFKA_VERSION}/*' ${name}`
        }),
      )
    assert.deepEqual(javaCommands, inJava)
    assert.ok(javaCommands.length > 8)
  })

  it('work without Docker', async (t) => {
    const { env, config } = await preparePipeline(t)
    const help = await shell(
      `java -cp '.data/kafka-jars-${KAFKA_VERSION}/*' ${CLASS_OF['console-consumer']} --help 2>&1 || :`,
    )
    assert.match(help.stdout, /--timeout-ms/)
    const said = new Map<string, string>()
    await runAll(javaCommands, 3, async (command) => {
      const { stdout, stderr } = await shell(`${adapt(orderAssignment)}\n${adapt(command)}`)
      assert.doesNotMatch(stdout + stderr, /deprecated/i, command)
      said.set(command, stdout + stderr)
    })
    const saidBy = (part: string) => said.get(javaCommands.find((command) => command.includes(part))!) ?? ''
    assert.match(saidBy('--list'), /orders\.raw/)
    assert.match(saidBy('--describe --topic'), /PartitionCount: 3/)
    assert.match(saidBy('--describe --group'), /CURRENT-OFFSET/)
    assert.match(saidBy('--topic validator.dlq'), /reason:not JSON/)
    assert.match(saidBy('GetOffsetShell'), /orders\.raw:0:/)
    assert.match(saidBy('--reset-offsets'), /NEW-OFFSET[\s\S]*orders\.validated/)
    assert.match(saidBy('describe-producers'), /CurrentTransactionStartOffset/)
    // It was another before: the command sets what the table says.
    assert.deepEqual((await ensureTopics(config, () => undefined)).drifted, [])

    const { ordersRaw } = config.topics
    const [placed, ...others] = (await readAll(config, [ordersRaw.name])).get(ordersRaw.name)!
    assert.equal(others.length, 0)
    const order = ordersRaw.decode(placed!.value!)
    assert.equal(placed!.key?.toString(), ordersRaw.keyOf(order))
    const { customers, products } = createSimulatedCatalogue()
    const reasons = findReasons(
      order,
      'first',
      {
        customer(id) {
          const customer = customers.find((each) => each.id === id)
          return (
            customer && { customer: { ...customer, tier: 'standard' as const }, blocked: customer.blocked }
          )
        },
        product: (sku) => (products.some((product) => product.sku === sku) ? 'known' : 'unknown'),
      },
      config.orders.limitMinor,
    )
    assert.deepEqual(reasons, [])

    /** To the topics of this test; and reading ends by count where it ends by time for people. */
    function adapt(command: string): string {
      return command
        .replaceAll('localhost:9092', env.KAFKA_BROKERS!)
        .replace(/(--topic|--group|--entity-name) ([\w.]+)/g, `$1 ${config.topicPrefix}$2`)
        .replace(/--timeout-ms \d+|--max-messages \d+/, '--max-messages 1')
    }
    function shell(command: string) {
      return run('bash', ['-c', command], { cwd: ROOT, env })
    }
  })

  it('replay analytics', async (t) => {
    const settings = await testEnvironment(t)
    await ensureTopics(parseConfig(settings), () => undefined)
    const replays = commands.filter(isReplay)
    assert.equal(replays.length, 2)
    await runAll(replays, 2, async (command) => {
      const args = command.split(' ').slice(2)
      const { stdout } = await run(process.execPath, ['--import', 'tsx', ...args], {
        cwd: ROOT,
        env: { ...process.env, ...settings },
      })
      assert.match(stdout, args.includes('--json') ? /^\{"orders":0,/ : /^orders/)
    })
  })

  it('ask the database, by the function that is defined there', async (t) => {
    const { DATABASE_URL } = await testEnvironment(t)
    const log = createLogger('test', { level: 'silent', format: 'json', color: false })
    const database = openDatabase(DATABASE_URL!, 1, log)
    try {
      await migrateDatabase(database, log)
      await database.query("INSERT INTO stock VALUES ('SKU-0001', 3, 2, 1)")
      await database.query(
        "INSERT INTO payment_outcomes (order_id, operation, source, event, note) VALUES ('hand-1', 'authorise', 'a/0/0', '{}', 'noted')",
      )
    } finally {
      await database.end()
    }
    const q = blocks.find((block) => block.startsWith('q() {'))!
    const queries = fences(CLI, 'sql')
    const answers = await Promise.all(
      queries.map((sql) =>
        run('bash', ['-c', `${q}\nq "$SQL"`], { env: { ...process.env, DATABASE_URL, SQL: sql } }),
      ),
    )
    assert.equal(answers.length, 3)
    assert.match(answers[0]!.stdout, /wrong[\s\S]*'0'/)
    assert.match(answers[1]!.stdout, /payment[\s\S]*noted/)
  })
})

describe('the docs', () => {
  it('name scripts and flags that exist', async () => {
    const typed = [
      ...commands.filter((command) => !isReplay(command)),
      ...[...BOTH.matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!),
    ]
    const scripts: Record<string, string> = JSON.parse(read('package.json')).scripts
    const flagsOf = new Map<string, Set<string>>()
    for (const command of typed) {
      const flags = [...command.matchAll(/ --([a-z][\w-]*)/g)].map(([, flag]) => flag!)
      const tsx = /npx tsx (\w\S*\.ts)/.exec(command)?.[1]
      const npm = /^npm (?:run )?(\S+)/.exec(command)?.[1]
      const ours = npm !== undefined && scripts[npm]?.split(' ').at(-1)
      if (/^npm run /.test(command)) assert.ok(ours, command)
      const script = tsx ?? (ours || undefined)
      if (script === undefined) continue
      assert.ok(existsSync(join(ROOT, script)), command)
      const known = flagsOf.get(script) ?? new Set()
      for (const flag of flags) known.add(flag)
      flagsOf.set(script, known)
    }
    assert.ok(flagsOf.size >= 5, [...flagsOf.keys()].join())
    await runAll([...flagsOf], 3, async ([script, flags]) => {
      const known = flags.size === 0 ? [] : (FLAGS_OF[script] ?? (await readFlags(script)))
      for (const flag of flags) assert.ok(known.includes(flag), `${script} --${flag}`)
    })
    const ensure = /npx tsx -e "[^"]+"/g
    const inCode = ensure.exec(read('kafkaConfig.ts'))?.[0]
    for (const [command] of BOTH.matchAll(ensure)) assert.equal(command, inCode)
  })

  it('link to what is there', () => {
    const files = markdownFiles()
    assert.ok(files.length >= 2)
    for (const file of files) {
      const text = readFileSync(file, 'utf8').replace(/^```[\s\S]*?^```$/gm, '')
      for (const [, link] of text.matchAll(/\]\(([^)\s]+)(?: "[^"]*")?\)/g)) {
        if (/^[a-z]+:/.test(link!)) continue
        const [path = '', anchor] = decodeURIComponent(link!).split('#')
        const target = path === '' ? file : resolve(dirname(file), path)
        const where = `${relative(ROOT, file)}: ${link}`
        assert.ok(existsSync(target), where)
        if (anchor === undefined || !target.endsWith('.md')) continue
        const headings = [...readFileSync(target, 'utf8').matchAll(/^#+ (.+)$/gm)]
        assert.ok(
          headings.some(([, heading]) => anchorOf(heading!) === anchor),
          where,
        )
      }
    }
  })

  it('name settings that exist', () => {
    const ofCompose = [...read('docker-compose.yml').matchAll(/\$\{(\w+)/g)].map(([, name]) => name!)
    const known = new Set([...Object.keys(parseDotenv(read('.env.example'))), ...ofCompose, 'JAVA_HOME'])
    const named = [...BOTH.matchAll(/\b[A-Z]+(?:_[A-Z0-9]+)+\b/g)].map(([name]) => name)
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    )
    assert.ok(named.length > 10)
  })

  it('list the ports that are in the code', async () => {
    const rows = [...TROUBLESHOOTING.matchAll(/^\| (\d+)(?: to (\d+))? \| (.+?)[,:; |].*$/gm)]
    const listed = rows.map(([row, first, last, who]) => {
      return [who, Number(first), last && Number(last), /`(?:[A-Z]+_)+PORT`/.exec(row)?.[0].slice(1, -1)]
    })
    const { gateway, api, dashboardPort, healthPort, kafka, databaseUrl, metadataLog } = parseConfig({})
    const portsTried = (file: string) => Number(/PORTS_TRIED = (\d+)/.exec(read(file))?.[1])
    const published = (setting: string) =>
      Number(new RegExp(`\\$\\{${setting}:-(\\d+)\\}`).exec(read('docker-compose.yml'))?.[1])
    const kafkaPort = Number(kafka.brokers[0]?.split(':')[1])
    const postgresPort = Number(new URL(databaseUrl).port)
    const cassandraPort = Number(metadataLog.cassandra.contactPoints[0]?.split(':')[1])
    assert.deepEqual(listed, [
      ['Kafka', kafkaPort, undefined, 'KAFKA_PORT'],
      ['PostgreSQL', postgresPort, undefined, 'POSTGRES_PORT'],
      ['Cassandra', cassandraPort, undefined, 'CASSANDRA_PORT'],
      ['payment', gateway.port, undefined, 'GATEWAY_PORT'],
      ['API', api.port, undefined, 'API_PORT'],
      ['dashboard', dashboardPort, dashboardPort + portsTried('lib/dashboardServer.ts'), 'DASHBOARD_PORT'],
      ['health', healthPort, healthPort + portsTried('lib/health.ts'), 'HEALTH_PORT'],
      ['Kafka', published('KAFKA_UI_PORT'), undefined, 'KAFKA_UI_PORT'],
      ['Prometheus', published('PROMETHEUS_PORT'), undefined, 'PROMETHEUS_PORT'],
      ['Grafana', published('GRAFANA_PORT'), undefined, 'GRAFANA_PORT'],
      ['Jaeger', published('JAEGER_OTLP_PORT'), undefined, 'JAEGER_OTLP_PORT'],
      ['Jaeger', published('JAEGER_UI_PORT'), undefined, 'JAEGER_UI_PORT'],
    ])
    assert.equal(published('KAFKA_PORT'), kafkaPort)
    assert.equal(published('POSTGRES_PORT'), postgresPort)
    assert.equal(published('CASSANDRA_PORT'), cassandraPort)
    const launcher = read('infra/main.ts')
    assert.match(launcher, new RegExp(`'kafka-port': .*default: '${kafkaPort}'`))
    assert.match(launcher, new RegExp(`'postgres-port': .*default: '${postgresPort}'`))
    assert.match(launcher, new RegExp(`'cassandra-port': .*default: '${cassandraPort}'`))
  })

  it('quote what is said', () => {
    const said = ['.', 'lib', 'infra']
      .flatMap((directory) => readdirSync(join(ROOT, directory)).map((name) => join(directory, name)))
      .filter((path) => path.endsWith('.ts'))
      .map(read)
      .join('\n')
    // Inline code that is a sentence; `…` stands for what differs from time to time.
    const quotes = [...TROUBLESHOOTING.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`([^`]+)`/g)]
      .map(([, quote]) => quote!)

      .filter(
        (quote) =>
          quote.includes(' ') &&
          !/^(npm|npx|docker|lsof|kill|chmod|apt-get|brew) |^ECONNREFUSED|^[A-Z_]+=/.test(quote),
      )
    for (const part of quotes.flatMap((quote) => quote.split('…'))) {
      assert.ok(said.includes(part.trim()), part)
    }
    assert.ok(quotes.length > 10)
  })
})

/** Topics with something in each that is read, a retention to be mended, and groups with offsets. */
async function preparePipeline(
  t: TestContext,
): Promise<{ env: Record<string, string | undefined>; config: Config }> {
  const settings = await testEnvironment(t)
  const config = parseConfig(settings)
  await ensureTopics(config, () => undefined)
  const { ordersRaw, ordersValidated, deadLetters } = config.topics
  const kafka = createKafka(config, 'test', createLogger('test', config.log))
  const producer = kafka.producer({
    transactionalId: `${config.topicPrefix}docs`,
    idempotent: true,
    maxInFlightRequests: 1,
  })
  const admin = kafka.admin()
  t.after(() => Promise.all([producer.disconnect(), admin.disconnect()]))
  await Promise.all([producer.connect(), admin.connect()])

  const source = `${ordersRaw.name}/0/0`
  const record = {
    topic: ordersRaw.name,
    partition: 0,
    offset: 0,
    readOffset: 0,
    timestampMs: 0,
    readTimestampMs: 0,
    source,
  }
  const broken = {
    ...record,
    isDone: false,
    key: Buffer.from('hand-2'),
    value: Buffer.from('no'),
    headers: {},
  }
  const { topic, ...deadLetter } = toDeadLetter(deadLetters.validator.name, broken, 'not JSON: it says no')
  // On a broker that is new, its internal topics are made with the first question.
  for (const group of ['validator', 'inventory']) {
    const asked = { groupId: config.topicPrefix + group, topics: [ordersRaw.name] }
    await until(`the group ${group} has a coordinator`, () =>
      admin.fetchOffsets(asked).then(
        () => true,
        () => false,
      ),
    )
  }
  // One transaction, which also makes the groups: admin.setOffsets() takes seconds for each.
  const transaction = await producer.transaction()
  await transaction.send({ topic, messages: [deadLetter] })
  await transaction.send({ topic: ordersValidated.name, messages: [{ key: 'hand-1', value: '{}' }] })
  const partitions = [{ partition: 0, offset: '0' }]
  for (const [group, read] of [
    ['validator', ordersRaw.name],
    ['inventory', ordersValidated.name],
  ] as const) {
    const consumerGroupId = config.topicPrefix + group
    await transaction.sendOffsets({ consumerGroupId, topics: [{ topic: read, partitions }] })
  }
  await transaction.commit()

  const orders = { type: kafkajs.ConfigResourceTypes.TOPIC, name: ordersRaw.name }
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [orders] })
  // What is left out goes back to the broker's default.
  const configEntries = resources[0]!.configEntries
    .filter(({ isDefault }) => !isDefault)
    .map(({ configName, configValue }) => ({
      name: configName,
      value: configName === 'retention.ms' ? '1000000' : configValue,
    }))
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...orders, configEntries }] })
  await kafkaClasspath()
  const found = await findJava()
  const archive = classArchive(found)
  const env = {
    ...process.env,
    ...settings,
    // For what runs for a second: little compilation, and the classes that the broker has put by.
    JDK_JAVA_OPTIONS: `-XX:TieredStopAtLevel=1 -XX:+UseSerialGC ${existsSync(archive) ? `-XX:SharedArchiveFile=${archive}` : ''}`,
    PATH: found.command === 'java' ? process.env.PATH : `${dirname(found.command)}:${process.env.PATH}`,
  }
  return { env, config }
}
