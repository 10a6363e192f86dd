import type { Admin, Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'

const GROUP_ID_NOT_FOUND = 69
/** Longer than the session of a member that crashed and is still counted as one. */
const DEADLINE_MS = 10_000
const RETRY_MS = 250

/** Deletes consumer groups that nobody needs any more. Those that cannot be deleted in time are named in the log. */
export async function deleteGroups(kafka: Kafka, groups: readonly string[], log: Logger): Promise<void> {
  if (groups.length === 0) return
  const deadlineMs = Date.now() + DEADLINE_MS
  let left = [...groups]
  for (let problem = ''; ; await sleep(RETRY_MS)) {
    if (Date.now() > deadlineMs) {
      log.warn(`could not delete the consumer groups ${left.join(', ')}: ${problem}`)
      return
    }
    const admin = kafka.admin()
    try {
      await admin.connect()
      left = await tryToDelete(admin, left)
      if (left.length === 0) return
      problem = 'they still have members'
    } catch (error) {
      problem = describe(error)
    } finally {
      await admin.disconnect().catch(() => undefined)
    }
  }
}

/** @returns the groups that are still there */
async function tryToDelete(admin: Admin, groups: string[]): Promise<string[]> {
  try {
    await admin.deleteGroups(groups)
    return []
  } catch (error) {
    const answers = (error as { groups?: { groupId: string; errorCode: number }[] }).groups
    if (!answers) throw error
    // A group that crashed before it had joined, or that the broker has removed by itself, is gone already.
    return answers.filter(({ errorCode }) => errorCode !== GROUP_ID_NOT_FOUND).map(({ groupId }) => groupId)
  }
}
