import type { Admin, Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import type { Logger } from './log.ts'

const LOOK_EVERY_MS = 500

/**
 * Waits until all these topics exist, which is somebody else's to do, and are co-partitioned; or until the signal.
 *
 * @throws whatever kafkajs throws when the broker does not answer
 */
export async function awaitTopics(
  kafka: Kafka,
  wanted: readonly string[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const admin = kafka.admin()
  await admin.connect()
  try {
    for (let said = ''; !signal.aborted; await sleep(LOOK_EVERY_MS, signal)) {
      const complaint = await checkTopics(admin, wanted)
      if (complaint === undefined) return
      if (complaint !== said) log.warn(complaint)
      said = complaint
    }
  } finally {
    await admin.disconnect()
  }
}

/** What is wrong with them, or undefined. */
async function checkTopics(admin: Admin, wanted: readonly string[]): Promise<string | undefined> {
  const existing = new Set(await admin.listTopics())
  const missing = wanted.filter((name) => !existing.has(name))
  if (missing.length > 0) {
    return `waiting for the topics ${missing.join(', ')}: run ensureTopics() of kafkaConfig.ts (see README)`
  }
  const { topics } = await admin.fetchTopicMetadata({ topics: [...wanted] })
  const counts = new Map(topics.map(({ name, partitions }) => [name, partitions.length]))
  if (new Set(counts.values()).size === 1) return undefined
  // In an order of ours: the broker's is another one each time, and would make it another complaint.
  const listed = wanted.map((name) => `${name} has ${counts.get(name)}`).join(', ')
  return `waiting: these topics must have the same number of partitions, and ${listed}`
}
