/** Installs and starts the validator in bench/peers/platformatic, with the Node and the packages that it names. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { run } from '../infra/serverProcess.ts'
import { NODE_FLAGS } from '../lib/childProcesses.ts'

const SOURCES = fileURLToPath(new URL('peers/platformatic', import.meta.url))
const CACHE = fileURLToPath(new URL('../.data', import.meta.url))

/** Installs what the lockfile says, if that was not done yet. @returns where */
export async function preparePlatformatic(say: (line: string) => void): Promise<string> {
  const lock = await readFile(join(SOURCES, 'package-lock.json'))
  const hash = createHash('sha256').update(lock).digest('hex').slice(0, 12)
  const installed = join(CACHE, `bench-platformatic-${hash}`)
  if (existsSync(installed)) return installed
  say('Installing @platformatic/kafka and the Node that it runs on (200 MB, once) ...')
  const temporary = `${installed}.${process.pid}.tmp`
  await mkdir(temporary, { recursive: true })
  try {
    for (const name of ['package.json', 'package-lock.json']) {
      await copyFile(join(SOURCES, name), join(temporary, name))
    }
    const result = await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      directory: temporary,
    })
    if (result.status !== 0) throw new Error(`npm ci for @platformatic/kafka: ${result.stderr}`)
    await rename(temporary, installed)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
  return installed
}

/** @param directory where it was installed */
export function startPlatformatic(
  directory: string,
  env: NodeJS.ProcessEnv,
  say: (line: string) => void,
): ChildProcess {
  const node = join(directory, 'node_modules/node/bin/node')
  const client = join(directory, 'node_modules/@platformatic/kafka/dist/index.js')
  const child = spawn(node, [...NODE_FLAGS, join(SOURCES, 'validator.ts')], {
    env: { ...env, CLIENT: pathToFileURL(client).href },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  })
  createInterface({ input: child.stdout! }).on('line', say)
  createInterface({ input: child.stderr! }).on('line', say)
  return child
}
