import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { type Database, query } from './database.ts'
import { UnavailableError } from './errors.ts'
import { fetchPositions, type WorkingGroup } from './groupLag.ts'
import type { TopicTable } from './topics.ts'

export interface PlacedOrdersOptions {
  kafka: Kafka
  database: Database
  topicPrefix: string
  topics: TopicTable
  /** How long validator and order view may take to get to where the topics ended. */
  withinMs: number
  signal: AbortSignal
}

const LOOK_AGAIN_MS = 100

/**
 * Whether an order has come to orders.raw, by what was made of it. First the validator has to be past all that was
 * there at the beginning, then the order view past all that the validator wrote: an order that is not seen then was not
 * there.
 *
 * @throws UnavailableError when they are not as far, or Kafka or PostgreSQL do not answer
 */
export async function wasPlaced(options: PlacedOrdersOptions, orderId: string): Promise<boolean> {
  const { database, topicPrefix, topics, withinMs } = options
  if (await isViewed(database, orderId)) return true
  const { ordersRaw, ordersValidated, ordersRejected, inbox, isRouted } = topics
  const deadlineMs = Date.now() + withinMs
  const router = isRouted ? [{ group: 'command-center', topics: [inbox] }] : []
  const way = [
    ...router,
    { group: 'validator', topics: [ordersRaw] },
    ...router,
    { group: 'order-view', topics: [ordersValidated, ordersRejected] },
  ]
  for (const { group, topics } of way) {
    await untilPast(
      options,
      { group: topicPrefix + group, topics: topics.map(({ name }) => name) },
      deadlineMs,
    )
  }
  return isViewed(database, orderId)
}

async function isViewed(database: Database, orderId: string): Promise<boolean> {
  const rows = await query(database, {
    text: 'SELECT FROM order_view.events WHERE order_id = $1 LIMIT 1',
    values: [orderId],
  })
  return rows.length > 0
}

/** Waits until a group has committed all that its topics hold now. */
async function untilPast(
  { kafka, signal }: PlacedOrdersOptions,
  group: WorkingGroup,
  deadlineMs: number,
): Promise<void> {
  const look = () =>
    fetchPositions(kafka, [group]).catch((error: unknown) => {
      throw new UnavailableError('Kafka', error)
    })
  const first = await look()
  const isBehind = new Set(first.filter(({ committed, end }) => committed < end))
  while (isBehind.size > 0) {
    if (Date.now() > deadlineMs || signal.aborted) {
      throw new UnavailableError(
        `what became of the first request (${group.group})`,
        new Error('it is behind'),
      )
    }
    await sleep(LOOK_AGAIN_MS, signal)
    const now = await look()
    for (const wanted of isBehind) {
      const found = now.find(
        ({ topic, partition }) => topic === wanted.topic && partition === wanted.partition,
      )
      if (found && found.committed >= wanted.end) isBehind.delete(wanted)
    }
  }
}
