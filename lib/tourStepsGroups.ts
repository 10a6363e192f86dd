/** Steps of the tour on consumer groups. */
import { fetchCommitted, fetchMembers } from './tourBroker.ts'
import type { Narrator } from './tourNarrator.ts'
import type { TourPipeline } from './tourPipeline.ts'
import { formatRecord, type TourRecord } from './tourRecords.ts'
import type { TourStep } from './tourSteps.ts'

/** Who reads orders.validated in the tour, and where each writes its answer; analytics writes none. */
const READERS: readonly [group: string, answers: string | undefined][] = [
  ['inventory', 'inventory.events'],
  ['payment', 'payment.events'],
  ['fraud', 'fraud.events'],
  ['pricing', 'pricing.events'],
  ['fulfilment', 'orders.completed'],
  ['analytics', undefined],
]
const MANY_ORDERS = 30
const FEW_ORDERS = 12
/** Enough of a member's id to tell it from another. */
const SHOWN_OF_ID = 28

export const fanOut: TourStep = {
  name: 'fan-out',
  title: 'one order, many readers',
  intro:
    'One order is placed. Its record in orders.validated lies in Kafka once, and the six groups that run here read it, each for itself and at its own pace: nobody asks anybody, and nobody takes it away from another.',
  conclusion:
    'Reading takes nothing away: a group is a name and a committed offset for each partition. A seventh reader changes none of the six.',
  concept: 'consumer-groups',
  async run({ pipeline, narrator }) {
    const { records } = pipeline
    narrator.command('npx tsx producer.ts --orders 1 --max')
    const placed = await narrator.waitFor('the order is on its way', pipeline.place(1))
    await narrator.waitFor('the services decide it', pipeline.untilDecided(placed))
    const orderId = placed[0]!.orderId!
    const validated = records.of('orders.validated', orderId)
    narrator.show([...placed, ...validated].flatMap(formatRecord))

    narrator.say(
      'How far each group has read in that partition (the next offset to be read), by the books of the broker (docs/CLI.md has the command), and what it said of the order:',
    )
    const { partition, offset, position } = validated[0]!
    const behind = await narrator.waitFor('all groups pass it', untilPassed(pipeline, partition, offset))
    const answers = READERS.map(([, topic]) =>
      topic === undefined ? undefined : records.of(topic, orderId).find(({ source }) => source === position),
    )
    const rows = READERS.map(([group], index) => [
      group,
      String(behind[index]),
      answers[index] ? `${answers[index].event?.type} at ${answers[index].position}` : '(counts it)',
    ])
    narrator.table(['group', 'committed', 'its answer'], rows, [1])
    narrator.claim('orders.validated has the order once', validated.length === 1)
    narrator.claim(
      `each of the ${READERS.length} groups has read past offset ${offset}`,
      behind.every((committed) => committed > offset),
    )
    narrator.claim(
      `each answer names ${position} as its source`,
      READERS.every(([, topic], index) => topic === undefined || answers[index] !== undefined),
    )
    return { groups: READERS.length, records: validated.length }
  },
}

/** @returns the committed offset of each reader, all past this record */
async function untilPassed(pipeline: TourPipeline, partition: number, offset: number): Promise<number[]> {
  const { admin, prefix } = pipeline
  const committed: number[] = []
  await pipeline.until('all groups have read the order', async () => {
    for (const [index, [group]] of READERS.entries()) {
      committed[index] =
        (await fetchCommitted(admin, prefix + group, `${prefix}orders.validated`, partition)) ?? 0
    }
    return committed.every((each) => each > offset)
  })
  return committed
}

export const sharing: TourStep = {
  name: 'sharing',
  title: 'two instances share the work',
  intro:
    'A second validator is started. Within the group each partition belongs to one instance, so the two share the orders and none is worked on twice. Then the first one leaves, and the other takes over.',
  conclusion:
    'To do more at once, start more instances, up to the number of partitions. The group says who has what; the order of one key is kept, since its partition has one owner at a time.',
  concept: 'competing-consumers',
  async run({ pipeline, narrator }) {
    const [first] = pipeline.members.instancesOf('validator')
    narrator.command('npx tsx validator.ts    # in a second terminal')
    const second = pipeline.members.start('validator')
    const shared = await narrator.waitFor('the group shares out its partitions', untilShared(pipeline, 2))
    showMembers(narrator, shared)
    narrator.show(saidBy(pipeline, [first!, second]))
    narrator.command(`npx tsx producer.ts --orders ${MANY_ORDERS} --max`)
    const both = await narrator.waitFor('both work', placeAndCount(pipeline, MANY_ORDERS))
    showWorkers(narrator, both)
    narrator.claim(
      'every partition has one owner',
      ownersPerPartition(shared).every((owners) => owners === 1),
    )
    narrator.claim('both had orders', new Set(both.map(({ event }) => event?.processedBy)).size === 2)

    narrator.say(
      'Ctrl-C in the terminal of the first one: it finishes what it has in hand, and says goodbye.',
    )
    const stoppedMs = performance.now()
    await narrator.waitFor('it finishes and leaves', pipeline.members.stop(first!))
    const alone = await narrator.waitFor('the other takes over', untilShared(pipeline, 1))
    const tookMs = Math.round(performance.now() - stoppedMs)
    showMembers(narrator, alone)
    narrator.command(`npx tsx producer.ts --orders ${FEW_ORDERS} --max`)
    const after = await narrator.waitFor('the second works', placeAndCount(pipeline, FEW_ORDERS))
    showWorkers(narrator, after)
    const one = `validator-${pipeline.members.pidOf(second)}`
    narrator.claim(
      `after ${(tookMs / 1_000).toFixed(1)} s the second has all partitions, and all orders`,
      after.every(({ event }) => event?.processedBy === one),
    )
    const total = MANY_ORDERS + FEW_ORDERS
    narrator.claim(
      `${total} orders placed, each validated once`,
      both.length + after.length === total &&
        new Set([...both, ...after].map(({ orderId }) => orderId)).size === total,
    )
    return { members: shared.length, orders: total, takeoverMs: tookMs }
  },
}

type Members = NonNullable<Awaited<ReturnType<typeof fetchMembers>>>

/** Waits until so many members have all partitions of the validator's group between them. */
async function untilShared(pipeline: TourPipeline, members: number): Promise<Members> {
  const { admin, prefix, config } = pipeline
  let found: Members = []
  await pipeline.until(`the group has ${members} members with all partitions`, async () => {
    found = (await fetchMembers(admin, `${prefix}validator`, `${prefix}orders.raw`)) ?? []
    const assigned = found.reduce((sum, { partitions }) => sum + partitions.length, 0)
    return found.length === members && assigned === config.partitions
  })
  return found
}

function ownersPerPartition(members: Members): number[] {
  const owners = new Map<number, number>()
  for (const { partitions } of members) {
    for (const partition of partitions) owners.set(partition, (owners.get(partition) ?? 0) + 1)
  }
  return [...owners.values()]
}

function showMembers(narrator: Narrator, members: Members): void {
  const rows = members.map(({ memberId, partitions }) => [
    `${memberId.slice(0, SHOWN_OF_ID)}…`,
    partitions.join(' '),
  ])
  narrator.table(['member, by the broker', 'partitions of orders.raw'], rows)
}

/** What each says of its tasks, last. */
function saidBy(pipeline: TourPipeline, ids: readonly string[]): string[] {
  return ids.map((id) => {
    const line = pipeline.members.linesOf(id).findLast((each) => each.includes('has tasks'))
    return `${line ?? '(nothing)'}  (pid ${pipeline.members.pidOf(id)})`
  })
}

/** @returns the validated records of new orders */
async function placeAndCount(pipeline: TourPipeline, orders: number): Promise<TourRecord[]> {
  const placed = await pipeline.place(orders)
  await pipeline.untilDecided(placed)
  return placed.flatMap(({ orderId }) => pipeline.records.of('orders.validated', orderId))
}

/** How many orders each process has validated, by partition. */
function showWorkers(narrator: Narrator, validated: readonly TourRecord[]): void {
  const counts = new Map<string, number>()
  for (const { partition, event } of validated) {
    const key = `${partition} ${event?.processedBy}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  const rows = [...counts].sort().map(([key, count]) => [...key.split(' '), String(count)])
  narrator.table(['partition', 'processedBy', 'orders'], rows, [0, 2])
}
