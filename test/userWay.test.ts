import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { describe, it, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import { runScript, testEnvironment, until, untilDrained } from './harness.ts'

const run = promisify(execFile)
const ENSURE_TOPICS = "import('./kafkaConfig.ts').then(m => m.ensureTopics())"
const ORDERS = 300

/** What somebody types in a terminal of its own; the end of the test is Ctrl-C. */
function inTerminal(t: TestContext, env: Record<string, string>, ...command: string[]): ChildProcess {
  const child = spawn('npx', ['tsx', ...command], {
    env: { ...process.env, ...env },
    stdio: process.env.TEST_VERBOSE ? 'inherit' : 'ignore',
    // A terminal's signal goes to the whole group.
    detached: true,
  })
  t.after(async () => {
    const end = ended(child)
    if (child.exitCode === null) process.kill(-child.pid!, 'SIGINT')
    await end
  })
  return child
}

describe("the user's way, a terminal for each script", () => {
  it('works in the order of the README', async (t) => {
    const env = await testEnvironment(t)
    const config = parseConfig(env)
    await run('npx', ['tsx', '-e', ENSURE_TOPICS], { env: { ...process.env, ...env } })
    inTerminal(t, env, 'producer.ts', '--orders', String(ORDERS), '--rate', '200')
    for (const script of ['validator', 'inventoryService', 'paymentService', 'analytics']) {
      inTerminal(t, env, `${script}.ts`)
    }
    const { figures } = await untilDrained(config, ORDERS)
    assert.ok(figures.reserved > 0 && figures.authorised > 0)
  })

  it('works in the reverse order, with the topics made last', async (t) => {
    const env = await testEnvironment(t)
    const config = parseConfig(env)
    for (const script of ['analytics', 'paymentService', 'inventoryService', 'validator']) {
      inTerminal(t, env, `${script}.ts`)
    }
    inTerminal(t, env, 'producer.ts', '--orders', String(ORDERS), '--max')
    inTerminal(t, env, '-e', ENSURE_TOPICS)
    await untilDrained(config, ORDERS)
  })
})

describe('two instances of a service', () => {
  it('share the work, and one that is stopped hands over within seconds', async (t) => {
    const env = await testEnvironment(t, { BAD_ORDER_RATIO: '0' })
    const config = parseConfig(env)
    await run('npx', ['tsx', '-e', ENSURE_TOPICS], { env: { ...process.env, ...env } })
    const services = ['validator', 'inventoryService', 'paymentService', 'analytics']
    const first = services.map((name) => runScript(t, name, env))
    const second = services.map((name) => runScript(t, name, env))
    const tasksOf = ({ lines }: { lines: string[] }) => {
      const last = lines.findLast((line) => /has (no )?tasks/.test(line)) ?? ''
      return /has tasks (.*)/.exec(last)?.[1]?.split(' ').length ?? 0
    }
    await until('all tasks are shared', () =>
      services.every((_, index) => {
        const shares = [tasksOf(first[index]!), tasksOf(second[index]!)]
        return shares[0]! + shares[1]! === config.partitions && Math.min(...shares) === 1
      }),
    )
    const producer = runScript(t, 'producer', env, ['--orders', '500', '--rate', '100'])
    await until('orders flow', () => first.some(({ lines }) => lines.some((line) => /in \d+\/s/.test(line))))
    const stopped = Date.now()
    for (const { child } of first) child.kill('SIGTERM')
    await until(
      'the second has all tasks',
      () => second.every((instance) => tasksOf(instance) === config.partitions),
      10_000,
    )
    assert.ok(Date.now() - stopped < 10_000)
    for (const { child } of first) assert.equal(await ended(child), 0)
    assert.equal(await ended(producer.child), 0)
    await untilDrained(config, 500)
  })
})
