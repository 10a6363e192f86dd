/**
 * Places orders on a schedule, whatever becomes of them: a process of its own, started and told the rate by bench/load.ts.
 *
 * Each order is due at a time of its own, and carries that as `placedAt` and as the timestamp of its record: whoever
 * measures from there also counts what waited here (no coordinated omission). Sends go out side by side, every few
 * milliseconds, with all orders that are due by then.
 *
 *   --tick-ms N   how often it looks what is due
 */
import { randomBytes } from 'node:crypto'
import { createKafka } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { registerAll } from '../lib/registration.ts'
import { runMain } from '../lib/service.ts'
import { createSimulator } from '../lib/simulator.ts'
import type { Question } from './askedProcess.ts'
import type { LoadCommand, LoadReport } from './load.ts'

const FLAGS = { 'tick-ms': { type: 'string' } } as const
const SEED = 8

await runMain(
  'load',
  'Places orders for a benchmark.',
  FLAGS,
  async ({ config, log, signal, ...service }, flags) => {
    const tickMs = Number(flags['tick-ms'] ?? 10)
    const { ordersRaw, products } = config.topics
    const runId = Date.now().toString(36) + randomBytes(2).toString('hex')
    let dueMs = Number.POSITIVE_INFINITY
    const { badRatio, limitMinor } = config.orders
    const simulator = createSimulator({ seed: SEED, badRatio, limitMinor, runId, nowMs: () => dueMs })
    const topics = [ordersRaw.name, products.name]
    const { brokers } = config.kafka
    const sender = new OrderSender({
      ...{ createKafka: () => createKafka(config, 'load', log), brokers, topics, log, signal },
    })
    await sender.open()
    const database = await service.openDatabase(1)
    await registerAll({ config, database, sender, log, signal }, simulator.catalogue)
    await sender.close()

    const producer = createKafka(config, 'load', log).producer({ allowAutoTopicCreation: false })
    await producer.connect()
    let rate = 0
    let placed = 0
    let unacknowledged = 0
    let failure: unknown
    const tell = (report: LoadReport) => process.send!(report)
    process.on('message', (command: LoadCommand | Question) => {
      if ('ratePerSecond' in command) {
        rate = command.ratePerSecond
        dueMs = rate > 0 ? nowMs() + 1_000 / rate : Number.POSITIVE_INFINITY
      } else {
        tell({ asked: command.asked, placed, unacknowledged })
      }
    })
    tell({ asked: 0, placed, unacknowledged })
    while (!signal.aborted) {
      const messages = []
      for (const now = nowMs(); dueMs <= now; dueMs += 1_000 / rate) {
        const { key, value } = simulator.next()
        messages.push({ key, value, timestamp: String(Math.floor(dueMs)) })
      }
      if (messages.length > 0) send(messages)
      await sleep(tickMs, signal)
      if (failure) throw failure
    }
    await producer.disconnect()

    function send(messages: { key: string | null; value: Buffer; timestamp: string }[]): void {
      placed += messages.length
      unacknowledged += messages.length
      producer.send({ topic: ordersRaw.name, messages }).then(
        () => {
          unacknowledged -= messages.length
        },
        (error) => {
          failure = error
        },
      )
    }
  },
)

/** Of the machine's clock, with its fraction: what processes on it have in common. */
function nowMs(): number {
  return performance.timeOrigin + performance.now()
}
