import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Transaction } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import type { KillOrder } from '../tools/killAtProbe.ts'
import { until } from './harness.ts'
import { intercept } from './interception.ts'
import {
  assertEachOnce,
  ids,
  makeProcessor,
  readAll,
  send,
  startProcessor,
  type TestGroup,
  testGroup,
  toMessages,
  untilDrained,
} from './processorHarness.ts'

const FIXTURE = fileURLToPath(new URL('fixtures/processorProcess.ts', import.meta.url))
const KILL_AT_PROBE = fileURLToPath(new URL('../tools/killAtProbe.ts', import.meta.url))

async function fillAll(group: TestGroup, prefix: string, count: number): Promise<string[]> {
  const all: string[] = []
  for (let partition = 0; partition < group.config.partitions; partition++) {
    const some = ids(`${prefix} ${partition}`, count)
    await send(group, group.first, partition, toMessages(some))
    all.push(...some)
  }
  return all
}

async function assertFoundOnce(group: TestGroup, wanted: string[]): Promise<void> {
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
}

test('what several tasks have done is committed together', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '6' })
  const processor = startProcessor(t, group)
  await until('it has its tasks', () => processor.status.tasks.length === 6)
  processor.pause()
  const wanted = await fillAll(group, 'order', 100)
  await until('all have come', () => processor.status.queued === 600)
  const before = processor.counters.transactions.committed
  processor.resume()
  await until('all are done', () => processor.counters.in === 600)
  // One, or a second one for those that were late: six tasks by themselves would take six.
  const { committed } = processor.counters.transactions
  assert.ok(committed - before <= 3, `${committed - before} transactions`)
  await assertFoundOnce(group, wanted)
})

test('a commit that the group refuses as of a generation before is made again, without what has moved', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '4' })
  let joining: ReturnType<typeof makeProcessor> | undefined
  t.after(() => joining?.stop())
  let refused: unknown
  let isArmed = false
  const staying = startProcessor(
    t,
    group,
    {},
    {
      createKafka: (purpose) =>
        intercept(createKafka(group.config, purpose, group.log), {
          onTransaction(transaction) {
            if (isArmed) holdUp(transaction)
            isArmed = false
          },
        }),
    },
  )
  /** Between its records and its offsets another one joins, and has worked on its share before they are sent. */
  function holdUp(transaction: Transaction): void {
    const sendOffsets = transaction.sendOffsets.bind(transaction)
    transaction.sendOffsets = async (offsets) => {
      joining = makeProcessor(group)
      void joining.run()
      const { counters } = joining
      await until('it has done what is now its own', () => counters.in === 100)
      return sendOffsets(offsets).catch((error: unknown) => {
        refused = error
        throw error
      })
    }
  }
  await until('it has its tasks', () => staying.status.tasks.length === 4)
  staying.pause()
  const wanted = await fillAll(group, 'order', 50)
  await until('all have come', () => staying.status.queued === 200)
  isArmed = true
  staying.resume()
  await untilDrained(group)
  assert.equal((refused as { type?: string } | undefined)?.type, 'ILLEGAL_GENERATION')
  assert.deepEqual([staying.counters.in, joining?.counters.in], [100, 100])
  // What stayed was not begun anew.
  assert.equal(staying.counters.restarts, 0)
  assert.equal(staying.counters.transactions.aborted, 1)
  await assertFoundOnce(group, wanted)
})

test('what comes while a transaction is under way is decided meanwhile, and fails with it', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const handled: string[] = []
  let atCommit: string[] | undefined
  const processor = startProcessor(
    t,
    group,
    {
      readBack: { orders: 1_000, ageMs: 60_000 },
      remember: (state, { event }) => void state.push(`remembered ${event.id}`),
      handle: (records, state) => {
        handled.push(...records.map(({ event }) => event.id))
        state.push(...records.map(({ event }) => event.id))
        return records.map(() => [])
      },
    },
    {
      createKafka: (purpose) =>
        intercept(createKafka(group.config, purpose, group.log), {
          onTransaction(transaction, count) {
            if (count !== 2) return
            transaction.commit = async () => {
              await send(group, group.first, 0, toMessages(['second']))
              await until('the second is decided', () => handled.includes('second'))
              atCommit = [...handled]
              throw new Error('the broker is gone')
            }
          },
        }),
    },
  )
  await send(group, group.first, 0, toMessages(['first']))
  await untilDrained(group)
  assert.deepEqual(atCommit, ['first', 'second'])
  // Both anew and in their order, on a state that knows of neither.
  assert.deepEqual(handled, ['first', 'second', 'first', 'second'])
  assert.deepEqual(processor.states, [['first', 'second']])
  assert.equal(processor.counters.in, 2)
})

test('a task whose transaction fails each time does not keep the others from committing', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '3' })
  const processor = startProcessor(
    t,
    group,
    {},
    {
      createKafka: (purpose) =>
        intercept(createKafka(group.config, purpose, group.log), {
          onTransaction(transaction) {
            const sendBatch = transaction.sendBatch.bind(transaction)
            transaction.sendBatch = async (batch) => {
              const messages = batch.topicMessages?.flatMap((topic) => topic.messages) ?? []
              if (messages.some(({ partition }) => partition === 1)) throw new Error('refused for ever')
              return sendBatch(batch)
            }
          },
        }),
    },
  )
  await until('it has its tasks', () => processor.status.tasks.length === 3)
  const wanted: string[] = []
  await send(group, group.first, 1, toMessages(['poison']))
  await until('it has failed once', () => processor.counters.transactions.aborted > 0)
  for (const round of [1, 2, 3]) {
    for (const partition of [0, 2]) {
      const some = ids(`${round} ${partition}`, 20)
      wanted.push(...some)
      await send(group, group.first, partition, toMessages(some))
    }
    await until('the others are done', () => processor.counters.in === wanted.length)
  }
  await assertFoundOnce(group, wanted)
})

/** A process that kills itself as it comes to this moment for the nth time, and resolves when it has. */
function startDoomed(
  t: TestContext,
  environment: Record<string, string>,
  order: KillOrder,
): Promise<unknown> {
  const child = spawn(process.execPath, ['--import', 'tsx', '--import', KILL_AT_PROBE, FIXTURE], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'ignore', 'inherit', 'ipc'],
  })
  t.after(() => void child.kill('SIGKILL'))
  child.send(order)
  return once(child, 'exit')
}

test('a transaction that was left open by a process that was killed is ended by whoever takes over', async (t) => {
  const group = await testGroup(t)
  const wanted = await fillAll(group, 'order', 20)
  // Its very first one with records: offsets are not in it yet, so that nothing but its claim says whose it is.
  const killed = await startDoomed(t, group.environment, { killAt: 'records-sent', passes: 1 })
  assert.deepEqual(killed, [null, 'SIGKILL'])
  const said: string[] = []
  const log = group.log.child({})
  log.info = ((message: string) => void said.push(message)) as typeof log.info
  startProcessor(t, group, {}, { log })
  await untilDrained(group)
  assert.match(said.join('\n'), /^what .+ has left open is ended$/m)
  await assertFoundOnce(group, wanted)
})
