import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import {
  READ_ALL_POLL_MS,
  readAll,
  readTally,
  runScript,
  tasksOf,
  testEnvironment,
  until,
  untilDrained,
} from './harness.ts'

const PARTITIONS = 4
/** The session of the killed lasts 6 s; the rest is for a rebalance, a fence and the first transaction. */
const RECOVERED_WITHIN_MS = 10_000

test('one of two instances of each service is killed: its partitions are worked on again within 10 s', async (t) => {
  const environment = await testEnvironment(t, { PARTITIONS: String(PARTITIONS), BAD_ORDER_RATIO: '0' })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const { ordersValidated, inventoryEvents, paymentEvents } = config.topics
  const pairs = [
    { name: 'validator', output: ordersValidated.name },
    { name: 'inventoryService', output: inventoryEvents.name },
    { name: 'paymentService', output: paymentEvents.name },
  ].map(({ name, output }) => {
    const [killed, left] = [runScript(t, name, environment), runScript(t, name, environment)]
    return { name, output, killed, left }
  })
  const isShared = () =>
    pairs.every(({ killed, left }) => tasksOf(killed).length === 2 && tasksOf(left).length === 2)
  await until('each instance has two tasks', isShared, 60_000)
  const producer = runScript(t, 'producer', environment, ['--rate', '60'])

  /** The times of what was published in these partitions of a topic, as read-committed readers see it. */
  const readTimes = async (output: string, partitions: readonly number[]): Promise<number[][]> => {
    const records = (await readAll(config, [output])).get(output)!
    return partitions.map((partition) =>
      records.filter((record) => record.partition === partition).map(({ timestampMs }) => timestampMs),
    )
  }
  const isFlowing = async () => {
    for (const { output, killed } of pairs) {
      if ((await readTimes(output, tasksOf(killed))).some((times) => times.length < 10)) return false
    }
    return true
  }
  await until('outcomes in each partition', isFlowing, 60_000, READ_ALL_POLL_MS)

  const killedMs = Date.now()
  for (const { killed } of pairs) killed.child.kill('SIGKILL')
  for (const { name, output, killed, left } of pairs) {
    const lost = tasksOf(killed)
    assert.equal(lost.length, 2)
    // What the killed one published is older, and what it was about to publish comes to nothing.
    const firstSince = (times: number[]) => times.find((timestampMs) => timestampMs > killedMs)
    let firsts: (number | undefined)[] = []
    const isBack = async () => {
      firsts = (await readTimes(output, lost)).map(firstSince)
      return firsts.every((first) => first !== undefined)
    }
    await until(`${name} publishes in partitions ${lost} again`, isBack, 60_000, READ_ALL_POLL_MS)
    const recoveredMs = firsts.map((first) => first! - killedMs)
    t.diagnostic(`${name}: partitions ${lost.join(' and ')} again after ${recoveredMs.join(' and ')} ms`)
    assert.ok(Math.max(...recoveredMs) < RECOVERED_WITHIN_MS, `${name} after ${recoveredMs.join(', ')} ms`)
    assert.equal(tasksOf(left).length, PARTITIONS)
  }

  producer.child.kill('SIGTERM')
  assert.equal(await ended(producer.child), 0)
  const { placed } = (await readTally(config)).figures
  await untilDrained(config, placed)
})
