import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { ProcessStatus } from './fixtures/processorProcess.ts'
import { until } from './harness.ts'
import {
  assertEachOnce,
  ids,
  readAll,
  send,
  testGroup,
  toMessages,
  untilDrained,
} from './processorHarness.ts'

const PROCESS = fileURLToPath(new URL('fixtures/processorProcess.ts', import.meta.url))

interface Instance {
  child: ChildProcess
  /** As it last said. */
  status: ProcessStatus
  say(word: 'hold' | 'release'): void
}

function startInstance(t: TestContext, environment: Record<string, string>): Instance {
  const child = spawn(process.execPath, ['--import', 'tsx', PROCESS], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  const instance: Instance = {
    child,
    status: { tasks: [], in: 0, restarts: 0, held: [] },
    say: (word) => child.stdin.write(`${word}\n`),
  }
  createInterface({ input: child.stdout }).on('line', (line) => {
    instance.status = JSON.parse(line) as ProcessStatus
  })
  return instance
}

test('an instance that is stopped, loses its tasks and wakes up publishes nothing for them', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '4' })
  const [zombie, other] = [startInstance(t, group.environment), startInstance(t, group.environment)]
  const share = () => [zombie.status.tasks.length, other.status.tasks.length].join()
  await until('each has two tasks', () => share() === '2,2')

  const wanted: string[] = []
  const sendSome = async (prefix: string) => {
    for (const partition of [0, 1, 2, 3]) {
      const some = ids(`${prefix} ${partition}`, 50)
      wanted.push(...some)
      await send(group, partition % 2 ? group.first : group.second, partition, toMessages(some))
    }
  }
  zombie.say('hold')
  await sendSome('before')
  const isHeld = (task: number) => zombie.status.held.some((id) => id.startsWith(`before ${task}`))
  await until('it has a batch of each task in hand', () => zombie.status.tasks.every(isHeld))
  const { held } = zombie.status
  const lost = zombie.status.tasks

  zombie.child.kill('SIGSTOP')
  await sendSome('while it sleeps')
  await until('the other has all tasks', () => other.status.tasks.length === 4)
  await until('and has done their work', () => other.status.in === wanted.length)
  // Read as soon as it wakes up, and before it can hear that it is no longer a member.
  zombie.say('release')
  zombie.child.kill('SIGCONT')
  await sendSome('once it is awake')
  await until('it is a member again', () => share() === '2,2')
  // It must not fence whoever has its tasks, only to be fenced in turn.
  assert.equal(other.status.restarts, 0)
  await sendSome('after')
  await untilDrained(group)

  const found = await readAll(group, group.output)
  assertEachOnce(
    found.map(({ id }) => id),
    wanted,
  )
  assert.ok(held.length > 0)
  const ofLostTasks = found.filter(
    ({ id, partition }) => held.includes(id) || (lost.includes(partition) && id.startsWith('while')),
  )
  const writers = new Set(ofLostTasks.map(({ value }) => JSON.parse(String(value)).note as string))
  assert.deepEqual([...writers], [String(other.child.pid)])
})
