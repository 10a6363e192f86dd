import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { stopScript } from '../lib/childProcesses.ts'
import { readInstances, registerInstance, removeDead } from '../lib/instances.ts'
import { runScript, testEnvironment, until } from './harness.ts'

function makeDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'order-pipeline-instances-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

/** The id of a process that is no more. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' })
  await once(child, 'exit')
  return child.pid!
}

function leaveBehind(directory: string, service: string, pid: number, port = 1): void {
  const groups = [{ targets: [`127.0.0.1:${port}`], labels: { service, pid: String(pid) } }]
  writeFileSync(join(directory, `${service}-${pid}.json`), JSON.stringify(groups))
}

test('a process is found where it says, in the form that Prometheus reads, until it takes that back', (t) => {
  const directory = join(makeDirectory(t), 'not', 'there yet')
  const takeBack = registerInstance(directory, 'validator', 9464)
  assert.deepEqual(readInstances(directory), [
    { service: 'validator', pid: process.pid, url: 'http://127.0.0.1:9464' },
  ])
  const [file, ...others] = readdirSync(directory)
  assert.deepEqual(others, [])
  assert.deepEqual(JSON.parse(readFileSync(join(directory, file!), 'utf8')), [
    { targets: ['127.0.0.1:9464'], labels: { service: 'validator', pid: String(process.pid) } },
  ])
  takeBack()
  assert.deepEqual(readInstances(directory), [])
})

test('what was killed is missed until its successor starts or its port is taken, and others are left alone', async (t) => {
  const directory = makeDirectory(t)
  const pid = await deadPid()
  leaveBehind(directory, 'validator', pid)
  leaveBehind(directory, 'payment', pid)
  leaveBehind(directory, 'mail', pid, 9465)
  registerInstance(directory, 'fraud', 9465)
  const found = () => readInstances(directory).map(({ service, pid }) => [service, pid])
  assert.deepEqual(found(), [
    ['fraud', process.pid],
    ['payment', pid],
    ['validator', pid],
  ])
  registerInstance(directory, 'validator', 9466)
  assert.deepEqual(found(), [
    ['fraud', process.pid],
    ['payment', pid],
    ['validator', process.pid],
  ])
  removeDead(directory)
  assert.deepEqual(found(), [
    ['fraud', process.pid],
    ['validator', process.pid],
  ])
})

test('what is no file of ours is passed over, and a directory that is not there holds nobody', (t) => {
  const directory = makeDirectory(t)
  for (const content of ['', '{', '[]', '[{"targets":[]}]', 'null']) {
    writeFileSync(join(directory, `other-${content.length}.json`), content)
  }
  assert.deepEqual(readInstances(directory), [])
  assert.deepEqual(readInstances(join(directory, 'nowhere')), [])
})

test('only processes of this machine are believed to be there, and a port is of who has it now', async (t) => {
  const directory = makeDirectory(t)
  const write = (target: string, service = 'payment', pid = '1') =>
    writeFileSync(
      join(directory, `${service.replace('/', '-')}-${pid}-${readdirSync(directory).length}.json`),
      JSON.stringify([{ targets: [target], labels: { service, pid } }]),
    )
  write('10.0.0.5:9100')
  write('example.com:80')
  write('127.0.0.1:99999')
  write('127.0.0.1:80@example.com:80')
  write('127.0.0.1:1', '../x')
  write('127.0.0.1:1', 'payment', '-1')
  mkdirSync(join(directory, 'folder.json'))
  assert.deepEqual(readInstances(directory), [])
  // Its process id is another's today, which is alive.
  leaveBehind(directory, 'mail', process.ppid, 9470)
  registerInstance(directory, 'fraud', 9470)
  assert.deepEqual(
    readInstances(directory).map(({ service }) => service),
    ['fraud'],
  )
})

test('--instances runs a service as so many processes: one that is killed is replaced, and all end with it', async (t) => {
  const environment = await testEnvironment(t)
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const script = runScript(t, 'validator', environment, ['--instances', '2'])
  const pids = () => readInstances(config.instancesDir).map(({ pid }) => pid)
  await until('there are two', () => pids().length === 2)
  const [killed, other] = pids() as [number, number]
  assert.ok(![killed, other].includes(script.child.pid!))
  process.kill(killed, 'SIGKILL')
  await until('there is another', () => pids().length === 2 && !pids().includes(killed))
  const [replaced] = pids().filter((pid) => pid !== other)
  await stopScript(script.child)
  for (const pid of [other, replaced!]) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})
