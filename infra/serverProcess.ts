// A server process (the broker's JVM, the postmaster) that this process starts, watches and stops.
//
// Two things are guarded against, since both leave a server behind that holds a port and a data directory:
//   - Ctrl-C in a terminal reaches every process of the group at once. The server gets a session of its own,
//     so that it hears only from its launcher, which stops services before servers.
//   - A launcher that is killed with SIGKILL can stop nothing. A shell waits at the other end of a pipe; when
//     the launcher is gone, however it went, the pipe closes and the shell stops the server.

import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { PipelineError } from '../lib/errors.ts'

/** What a person has to put right before Kafka or PostgreSQL can run; the message is one sentence that says how. */
export class InfrastructureError extends PipelineError {
  readonly code: string
  readonly canRetry = false

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** False when the process ended without stop() or kill() having been called. */
  readonly expected: boolean
}

export interface ServerProcess {
  readonly pid: number
  /** Resolves when the process has ended, for whatever reason; never rejects. */
  readonly exited: Promise<Exit>
  hasExited(): boolean
  /** Sends the stop signal, after the time allowed SIGKILL; resolves when the process is gone. */
  stop(): Promise<void>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
}

export interface ServerOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly logFile: string
  readonly pidFile: string
  readonly stopSignal: 'SIGTERM' | 'SIGINT'
  readonly stopTimeoutMs: number
  readonly environment?: NodeJS.ProcessEnv
  /** To run as somebody else; only root can. */
  readonly userId?: number | undefined
  readonly groupId?: number | undefined
}

const MAX_LOG_BYTES = 20 * 1024 * 1024

/** Starts the process; resolves when it runs, which is before it is ready. Rejects if it cannot be executed. */
export async function spawnServer(options: ServerOptions): Promise<ServerProcess> {
  const log = openLog(options.logFile)
  const child = spawn(options.command, options.args, {
    detached: true,
    stdio: ['ignore', log, log],
    env: options.environment ?? process.env,
    ...(options.userId === undefined ? {} : { uid: options.userId }),
    ...(options.groupId === undefined ? {} : { gid: options.groupId }),
  })
  closeSync(log)
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  const pid = child.pid
  if (pid === undefined) throw new Error(`${options.command} started without a process id.`)

  writeFileSync(options.pidFile, `${pid}\n${process.pid}\n`)
  const releaseWatch = stopWhenThisProcessDies(pid, options)
  let stopping = false
  let ended = false
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      ended = true
      releaseWatch()
      rmSync(options.pidFile, { force: true })
      resolve({ code, signal, expected: stopping })
    })
  })

  return {
    pid,
    exited,
    hasExited: () => ended,
    async stop() {
      if (ended) return
      if (!stopping) {
        stopping = true
        child.kill(options.stopSignal)
      }
      const deadline = setTimeout(() => child.kill('SIGKILL'), options.stopTimeoutMs)
      await exited
      clearTimeout(deadline)
    },
    async kill() {
      stopping = true
      if (!ended) child.kill('SIGKILL')
      await exited
    },
  }
}

/** Returns a function that calls the watch off; it must be called before the process id can be given to another. */
function stopWhenThisProcessDies(pid: number, options: ServerOptions): () => void {
  const seconds = Math.ceil(options.stopTimeoutMs / 1_000)
  const script = [
    'cat >/dev/null',
    `kill -${options.stopSignal.slice(3)} ${pid} || exit 0`,
    `n=0; while kill -0 ${pid} && [ $n -lt ${seconds} ]; do sleep 1; n=$((n+1)); done`,
    `kill -KILL ${pid}`,
  ].join('; ')
  const watch = spawn('/bin/sh', ['-c', script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  // No watch is no reason to fail: it only guards against the launcher's sudden death.
  watch.on('error', () => {})
  watch.stdin.on('error', () => {})
  watch.unref()
  return () => {
    // The whole group, since the shell may be waiting for its `cat`.
    if (watch.pid !== undefined && watch.exitCode === null) killQuietly(-watch.pid)
    watch.stdin.destroy()
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}

function openLog(logFile: string): number {
  const bytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0
  if (bytes > MAX_LOG_BYTES) renameSync(logFile, `${logFile}.old`)
  return openSync(logFile, 'a')
}

/** Where the log ends now, to read later only what a new process has written. */
export function logEnd(logFile: string): number {
  const bytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0
  return bytes > MAX_LOG_BYTES ? 0 : bytes
}

/** What the log holds from there on, at most its last 200 kB. */
export function readLogFrom(logFile: string, startByte: number): string {
  try {
    return readFileSync(logFile).subarray(startByte).subarray(-200_000).toString('utf8')
  } catch {
    return ''
  }
}

export interface RunningServer {
  readonly pid: number
  /** The process that started it, if it still lives. */
  readonly launcherPid: number | undefined
}

/**
 * The process that a pid file names, if it lives and is the one meant: after a crash or a restart of the machine
 * the number may belong to somebody else, so its command line must contain `marker`.
 */
export async function findRunning(pidFile: string, marker: string): Promise<RunningServer | undefined> {
  const text = await readFile(pidFile, 'utf8').catch(() => '')
  const [pid, launcherPid] = text.split('\n').map(Number)
  if (!pid || !(await commandLine(pid)).includes(marker)) return undefined
  const launcherLives = launcherPid !== undefined && launcherPid > 0 && (await isRunning(launcherPid))
  return { pid, launcherPid: launcherLives ? launcherPid : undefined }
}

/**
 * Resolves when no server uses the state that the pid file stands for. If the launcher of a running one is dead,
 * the watch above is stopping it, so wait for that; else refuse with the sentence given.
 */
export async function waitUntilUnused(
  pidFile: string,
  marker: string,
  waitMs: number,
  refusal: (running: RunningServer) => InfrastructureError,
): Promise<void> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const running = await findRunning(pidFile, marker)
    if (running === undefined) return
    if (running.launcherPid !== undefined || performance.now() > deadline) throw refusal(running)
    await sleep(100)
  }
}

/** Whether the process lives; one that is dead and only not yet collected by its parent does not. */
export async function isRunning(pid: number): Promise<boolean> {
  return (await commandLine(pid)) !== ''
}

/** The arguments of a live process, or '' if there is none (a zombie has none either). */
async function commandLine(pid: number): Promise<string> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ')
  } catch {
    // Either there is no such process, or no /proc (macOS).
    if (process.platform === 'linux') return ''
    return (await run('ps', ['-p', String(pid), '-o', 'args=']).catch(() => undefined))?.stdout.trim() ?? ''
  }
}

export interface Finished {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly timeoutMs?: number
  readonly userId?: number | undefined
  readonly groupId?: number | undefined
  readonly environment?: NodeJS.ProcessEnv
  readonly directory?: string
}

/** Runs a command to its end and returns what it printed, whatever its status; rejects if it cannot be executed. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: options.environment ?? process.env,
      timeout: options.timeoutMs ?? 0,
      killSignal: 'SIGKILL',
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
      ...(options.userId === undefined ? {} : { uid: options.userId }),
      ...(options.groupId === undefined ? {} : { gid: options.groupId }),
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk
    })
    child.once('error', reject)
    child.once('close', (status) => resolve({ status, stdout, stderr }))
  })
}
