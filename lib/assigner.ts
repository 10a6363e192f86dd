import { AssignerProtocol, type PartitionAssigner } from 'kafkajs'

/** What a member says of itself as it joins. */
export interface Claim {
  /** The tasks that it has. */
  owned: readonly number[]
  /** The transactional id that it commits with. */
  writer: string
}

/** Who takes part in a group. */
export interface Claimant extends Claim {
  memberId: string
}

/**
 * Spreads tasks evenly over the members, and leaves a task with the member that has it where that is even enough:
 * each move costs a look at the offsets and a read-back.
 *
 * Two members can claim the same task (one was stopped, lost it, and woke up): the first by member id keeps it,
 * which is harmless, since the group refuses what the other commits.
 *
 * @returns the tasks of each member, by member id
 */
export function spreadTasks(
  taskCount: number,
  members: readonly Pick<Claimant, 'memberId' | 'owned'>[],
): Map<string, number[]> {
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
 * task: one transaction can cover all of its topics, and state kept by partition is complete. Each member is told who
 * commits for the others: see {@link readWriters}.
 *
 * @param claim what this instance has at the time of the join
 */
export function coPartitioningAssigner(claim: () => Claim): PartitionAssigner {
  // Another one than that of members that say nothing of their writers: a group refuses to mix them.
  const name = 'CoPartitionedWriters'
  return ({ cluster }) => ({
    name,
    version: 1,
    protocol: ({ topics }) => ({
      name,
      metadata: AssignerProtocol.MemberMetadata.encode({
        version: 1,
        topics,
        userData: Buffer.from(JSON.stringify(claim())),
      }),
    }),
    async assign({ members, topics }) {
      const taskCount = Math.max(...topics.map((topic) => cluster.findTopicPartitionMetadata(topic).length))
      const claims = members.map(({ memberId, memberMetadata }) => ({
        memberId,
        ...readClaim(memberMetadata),
      }))
      const userData = Buffer.from(JSON.stringify(claims.map(({ writer }) => writer)))
      return [...spreadTasks(taskCount, claims)].map(([memberId, tasks]) => ({
        memberId,
        memberAssignment: AssignerProtocol.MemberAssignment.encode({
          version: 1,
          assignment: Object.fromEntries(topics.map((topic) => [topic, tasks])),
          userData,
        }),
      }))
    },
  })
}

function readClaim(memberMetadata: Buffer): Claim {
  return JSON.parse(AssignerProtocol.MemberMetadata.decode(memberMetadata)!.userData.toString()) as Claim
}

/** The transactional ids of all members of a group, from what each of them is told with its tasks. */
export function readWriters(assignmentUserData: Buffer): string[] {
  return JSON.parse(assignmentUserData.toString()) as string[]
}

/** What a member has been given: its partitions, by topic. Nothing while its group is being shared out anew. */
export function readAssignment(memberAssignment: Buffer): Record<string, number[]> {
  return AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment ?? {}
}
