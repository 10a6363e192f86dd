// The bootstrap, in a project of its own with an npm that only pretends, so that no test installs anything.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Pretends to install: npm ci empties node_modules and fills it again; this one notes its call and talks on stdout. */
const FAKE_NPM = `
const { appendFileSync, mkdirSync, rmSync, symlinkSync, existsSync } = require('node:fs')
const { join } = require('node:path')
appendFileSync('npm.log', process.argv[2] + '\\n')
console.log('noise of npm')
if (existsSync('npm-fails')) process.exit(3)
rmSync('node_modules', { recursive: true, force: true })
mkdirSync('node_modules')
if (existsSync('npm-hangs')) { appendFileSync('npm.log', 'hangs\\n'); setInterval(() => {}, 1000) }
else symlinkSync(${JSON.stringify(join(ROOT, 'node_modules', 'tsx'))}, join('node_modules', 'tsx'))
`

const SCRIPT = `
const value: string[] = process.argv.slice(2)
if (value[0] === 'wait') {
  let signals = 0
  process.on('SIGTERM', () => { signals += 1; setTimeout(() => { console.log('signals', signals); process.exit(0) }, 200) })
  setInterval(() => {}, 1000)
} else process.exitCode = 7
// Last, so that whoever has read it finds the handlers in place.
console.log(JSON.stringify(value))
`

interface Project {
  readonly directory: string
  start(...args: string[]): ReturnType<typeof spawn>
  run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }>
  npmCalls(): Promise<string[]>
}

async function ownProject(t: TestContext): Promise<Project> {
  const directory = await mkdtemp(join(tmpdir(), 'bootstrap-test-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const files: Record<string, string> = {
    'package.json': '{ "type": "module" }',
    'package-lock.json': '{}',
    'patches/one.patch': 'first',
    'npm/package.json': '{ "type": "commonjs" }',
    'npm/npm-cli.js': FAKE_NPM,
    'script.ts': SCRIPT,
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true })
    await writeFile(join(directory, name), text)
  }
  await mkdir(join(directory, 'infra'))
  await copyFile(join(ROOT, 'infra', 'bootstrap.mjs'), join(directory, 'infra', 'bootstrap.mjs'))

  const start = (...args: string[]) =>
    spawn(process.execPath, ['infra/bootstrap.mjs', ...args], {
      cwd: directory,
      stdio: 'pipe',
      env: { ...process.env, npm_execpath: join(directory, 'npm', 'npm-cli.js') },
    })
  return {
    directory,
    start,
    async run(...args) {
      const child = start(...args)
      let [stdout, stderr] = ['', '']
      child.stdout.on('data', (chunk) => {
        stdout += chunk
      })
      child.stderr.on('data', (chunk) => {
        stderr += chunk
      })
      const [status] = (await once(child, 'close')) as [number | null]
      return { status, stdout, stderr }
    },
    async npmCalls() {
      const text = await readFile(join(directory, 'npm.log'), 'utf8').catch(() => '')
      return text.split('\n').filter((line) => line !== '')
    },
  }
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within 10 s: ${what}`)
    await sleep(20)
  }
}

test('on a fresh clone packages are installed, and stdout carries only what the script prints', async (t) => {
  const project = await ownProject(t)
  const first = await project.run('script.ts', '--orders', '5', 'a b')
  assert.deepEqual([first.status, first.stdout], [7, '["--orders","5","a b"]\n'])
  assert.match(
    first.stderr,
    /^The packages are missing: installing them with "npm ci" \.\.\.\nnoise of npm\nInstalled in/,
  )
  assert.deepEqual(await project.npmCalls(), ['ci'])

  const second = await project.run('script.ts')
  assert.deepEqual([second.status, second.stdout, second.stderr], [7, '[]\n', ''])
  assert.deepEqual(await project.npmCalls(), ['ci'])
})

test('packages are installed again when the lockfile or a patch has changed, and not when package.json has', async (t) => {
  const project = await ownProject(t)
  await project.run('script.ts')
  await writeFile(join(project.directory, 'package.json'), '{ "type": "module", "scripts": {} }')
  await project.run('script.ts')
  assert.deepEqual(await project.npmCalls(), ['ci'])
  await writeFile(join(project.directory, 'patches', 'one.patch'), 'second')
  await project.run('script.ts')
  assert.deepEqual(await project.npmCalls(), ['ci', 'ci'])
  await rm(join(project.directory, 'package-lock.json'))
  await project.run('script.ts')
  assert.deepEqual(await project.npmCalls(), ['ci', 'ci', 'install'])
})

test('an install that fails or is interrupted is done again next time', async (t) => {
  const project = await ownProject(t)
  await writeFile(join(project.directory, 'npm-fails'), '')
  const failed = await project.run('script.ts')
  assert.deepEqual([failed.status, failed.stdout], [1, ''])
  assert.match(
    failed.stderr,
    /npm ci failed with status 3: its reason stands above; put it right and run this again\.\n$/,
  )
  await rm(join(project.directory, 'npm-fails'))

  await writeFile(join(project.directory, 'npm-hangs'), '')
  const interrupted = project.start('script.ts')
  await until('npm hangs', async () => (await project.npmCalls()).includes('hangs'))
  interrupted.kill('SIGTERM')
  assert.deepEqual(await once(interrupted, 'close'), [1, null])
  await rm(join(project.directory, 'npm-hangs'))

  // The lock of a process that was killed while it installed.
  await mkdir(join(project.directory, '.data', 'install.lock'), { recursive: true })
  await writeFile(join(project.directory, '.data', 'install.lock', 'pid'), String(interrupted.pid))
  assert.equal((await project.run('script.ts')).status, 7)
  assert.deepEqual(await project.npmCalls(), ['ci', 'ci', 'hangs', 'ci'])
  assert.equal(existsSync(join(project.directory, '.data', 'install.lock')), false)
})

test('two commands at once on a fresh clone install once', async (t) => {
  const project = await ownProject(t)
  const results = await Promise.all([project.run('script.ts'), project.run('script.ts')])
  assert.deepEqual(
    results.map(({ status }) => status),
    [7, 7],
  )
  assert.deepEqual(await project.npmCalls(), ['ci'])
})

test('a signal that comes twice, from the terminal and from npm, reaches the script once', async (t) => {
  const project = await ownProject(t)
  await project.run('script.ts')
  const child = project.start('script.ts', 'wait')
  let output = ''
  child.stdout?.on('data', (chunk) => {
    output += chunk
  })
  await until('the script waits', async () => output.includes('wait'))
  const closed = once(child, 'close')
  child.kill('SIGTERM')
  await sleep(50)
  child.kill('SIGTERM')
  assert.deepEqual(await closed, [0, null])
  assert.match(output, /signals 1\n$/)
})

test('a script that is not there, or none, gets one sentence', async (t) => {
  const project = await ownProject(t)
  await project.run('script.ts')
  const missing = await project.run('nowhere.ts')
  assert.equal(missing.status, 1)
  assert.match(missing.stderr, /^There is no script .+nowhere\.ts: give the path of one, relative to .+\.\n$/)
  assert.match((await project.run()).stderr, /^Name a script: /)
})
