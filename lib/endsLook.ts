import type { Kafka } from 'kafkajs'
import { UnavailableError } from './errors.ts'
import { type BoundsByPartition, fetchBounds } from './topicBounds.ts'
import type { Offsets } from './work.ts'

/** Where some topics ended at `atMs`, or later, in one partition. */
export interface EndsLook {
  atMs: number
  ends: Offsets
}

interface Look {
  atMs: number
  bounds: BoundsByPartition
}

/**
 * Asks the broker where topics end, beside whatever else goes on: a broker that is slow to say so holds nobody up. One
 * look serves all partitions, as long as nobody needs a later one.
 *
 * @param waves topics that are looked at after those before them: answers first, then their causes
 * @returns a function that gives the ends of a partition at `afterMs` or later, which must not lie ahead; undefined while
 *   that is being looked at. It throws UnavailableError, once, when it could not be
 */
export function createEndsLook(
  kafka: Kafka,
  waves: readonly (readonly string[])[],
): (partition: number, afterMs: number) => EndsLook | undefined {
  let latest: Look = { atMs: Number.NEGATIVE_INFINITY, bounds: new Map() }
  let failure: unknown
  let isUnderWay = false

  async function look(): Promise<void> {
    const atMs = Date.now()
    isUnderWay = true
    try {
      const bounds = new Map()
      for (const topics of waves) {
        for (const [topic, partitions] of (await fetchBounds(kafka, topics)).bounds)
          bounds.set(topic, partitions)
      }
      latest = { atMs, bounds }
    } catch (error) {
      failure = error
    } finally {
      isUnderWay = false
    }
  }

  return (partition, afterMs) => {
    if (latest.atMs >= afterMs) {
      const { atMs, bounds } = latest
      return { atMs, ends: new Map([...bounds].map(([topic, ends]) => [topic, ends.get(partition)!.high])) }
    }
    const failed = failure
    failure = undefined
    if (!isUnderWay) void look()
    if (failed !== undefined) throw new UnavailableError('Kafka', failed)
    return undefined
  }
}
