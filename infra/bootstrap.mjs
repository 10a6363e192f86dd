// node infra/bootstrap.mjs <script.ts> [arguments]: runs a TypeScript script on a checkout in whatever state.
//
// Checks the version of Node, installs packages if they are missing or out of date, then runs the script with tsx.
// Has no dependencies, since it is there before they are. Only the script writes to stdout; npm's output and every
// message from here go to stderr.
//
// The script runs in this process and not in a child: its exit status, its terminal and its signals need no
// forwarding, and killing this process leaves nothing behind.
//
// With --installed in place of a script it only notes that the packages are installed (the postinstall script).

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'

const MIN_NODE = [20, 19]
const PROJECT_DIRECTORY = fileURLToPath(new URL('..', import.meta.url))
const MODULES_DIRECTORY = join(PROJECT_DIRECTORY, 'node_modules')
/** Holds the hash of what was installed; npm removes it with node_modules, and it is written after all else. */
const STAMP_FILE = join(MODULES_DIRECTORY, '.order-pipeline-installed')
const LOCK_DIRECTORY = join(PROJECT_DIRECTORY, '.data', 'install.lock')
/** A terminal signals the whole process group and npm passes the signal on as well: one Ctrl-C comes two or three times. */
const SAME_SIGNAL_MS = 500

class Refusal extends Error {}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1])) return
  throw new Refusal(
    `This needs Node.js ${MIN_NODE.join('.')} or newer and this is ${process.versions.node}: install a newer one, for example with "nvm install 24" or from https://nodejs.org.`,
  )
}

/** Changes whenever the installed packages have to: lockfile, patches, and the machine that they were built for. */
function wantedHash() {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}`)
  const files = ['package-lock.json', 'package.json'].filter((name) =>
    existsSync(join(PROJECT_DIRECTORY, name)),
  )
  const patches = existsSync(join(PROJECT_DIRECTORY, 'patches'))
    ? readdirSync(join(PROJECT_DIRECTORY, 'patches'))
    : []
  // With a lockfile, package.json says nothing more about packages, and its scripts may change freely.
  const names = [files[0], ...patches.sort().map((name) => join('patches', name))]
  for (const name of names) {
    if (name !== undefined) hash.update(`\n${name}\n`).update(readFileSync(join(PROJECT_DIRECTORY, name)))
  }
  return hash.digest('hex')
}

function isInstalled() {
  return existsSync(STAMP_FILE) && readFileSync(STAMP_FILE, 'utf8').trim() === wantedHash()
}

function noteInstalled() {
  writeFileSync(STAMP_FILE, `${wantedHash()}\n`)
}

async function installIfNeeded() {
  if (isInstalled()) return
  await withInstallLock(async () => {
    // Somebody else may have installed while this process waited.
    if (!isInstalled()) await install()
  })
}

async function install() {
  // An install that is cut short must not look like a whole one.
  rmSync(STAMP_FILE, { force: true })
  const command = existsSync(join(PROJECT_DIRECTORY, 'package-lock.json')) ? 'ci' : 'install'
  const reason = existsSync(MODULES_DIRECTORY) ? 'out of date or incomplete' : 'missing'
  console.error(`The packages are ${reason}: installing them with "npm ${command}" ...`)
  const startedAt = performance.now()
  const { status, signal } = await runNpm([
    command,
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ])
  if (signal !== undefined)
    throw new Refusal(`npm ${command} was interrupted by ${signal}: it is done again next time.`)
  if (status !== 0) {
    throw new Refusal(
      `npm ${command} failed with status ${status}: its reason stands above; put it right and run this again.`,
    )
  }
  noteInstalled()
  console.error(`Installed in ${Math.round((performance.now() - startedAt) / 1_000)} s.`)
}

/** Runs npm with its stdout on our stderr; a signal to this process ends npm first. */
function runNpm(args) {
  // Under "npm run" this names the npm that runs us, which need not be the one on the PATH.
  const script = process.env.npm_execpath
  const usable = script !== undefined && basename(script) === 'npm-cli.js'
  const [command, first] = usable ? [process.execPath, [script]] : ['npm', []]
  return new Promise((resolveRun, reject) => {
    const child = spawn(command, [...first, ...args], { cwd: PROJECT_DIRECTORY, stdio: ['ignore', 2, 2] })
    let received
    const forward = (signal) => {
      received = signal
      child.kill(signal)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward)
    const finish = () => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, forward)
    }
    child.once('error', (cause) => {
      finish()
      reject(
        new Refusal(`npm could not be run (${cause.message}): it comes with Node.js; put it on the PATH.`, {
          cause,
        }),
      )
    })
    child.once('close', (status, signal) => {
      finish()
      resolveRun({ status, signal: received ?? signal ?? undefined })
    })
  })
}

/** Two commands on a fresh clone must not run npm over each other. A directory is made by one process only. */
async function withInstallLock(action) {
  mkdirSync(join(PROJECT_DIRECTORY, '.data'), { recursive: true })
  let told = false
  while (!takeLock()) {
    if (!told) console.error('Waiting for another process that installs the packages ...')
    told = true
    await sleep(200)
  }
  try {
    await action()
  } finally {
    rmSync(LOCK_DIRECTORY, { recursive: true, force: true })
  }
}

function takeLock() {
  try {
    mkdirSync(LOCK_DIRECTORY)
    writeFileSync(join(LOCK_DIRECTORY, 'pid'), String(process.pid))
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
  }
  if (lockOwnerIsGone()) rmSync(LOCK_DIRECTORY, { recursive: true, force: true })
  return false
}

function lockOwnerIsGone() {
  try {
    process.kill(Number(readFileSync(join(LOCK_DIRECTORY, 'pid'), 'utf8')), 0)
    return false
  } catch (error) {
    if (error.code === 'ESRCH') return true
    // The owner makes the directory first and writes its id at once after that: no id for seconds means it died between.
    const madeAt = statSync(LOCK_DIRECTORY, { throwIfNoEntry: false })?.mtimeMs
    return error.code === 'ENOENT' && madeAt !== undefined && Date.now() - madeAt > 5_000
  }
}

/** Scripts take a second Ctrl-C for "quit at once"; they must not see one that nobody pressed. */
function deliverRepeatedSignalsOnce() {
  const lastAt = new Map()
  const emit = process.emit
  process.emit = function emitOnce(name, ...args) {
    if (name === 'SIGINT' || name === 'SIGTERM') {
      const last = lastAt.get(name)
      const now = performance.now()
      if (last !== undefined && now - last < SAME_SIGNAL_MS) return true
      lastAt.set(name, now)
    }
    return emit.call(this, name, ...args)
  }
}

async function runScript(script, args) {
  const file = resolve(script)
  if (!existsSync(file))
    throw new Refusal(`There is no script ${file}: give the path of one, relative to ${process.cwd()}.`)
  process.argv = [process.execPath, file, ...args]
  deliverRepeatedSignalsOnce()
  await import('tsx')
  await import(pathToFileURL(file).href)
}

async function main() {
  const [script, ...args] = process.argv.slice(2)
  if (script === undefined)
    throw new Refusal('Name a script: node infra/bootstrap.mjs <script.ts> [arguments].')
  checkNode()
  if (script === '--installed') {
    noteInstalled()
    return
  }
  await installIfNeeded()
  await runScript(script, args)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof Refusal)) throw error
  console.error(error.message)
  process.exit(1)
}
