import type { Kafka } from 'kafkajs'
import { UnavailableError } from './errors.ts'
import { fetchBounds } from './topicBounds.ts'
import type { Offsets } from './work.ts'

/** Where some topics ended at `atMs`, or later, in one partition. */
export interface EndsLook {
  atMs: number
  ends: Offsets
}

/**
 * Asks the broker where topics end. One look serves all partitions, as long as nobody needs a later one.
 *
 * @returns a function that looks at a partition at `afterMs` or later, which must not lie ahead; it throws
 *   UnavailableError
 */
export function createEndsLook(
  kafka: Kafka,
  topics: readonly string[],
): (partition: number, afterMs: number) => Promise<EndsLook> {
  type Look = { atMs: number; bounds: Awaited<ReturnType<typeof fetchBounds>>['bounds'] }
  let latest: Look = { atMs: Number.NEGATIVE_INFINITY, bounds: new Map() }
  let underWay: Promise<Look> | undefined

  async function look(): Promise<Look> {
    const atMs = Date.now()
    try {
      return { atMs, bounds: (await fetchBounds(kafka, topics)).bounds }
    } catch (error) {
      throw new UnavailableError('Kafka', error)
    } finally {
      underWay = undefined
    }
  }

  return async (partition, afterMs) => {
    while (latest.atMs < afterMs) {
      underWay ??= look()
      latest = await underWay
    }
    const ends = topics.map((topic) => [topic, latest.bounds.get(topic)!.get(partition)!.high] as const)
    return { atMs: latest.atMs, ends: new Map(ends) }
  }
}
