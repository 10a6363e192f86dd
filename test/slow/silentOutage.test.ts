import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../infra/ports.ts'
import { type Config, ensureTopics, parseConfig } from '../../kafkaConfig.ts'
import {
  READ_ALL_POLL_MS,
  readAll,
  readTally,
  runScript,
  testEnvironment,
  until,
  untilDrained,
} from '../harness.ts'

const SILENT_MS = 20_000
const GOES_ON_WITHIN_MS = 5_000

/** A way to a server that a test can make silent. */
interface Way {
  port: number
  /**
   * From now on nothing comes through, and nobody is told. As when a host vanishes and another takes its address: what
   * was connected before, or tries to meanwhile, stays silent for good.
   */
  silence(): void
  restore(): void
}

async function openWay(t: TestContext, targetPort: number): Promise<Way> {
  const sockets = new Set<Socket>()
  let isSilent = false
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    // Either side may end as it likes; the other is ended with it.
    socket.on('error', () => socket.destroy())
  }
  const server = createServer((near) => {
    keep(near)
    if (isSilent) return
    const far = connect(targetPort, '127.0.0.1')
    keep(far)
    near.pipe(far).pipe(near)
    near.on('close', () => far.destroy())
    far.on('close', () => near.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    silence() {
      isSilent = true
      for (const socket of sockets) socket.unpipe().pause()
    },
    restore() {
      isSilent = false
    },
  }
}

/** What has come out of a topic, by partition: the times of its records. */
async function readTimes(config: Config, topic: string): Promise<number[][]> {
  const records = (await readAll(config, [topic])).get(topic)!
  return Array.from({ length: config.partitions }, (_, partition) =>
    records.filter((record) => record.partition === partition).map(({ timestampMs }) => timestampMs),
  )
}

/** Makes a way silent for a while. @returns how long after its return each partition of a topic had a record again */
async function measureReturn(way: Way, config: Config, topics: readonly string[]): Promise<number[][]> {
  way.silence()
  await sleep(SILENT_MS)
  way.restore()
  const backMs = Date.now()
  let firsts: (number | undefined)[][] = []
  const isBack = async () => {
    const times = await Promise.all(topics.map((topic) => readTimes(config, topic)))
    firsts = times.map((partitions) => partitions.map((all) => all.find((timeMs) => timeMs > backMs)))
    return firsts.flat().every((first) => first !== undefined)
  }
  await until(`outcomes in each partition of ${topics}`, isBack, 60_000, READ_ALL_POLL_MS)
  return firsts.map((partitions) => partitions.map((first) => first! - backMs))
}

test('after a database and a gateway that did not even refuse, work goes on within 5 s', async (t) => {
  const gatewayPort = await freePort()
  const direct = await testEnvironment(t, { BAD_ORDER_RATIO: '0', GATEWAY_PORT: String(gatewayPort) })
  const databaseUrl = new URL(direct.DATABASE_URL!)
  const toDatabase = await openWay(t, Number(databaseUrl.port))
  const toGateway = await openWay(t, gatewayPort)
  databaseUrl.port = String(toDatabase.port)
  const environment = {
    ...direct,
    DATABASE_URL: databaseUrl.href,
    GATEWAY_URL: `http://127.0.0.1:${toGateway.port}`,
  }
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const { ordersValidated, inventoryEvents, paymentEvents } = config.topics

  runScript(t, 'paymentGateway', direct)
  for (const name of ['validator', 'inventoryService', 'paymentService']) runScript(t, name, environment)
  const producer = runScript(t, 'producer', direct, ['--rate', '100'])
  const isFlowing = async () => {
    const all = [await readTimes(config, inventoryEvents.name), await readTimes(config, paymentEvents.name)]
    return all.flat().every((times) => times.length > 50)
  }
  await until('outcomes in each partition', isFlowing, 60_000, READ_ALL_POLL_MS)

  const all = [ordersValidated.name, inventoryEvents.name, paymentEvents.name]
  for (const [dependency, way, topics] of [
    ['PostgreSQL', toDatabase, all],
    ['the gateway', toGateway, [paymentEvents.name]],
  ] as const) {
    const returnMs = await measureReturn(way, config, topics)
    t.diagnostic(`${dependency}: first outcomes ${JSON.stringify(returnMs)} ms after its return`)
    assert.ok(
      Math.max(...returnMs.flat()) < GOES_ON_WITHIN_MS,
      `${dependency}: ${JSON.stringify(returnMs)} ms`,
    )
  }

  producer.child.kill('SIGTERM')
  await once(producer.child, 'exit')
  const { placed } = (await readTally(config)).figures
  const { figures } = await untilDrained(config, placed)
  assert.equal(figures.authorised + figures.declined, placed)
})
