import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ended, stopScript } from '../lib/childProcesses.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { prepareStage, summary } from './fulfilmentStage.ts'
import { until } from './harness.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const LINE = /^ {3}(address: judge\(.*\),)$/m
const run = promisify(execFile)

/** The project with a fifth judge, as CONTRIBUTING.md says. */
function addJudge(t: TestContext): string {
  const copy = mkdtempSync(join(tmpdir(), 'order-pipeline-judge-'))
  t.after(() => rmSync(copy, { recursive: true, force: true }))
  for (const name of readdirSync(ROOT)) {
    const isNeeded = /\.(ts|json)$/.test(name) || ['lib', 'sql', 'infra', 'tools', 'data'].includes(name)
    if (isNeeded) cpSync(join(ROOT, name), join(copy, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  const recipe = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8')
  for (const [, file, code] of recipe.matchAll(/^ {3}```ts\n {3}\/\/ (\S+)\n([\s\S]*?)^ {3}```$/gm)) {
    assert.equal(existsSync(join(copy, file!)), false)
    writeFileSync(join(copy, file!), code!.replace(/^ {3}/gm, ''))
  }
  const judges = join(copy, 'lib/judges.ts')
  const line = LINE.exec(recipe)![1]!
  const table = readFileSync(judges, 'utf8')
  const longer = table.replace(/(export const JUDGES = \{[\s\S]*?)\n\}/, `$1\n  ${line}\n}`)
  assert.notEqual(longer, table)
  writeFileSync(judges, longer)
  return copy
}

test('a fifth judge is one function, one script and one line', async (t) => {
  const copy = addJudge(t)
  const { env, place, judge, decisions } = await prepareStage(t)
  const inCopy = { cwd: copy, env: { ...process.env, ...env, LOG_LEVEL: 'warn' } }
  const [types] = await Promise.all([
    run(process.execPath, [join(ROOT, 'node_modules/.bin/tsc'), '-p', '.'], inCopy).catch((error) => error),
    run(
      process.execPath,
      ['--import', 'tsx', '-e', "import('./kafkaConfig.ts').then(m => m.ensureTopics())"],
      inCopy,
    ),
  ])
  assert.equal(types.code ?? 0, 0, types.stdout)
  const start = (script: string) => {
    const child = spawn(process.execPath, ['--import', 'tsx', script], {
      ...inCopy,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    t.after(() => stopScript(child))
    return child
  }
  await place({ id: 'good' }, { id: 'homeless', shippingAddress: undefined }, { id: 'lost', postcode: ' ' })
  start('fulfilmentService.ts')
  for (const id of ['good', 'homeless', 'lost']) await judge(id, JUDGE_NAMES)
  const address = start('addressService.ts')
  await until('all are decided', async () => (await decisions()).length === 3)
  address.kill('SIGTERM')
  await ended(address)
  await place({ id: 'waiting' })
  await judge('waiting', JUDGE_NAMES)
  await until('the fourth is cancelled', async () => (await decisions()).length === 4)
  assert.deepEqual(summary(await decisions()), {
    good: ['OrderConfirmed'],
    homeless: ['OrderConfirmed', 'no-address: no address: it is sent to the customer'],
    lost: ['OrderCancelled', 'undeliverable: the address has no postcode'],
    waiting: ['OrderCancelled', 'decision-timeout: address did not answer in time'],
  })
  // The auditor asks for its verdict too: it was there for three of the four.
  const verify = ['--import', 'tsx', 'tools/verify.ts', '--drained', '--json']
  const { stdout } = await run(process.execPath, verify, inCopy).catch((error) => error)
  const { checks } = JSON.parse(stdout) as { checks: { name: string; offenders: { id: string }[] }[] }
  const check = checks.find(({ name }) => name === 'every validated order has its address verdict')
  assert.deepEqual(
    check?.offenders.map(({ id }) => id),
    ['waiting'],
  )
})
