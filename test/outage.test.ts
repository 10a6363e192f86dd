import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { postgresUrl, startPostgres } from '../infra/postgres.ts'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended, stopScript } from '../lib/childProcesses.ts'
import { groupsOf } from '../lib/topics.ts'
import {
  READ_ALL_POLL_MS,
  type RunningScript,
  readAll,
  readTally,
  runScript,
  until,
  untilDrained,
} from './harness.ts'

const SERVICES = ['validator', 'inventoryService', 'paymentService']

/** A broker, a database and a gateway of this test's own, each to be killed and started again. */
async function setUp(t: TestContext) {
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-outage-'))
  const [kafkaPort, postgresPort, gatewayPort] = [await freePort(), await freePort(), await freePort()]
  const stops: (() => Promise<unknown>)[] = []
  t.after(async () => {
    for (const stop of stops) await stop()
    await rm(dataDir, { recursive: true, force: true })
  })
  const env: Record<string, string> = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgresUrl(postgresPort),
    GATEWAY_URL: `http://127.0.0.1:${gatewayPort}`,
    GATEWAY_PORT: String(gatewayPort),
    PARTITIONS: '3',
    HEALTH_PORT: '0',
    BAD_ORDER_RATIO: '0',
    ENV_FILE: join(dataDir, 'none.env'),
    LOG_LEVEL: 'silent',
  }
  const remembering = async <Server extends { stop(): Promise<unknown>; pid: number }>(
    started: Promise<Server>,
  ) => {
    const server = await started
    stops.push(() => server.stop())
    return server
  }
  return {
    env,
    kafka: () => remembering(startKafka({ dataDir, port: kafkaPort })),
    postgres: () => remembering(startPostgres({ dataDir, port: postgresPort })),
    gateway: () => runScript(t, 'paymentGateway', env),
  }
}

const says = (service: RunningScript, pattern: RegExp) => service.lines.some((line) => pattern.test(line))
const linesLike = (service: RunningScript, pattern: RegExp) =>
  service.lines.filter((line) => pattern.test(line)).length

/** @returns which of these have said it since this call */
function sayingAnew(services: RunningScript[], pattern: RegExp): () => RunningScript[] {
  const before = new Map(services.map((service) => [service, linesLike(service, pattern)]))
  return () => services.filter((service) => linesLike(service, pattern) > before.get(service)!)
}

/** Kills a server and waits until it is gone. */
async function kill(server: { pid: number; exited: Promise<unknown> }): Promise<void> {
  process.kill(server.pid, 'SIGKILL')
  await server.exited
}

describe('with Kafka, PostgreSQL or the gateway away', () => {
  it('services wait, at the start and in the middle, and lose and dead-letter nothing', async (t) => {
    const setup = await setUp(t)
    const config = parseConfig(setup.env)

    // Nothing is there: each says so, once, and stays.
    const services = SERVICES.map((name) => runScript(t, name, setup.env))
    await until('each has said what it waits for', () =>
      services.every((service) => says(service, /PostgreSQL|Kafka/)),
    )
    let postgres = await setup.postgres()
    await until('the validator waits for Kafka', () => says(services[0]!, /Kafka.*waiting/))
    let kafka = await setup.kafka()
    await until('they wait for the topics', () =>
      services.every((service) =>
        says(service, /waiting for the topics|not all of these topics exist|Kafka/),
      ),
    )
    await ensureTopics(config, () => undefined)
    await until('they have tasks', () => services.every((service) => says(service, /has tasks/)))

    // Orders come, and there is no gateway yet.
    const producer = runScript(t, 'producer', setup.env, ['--rate', '60'])
    await until('payment waits for the gateway', () => says(services[2]!, /payment gateway is not available/))
    let gateway = setup.gateway()
    await until(
      'payments flow',
      async () => (await readTally(config)).figures.authorised > 20,
      60_000,
      READ_ALL_POLL_MS,
    )

    // Each is killed in the middle, with orders coming, and comes back.
    const missingKafka = sayingAnew(services, /Kafka: .* - waiting/)
    await kill(kafka)
    await until('all have noticed', () => missingKafka().length === services.length)
    kafka = await setup.kafka()
    const before = (await readTally(config)).figures
    // Not payments alone: payment has a backlog to work on while the others are still to get their tasks.
    await until(
      'orders flow again',
      async () => {
        const { validated, reserved, authorised } = (await readTally(config)).figures
        const after = [
          validated - before.validated,
          reserved - before.reserved,
          authorised - before.authorised,
        ]
        return Math.min(...after) > 20
      },
      60_000,
      READ_ALL_POLL_MS,
    )

    const missingPostgres = sayingAnew(services, /PostgreSQL is not available/)
    await kill(postgres)
    // One of them: when the validator is the first to miss it, the others may have nothing left to ask for.
    await until('one waits for PostgreSQL', () => missingPostgres().length > 0)
    postgres = await setup.postgres()

    const missingGateway = sayingAnew([services[2]!], /payment gateway is not available/)
    await stopScript(gateway.child)
    await until('payment waits again', () => missingGateway().length > 0)
    gateway = setup.gateway()

    const paid = (await readTally(config)).figures.authorised
    await until(
      'payments flow once more',
      async () => (await readTally(config)).figures.authorised > paid + 20,
      60_000,
      READ_ALL_POLL_MS,
    )
    producer.child.kill('SIGTERM')
    assert.equal(await ended(producer.child), 0)
    const { placed } = (await readTally(config)).figures
    const { figures } = await untilDrained(config, placed)
    // The producer sends again what Kafka may have taken before it was killed; that is all there is to refuse.
    const { name } = config.topics.ordersRejected
    const rejected = (await readAll(config, [name])).get(name)!
    for (const { value } of rejected) assert.match(value!.toString(), /"reasons":\[{"code":"duplicate"/)
    assert.equal(figures.validated + rejected.length, placed)
    assert.equal(figures.authorised + figures.declined, figures.validated)
    const deadLetters = await readAll(
      config,
      groupsOf(config.topics).map((group) => config.topics.deadLetters[group].name),
    )
    assert.deepEqual([...deadLetters.values()].flat(), [])
    for (const { child } of services) assert.equal(child.exitCode, null, 'no service ended')
    // An outage is a line now and then, not a flood.
    for (const service of services) assert.ok(linesLike(service, /waiting/) < 40, service.lines.join('\n'))
  })
})
