import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Admin } from 'kafkajs'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended, stopScript } from '../lib/childProcesses.ts'
import { createLogger } from '../lib/log.ts'
import { runScript, testEnvironment, until } from './harness.ts'

const BACKLOG = 20_000
/** Not measured: until compilers have seen the work and the group has formed. */
const WARM_UP_SHARE = 0.2
/** A loop that does the same job and guarantees nothing is hardly faster; half of this is a regression, whatever the machine. */
const LEAST_RATIO = 0.4

/**
 * How fast a backlog is worked off, by what the broker says is committed.
 *
 * @returns orders per second, on this machine and beside whatever else it does: good for a ratio alone
 */
async function rateOf(admin: Admin, config: Config, group: string): Promise<number> {
  let first: { committed: number; atMs: number } | undefined
  let committed = 0
  await until(`${group} has committed all orders`, async () => {
    committed = await fetchCommitted(admin, group, config.topics.ordersRaw.name)
    if (committed >= BACKLOG * WARM_UP_SHARE) first ??= { committed, atMs: performance.now() }
    return committed >= BACKLOG
  })
  assert.ok(committed > first!.committed, 'there was a commit in between')
  return ((committed - first!.committed) / (performance.now() - first!.atMs)) * 1_000
}

async function fetchCommitted(admin: Admin, groupId: string, topic: string): Promise<number> {
  try {
    const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
    return found!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  } catch (error) {
    // Its coordinator is being found.
    if ((error as { retriable?: boolean }).retriable !== true) throw error
    return 0
  }
}

async function placeBacklog(t: TestContext) {
  const env = await testEnvironment(t)
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const { child } = runScript(t, 'producer', env, ['--orders', String(BACKLOG), '--max'])
  assert.equal(await ended(child), 0)
  const admin = createKafka(config, 'test', createLogger('test', config.log)).admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  return { env, config, admin }
}

describe('throughput', () => {
  it('is not far from that of a batch loop which guarantees nothing, in the same run', async (t) => {
    const { env, config, admin } = await placeBacklog(t)
    const groupOfLoop = `${config.topicPrefix}batches`
    const loop = runScript(t, 'bench/peers/batches', { ...env, GROUP: groupOfLoop })
    const rateOfLoop = await rateOf(admin, config, groupOfLoop)
    await stopScript(loop.child)
    runScript(t, 'validator', env)
    const rate = await rateOf(admin, config, `${config.topicPrefix}validator`)
    const ratio = rate / rateOfLoop
    t.diagnostic(`${ratio.toFixed(2)} times the batch loop`)
    assert.ok(ratio >= LEAST_RATIO, `${ratio.toFixed(2)} times the batch loop, at least ${LEAST_RATIO}`)
  })
})
