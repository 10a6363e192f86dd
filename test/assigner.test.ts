import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { AssignerProtocol, type Cluster } from 'kafkajs'
import { coPartitioningAssigner, readWriters, spreadTasks } from '../lib/assigner.ts'

type Member = Parameters<typeof spreadTasks>[1][number]

/** Members that claim tasks at will: the same task twice, tasks that do not exist, or none. */
const members = (taskCount: number) =>
  fc.uniqueArray(
    fc.record({
      memberId: fc.string({ minLength: 1, maxLength: 8 }),
      owned: fc.uniqueArray(fc.nat(taskCount + 2), { maxLength: taskCount + 2 }),
    }),
    { minLength: 1, maxLength: 8, selector: ({ memberId }) => memberId },
  )
const groups = fc
  .integer({ min: 1, max: 24 })
  .chain((taskCount) => fc.tuple(fc.constant(taskCount), members(taskCount)))

test('every task is given to one member, and no member has two more than another', () => {
  fc.assert(
    fc.property(groups, ([taskCount, group]) => {
      const assigned = spreadTasks(taskCount, group)
      assert.deepEqual([...assigned.keys()].sort(), group.map(({ memberId }) => memberId).sort())
      assert.deepEqual(
        [...assigned.values()].flat().sort((a, b) => a - b),
        Array.from({ length: taskCount }, (_, task) => task),
      )
      const sizes = [...assigned.values()].map(({ length }) => length)
      assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1)
    }),
  )
})

test('as many tasks stay where they are as an even spread allows', () => {
  fc.assert(
    fc.property(groups, ([taskCount, group]) => {
      const claims = withoutRivals(taskCount, group)
      const assigned = spreadTasks(taskCount, claims)
      const kept = claims.reduce(
        (sum, { memberId, owned }) =>
          sum + owned.filter((task) => assigned.get(memberId)!.includes(task)).length,
        0,
      )
      assert.equal(kept, mostThatCanStay(taskCount, claims))
    }),
  )
})

test('a group that is even already changes nothing, whoever is asked', () => {
  fc.assert(
    fc.property(groups, ([taskCount, group]) => {
      const first = spreadTasks(taskCount, group)
      const claims = [...first].map(([memberId, owned]) => ({ memberId, owned }))
      const sorted = ([memberId, tasks]: [string, number[]]) => [memberId, tasks.sort((a, b) => a - b)]
      const again = new Map(spreadTasks(taskCount, claims.reverse()))
      for (const [memberId, tasks] of first) {
        assert.deepEqual(sorted([memberId, again.get(memberId)!]), sorted([memberId, tasks]))
      }
    }),
  )
})

test('partition k of every topic goes to the same member, over the protocol of the group', async () => {
  const partitions = Array.from({ length: 5 }, (_, partitionId) => ({ partitionId }))
  const cluster = { findTopicPartitionMetadata: () => partitions } as unknown as Cluster
  const topics = ['orders.raw', 'orders.validated', 'validator.retry']
  const join = (memberId: string, owned: number[]) => {
    const { metadata } = coPartitioningAssigner(() => ({ owned, writer: `writer of ${memberId}` }))({
      cluster,
    } as never).protocol({ topics })
    return { memberId, memberMetadata: metadata }
  }
  const assigner = coPartitioningAssigner(() => ({ owned: [], writer: '' }))({ cluster } as never)
  const assignment = await assigner.assign({
    members: [join('a', [4, 1, 0, 2, 3]), join('b', [])],
    topics,
    userData: Buffer.alloc(0),
  } as never)

  const tasks = assignment.map(({ memberId, memberAssignment }) => {
    const { assignment: decoded, userData } = AssignerProtocol.MemberAssignment.decode(memberAssignment)!
    assert.deepEqual(readWriters(userData), ['writer of a', 'writer of b'])
    assert.deepEqual(Object.keys(decoded), topics)
    const [some, ...others] = Object.values(decoded)
    for (const other of others) assert.deepEqual(other, some)
    return [memberId, some]
  })
  assert.deepEqual(tasks, [
    ['a', [4, 1, 0]],
    ['b', [2, 3]],
  ])
})

/** Claims that can all be true at once. */
function withoutRivals(taskCount: number, group: readonly Member[]): Member[] {
  const taken = new Set<number>()
  return group.map(({ memberId, owned }) => {
    const own = owned.filter((task) => task < taskCount && !taken.has(task))
    for (const task of own) taken.add(task)
    return { memberId, owned: own }
  })
}

/** Each may keep its share, and as many as there are tasks over may keep one more. */
function mostThatCanStay(taskCount: number, group: readonly Member[]): number {
  const share = Math.floor(taskCount / group.length)
  const withMore = group.filter(({ owned }) => owned.length > share).length
  const kept = group.reduce((sum, { owned }) => sum + Math.min(owned.length, share), 0)
  return kept + Math.min(withMore, taskCount % group.length)
}
