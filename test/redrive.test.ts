import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { IHeaders } from 'kafkajs'
import { headerText, publish } from '../lib/record.ts'
import type { ProcessStatus } from './fixtures/processorProcess.ts'
import { until } from './harness.ts'
import {
  assertEachOnce,
  makeProcessor,
  readAll,
  send,
  startProcessor,
  type TestGroup,
  testGroup,
  toMessage,
  untilDrained,
} from './processorHarness.ts'

/** What a redrive of a dead letter writes; the record is one of the first input, at the offset of its letter. */
function redriven(group: TestGroup, id: string, letter: number, headers: IHeaders = {}) {
  const source = `${group.first.name}/0/${letter}`
  return {
    ...toMessage({ id }),
    headers: { source, 'dead-letter': `${group.deadLetters.name}/0/${letter}`, redrives: '1', ...headers },
  }
}

const published = async (group: TestGroup) => (await readAll(group, group.output)).map(({ id }) => id)

test('a dead letter is settled once: in one batch, later, and by another instance', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const { retries } = group
  const first = makeProcessor(group)
  void first.run()
  await send(group, retries, 0, [
    redriven(group, 'a', 0),
    redriven(group, 'a', 0),
    { ...redriven(group, 'given up', 1, { dropped: 'by hand' }), value: null },
    redriven(group, 'given up', 1),
  ])
  await untilDrained(group)
  await send(group, retries, 0, [redriven(group, 'a', 0), redriven(group, 'b', 2)])
  await untilDrained(group)
  await first.stop()

  await send(group, retries, 0, [
    redriven(group, 'b', 2),
    redriven(group, 'given up', 1),
    redriven(group, 'c', 3),
  ])
  startProcessor(t, group)
  await untilDrained(group)
  assertEachOnce(await published(group), ['a', 'b', 'c'])
  assert.deepEqual(await readAll(group, group.deadLetters), [])
})

test('what fails again is a dead letter anew, with its counts, and can be redriven as such', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  let isMended = false
  startProcessor(t, group, {
    handle(records) {
      if (!isMended) throw new Error('not yet')
      return records.map(({ event }) => [publish(group.output, event, '')])
    },
  })
  await send(group, group.retries, 0, [redriven(group, 'a', 7, { attempts: '1', mine: 'kept' })])
  await until('it failed again', async () => (await readAll(group, group.deadLetters)).length === 1)
  const [letter] = await readAll(group, group.deadLetters)
  const texts = ['source', 'attempts', 'redrives', 'mine', 'dead-letter', 'reason'].map((name) =>
    headerText(letter!.headers, name),
  )
  assert.deepEqual(texts, [
    `${group.first.name}/0/7`,
    '2',
    '1',
    'kept',
    undefined,
    'processing failed: not yet',
  ])
  isMended = true
  await send(group, group.retries, 0, [redriven(group, 'a', letter!.offset), redriven(group, 'a', 7)])
  await untilDrained(group)
  assertEachOnce(await published(group), ['a'])
})

test('what is read back is remembered at its first position alone, and cannot stop a task', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const first = makeProcessor(group)
  void first.run()
  await send(
    group,
    group.first,
    0,
    ['a', 'poison', 'b'].map((id) => toMessage({ id })),
  )
  await send(group, group.retries, 0, [redriven(group, 'poison', 1)])
  await untilDrained(group)
  await first.stop()

  const remembered: string[] = []
  const second = startProcessor(t, group, {
    readBack: { orders: 10, ageMs: Number.POSITIVE_INFINITY },
    remember(_, { event }) {
      if (event.id === 'poison') throw new Error('cannot be remembered')
      remembered.push(event.id)
    },
  })
  await send(group, group.first, 0, [toMessage({ id: 'c' })])
  await until('it is at work', () => second.counters.in === 1)
  assert.deepEqual(remembered, ['a', 'b'])
  assert.equal(second.counters.restarts, 0)
  assert.deepEqual(
    group.complaints.filter((line) => line.startsWith('cannot remember')),
    [`cannot remember ${group.first.name}/0/1: cannot be remembered`],
  )
})

const PROCESS = fileURLToPath(new URL('fixtures/processorProcess.ts', import.meta.url))

interface Instance {
  child: ChildProcess
  status: ProcessStatus | undefined
}

function startInstance(t: TestContext, environment: Record<string, string>): Instance {
  const child = spawn(process.execPath, ['--import', 'tsx', PROCESS], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(() => kill(child))
  const instance: Instance = { child, status: undefined }
  createInterface({ input: child.stdout }).on('line', (line) => {
    instance.status = JSON.parse(line) as ProcessStatus
  })
  return instance
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

test('a dead letter has its effect once also when the instance is killed before and after', async (t) => {
  const group = await testGroup(t, { PARTITIONS: '1' })
  const killed = startInstance(t, group.environment)
  await until('it has its task', () => killed.status?.tasks.length === 1)
  await send(group, group.retries, 0, [redriven(group, 'before', 0)])
  await untilDrained(group)
  killed.child.stdin!.write('hold\n')
  await send(group, group.retries, 0, [redriven(group, 'in hand', 1), redriven(group, 'in hand', 1)])
  await until('it has it in hand', () => killed.status!.held.includes('in hand'))
  assert.equal(killed.status!.held.length, 1, 'the second one is passed over already')
  await kill(killed.child)

  await send(group, group.retries, 0, [redriven(group, 'in hand', 1), redriven(group, 'before', 0)])
  startInstance(t, group.environment)
  await untilDrained(group)
  assertEachOnce(await published(group), ['before', 'in hand'])
})
