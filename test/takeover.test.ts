import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PartitionOffset, Transaction } from 'kafkajs'
import { createKafka } from '../kafkaConfig.ts'
import { publish } from '../lib/record.ts'
import { until } from './harness.ts'
import { gate, intercept } from './interception.ts'
import {
  assertEachOnce,
  ids,
  readAll,
  send,
  startProcessor,
  type TestGroup,
  testGroup,
  toMessage,
  toMessages,
  untilDrained,
} from './processorHarness.ts'

/** An owner of task 0 that has worked on the first records of both inputs; what it has not done is to commit. */
async function ownerBefore(
  group: TestGroup,
  close: (disconnect: () => Promise<void>) => void,
): Promise<Transaction> {
  const id = `${group.name}-before`
  const producer = createKafka(group.config, 'before', group.log).producer({
    transactionalId: id,
    idempotent: true,
    maxInFlightRequests: 1,
  })
  await producer.connect()
  close(() => producer.disconnect())
  const before = await producer.transaction()
  await before.sendOffsets({
    consumerGroupId: group.name,
    topics: [
      // As every owner does, it says who it is: the types of kafkajs leave out what it does write.
      {
        topic: group.first.name,
        partitions: [{ partition: 0, offset: '0', metadata: `@${id}` } as PartitionOffset],
      },
    ],
  })
  await before.commit()
  const transaction = await producer.transaction()
  const messages = [...ids('a', 10), ...ids('b', 20)].map((id) => ({ ...toMessage({ id }), partition: 0 }))
  await transaction.send({ topic: group.output.name, messages })
  await transaction.sendOffsets({
    consumerGroupId: group.name,
    topics: [
      { topic: group.first.name, partitions: [{ partition: 0, offset: '10' }] },
      { topic: group.second.name, partitions: [{ partition: 0, offset: '20' }] },
    ],
  })
  return transaction
}

async function fillBothInputs(group: TestGroup): Promise<string[]> {
  const wanted = [ids('a', 40), ids('b', 40)] as const
  await send(group, group.first, 0, toMessages(wanted[0]))
  await send(group, group.second, 0, toMessages(wanted[1]))
  return wanted.flat()
}

test('a transaction that commits while its task is taken over is neither lost nor done again, in either input', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const wanted = await fillBothInputs(group)
  const transaction = await ownerBefore(group, (disconnect) => t.after(disconnect))
  let committed = 0
  startProcessor(
    t,
    group,
    {},
    {
      createKafka: (purpose) =>
        intercept(createKafka(group.config, purpose, group.log), {
          // The new owner has started and is about to fence: the last moment at which the old one can commit.
          async beforeTransaction() {
            if (committed++ === 0) await transaction.commit()
          },
        }),
    },
  )
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
  assert.equal(found.filter(({ source }) => source === undefined).length, 30, 'what the old owner wrote')
})

test('a transaction that is still open when its task is taken over comes to nothing', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const wanted = await fillBothInputs(group)
  const transaction = await ownerBefore(group, (disconnect) => t.after(disconnect))
  const processor = startProcessor(t, group)
  await until('the new owner has begun', () => processor.counters.in > 0)
  await assert.rejects(transaction.commit())
  await untilDrained(group)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
  assert.ok(found.every(({ source }) => source !== undefined))
})

test('a batch that takes long does not hold up who joins, and commits nothing once its task has moved', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '2' })
  const { opened, open } = gate()
  const inHand: string[] = []
  const slow = startProcessor(t, group, {
    async handle(records) {
      inHand.push(...records.map(({ event }) => event.id))
      await opened
      return records.map(({ event }) => [publish(group.output, event, '')])
    },
  })
  const wanted = ['zero', 'one']
  await send(group, group.first, 0, [toMessage({ id: 'zero' })])
  await send(group, group.first, 1, [toMessage({ id: 'one' })])
  await until('both tasks are at work', () => inHand.length === 2)

  const joining = startProcessor(t, group)
  // Far below the time after which the group would do without the slow one, which is twice the session.
  await until('it has joined', () => joining.status.tasks.length === 1, 6_000)
  await until('it has done what the slow one has in hand', () => joining.counters.in === 1)
  assert.equal(slow.status.tasks.length, 1)
  open()
  await untilDrained(group)
  assert.equal(slow.counters.in, 1)
  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
})
