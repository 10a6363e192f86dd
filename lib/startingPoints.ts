import type { Admin, Kafka } from 'kafkajs'
import type { Logger } from './log.ts'
import { fetchStableOffsets } from './stableOffsets.ts'

/**
 * What kafkajs commits over an offset when the broker says that it is out of range: the code for "the earliest".
 * A group that has no offset yet has -1.
 */
const RESET_BY_CLIENT = -2

export interface StartingPoint {
  /** The first offset to be read. */
  position: number
  /** The committed offset: what lies below is done. Never below `position`. */
  floor: number
  /** The transactional id of who committed it. */
  writer: string | undefined
}

/** How far, or from where on: the offset that was committed with it, see `Work.keepFrom`. */
export type ReadBack = { orders: number; ageMs: number } | 'kept'

interface StartingPointOptions {
  kafka: Kafka
  group: string
  partition: number
  inputs: { topic: string; readBack: ReadBack | undefined }[]
  /** See {@link fetchStableOffsets}. */
  fence(writer: string | undefined): Promise<void>
  signal: AbortSignal
  log: Logger
}

/**
 * Where the task of a partition begins to read each of its inputs: at the committed offset, or at the earliest
 * record when there is none yet; with `readBack` before that. Waits until whoever had the task before can move no offset
 * any more.
 *
 * The connection is made for this alone, so that whatever state an older one is in cannot matter.
 */
export async function fetchStartingPoints(
  options: StartingPointOptions,
): Promise<Map<string, StartingPoint>> {
  const { kafka, partition, inputs } = options
  const admin = kafka.admin()
  await admin.connect()
  try {
    const committed = await fetchStableOffsets(options)
    const starts = inputs.map(async ({ topic, readBack }) => {
      const ends = pick(await admin.fetchTopicOffsets(topic), partition)
      const { offset, keepFrom, writer } = committed.get(topic)!
      const floor = boundFloor(offset, { low: Number(ends.low), high: Number(ends.high) }, topic, options)
      const position =
        readBack === 'kept'
          ? // Without one the offset was set by hand: whatever was under way below it is let go.
            Math.min(keepFrom ?? floor, floor)
          : readBack
            ? await findReadBack(admin, topic, floor, readBack, options)
            : floor
      return [topic, { floor, position: Math.max(position, Number(ends.low)), writer }] as const
    })
    return new Map(await Promise.all(starts))
  } finally {
    await admin.disconnect()
  }
}

/** A committed offset outside of the log means that records are gone: that is told aloud, never passed over. */
function boundFloor(
  committed: number,
  { low, high }: { low: number; high: number },
  topic: string,
  { group, partition, log }: StartingPointOptions,
): number {
  if (committed === RESET_BY_CLIENT) {
    log.error(
      `${group} wanted to read records of ${topic}/${partition} that are not there; reading on at ${low}`,
    )
    return low
  }
  if (committed < 0) return low
  if (committed < low) {
    log.error(
      `${low - committed} records of ${topic}/${partition} were deleted before ${group} had read them`,
    )
    return low
  }
  if (committed > high) {
    log.error(
      `${group} has committed offset ${committed} of ${topic}/${partition}, and the log ends at ${high}: ` +
        'it lost records or was made anew; reading it from the beginning',
    )
    return low
  }
  return committed
}

async function findReadBack(
  admin: Admin,
  topic: string,
  floor: number,
  { orders, ageMs }: Exclude<ReadBack, 'kept'>,
  { partition }: StartingPointOptions,
): Promise<number> {
  if (ageMs === Number.POSITIVE_INFINITY) return floor - orders
  const byTime = pick(await admin.fetchTopicOffsetsByTimestamp(topic, Date.now() - ageMs), partition)
  return Math.min(floor, Math.max(floor - orders, Number(byTime.offset)))
}

function pick<Entry extends { partition: number }>(entries: Entry[], partition: number): Entry {
  const entry = entries.find((candidate) => candidate.partition === partition)
  if (entry) return entry
  throw new Error(`the broker said nothing of partition ${partition}`)
}
