import { AssignerProtocol, type PartitionAssigner } from 'kafkajs'

/** Who takes part in a group, and the tasks that each says it has. */
export interface Member {
  memberId: string
  owned: readonly number[]
}

/**
 * Spreads tasks evenly over the members, and leaves a task with the member that has it where that is even enough:
 * each move costs a fence and a read-back.
 *
 * Two members can claim the same task (one was stopped, lost it, and woke up): the first by member id keeps it,
 * which is harmless, since whoever gets it fences the other.
 *
 * @returns the tasks of each member, by member id
 */
export function spreadTasks(taskCount: number, members: readonly Member[]): Map<string, number[]> {
  const sorted = [...members].sort((a, b) => (a.memberId < b.memberId ? -1 : 1))
  const fewest = Math.floor(taskCount / sorted.length)
  let oneMore = taskCount % sorted.length
  const free = new Set(Array.from({ length: taskCount }, (_, task) => task))
  const assigned = new Map<string, number[]>(sorted.map(({ memberId }) => [memberId, []]))

  for (const { memberId, owned } of sorted) {
    const kept = assigned.get(memberId)!
    for (const task of owned) {
      if (!free.has(task) || kept.length > fewest || (kept.length === fewest && oneMore === 0)) continue
      if (kept.length === fewest) oneMore--
      kept.push(task)
      free.delete(task)
    }
  }
  for (const task of free) {
    const [, least] = [...assigned].reduce((a, b) => (b[1].length < a[1].length ? b : a))
    least.push(task)
  }
  return assigned
}

/**
 * A kafkajs assigner that gives partition k of **every** input topic to the same member. That makes partition k a
 * task: one transaction can cover all of its topics, and state kept by partition is complete.
 *
 * @param ownedTasks the tasks that this instance has at the time of the join
 */
export function coPartitioningAssigner(ownedTasks: () => number[]): PartitionAssigner {
  const name = 'CoPartitioned'
  return ({ cluster }) => ({
    name,
    version: 1,
    protocol: ({ topics }) => ({
      name,
      metadata: AssignerProtocol.MemberMetadata.encode({
        version: 1,
        topics,
        userData: Buffer.from(JSON.stringify(ownedTasks())),
      }),
    }),
    async assign({ members, topics }) {
      const taskCount = Math.max(...topics.map((topic) => cluster.findTopicPartitionMetadata(topic).length))
      const claims = members.map(({ memberId, memberMetadata }) => ({
        memberId,
        owned: readClaim(memberMetadata),
      }))
      return [...spreadTasks(taskCount, claims)].map(([memberId, tasks]) => ({
        memberId,
        memberAssignment: AssignerProtocol.MemberAssignment.encode({
          version: 1,
          assignment: Object.fromEntries(topics.map((topic) => [topic, tasks])),
          userData: Buffer.alloc(0),
        }),
      }))
    },
  })
}

function readClaim(memberMetadata: Buffer): number[] {
  const userData = AssignerProtocol.MemberMetadata.decode(memberMetadata)?.userData
  return userData && userData.length > 0 ? (JSON.parse(userData.toString()) as number[]) : []
}

/** What a member has been given: its partitions, by topic. Nothing while its group is being shared out anew. */
export function readAssignment(memberAssignment: Buffer): Record<string, number[]> {
  return AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment ?? {}
}
