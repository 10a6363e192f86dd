import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { sleep } from './async.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/**
 * Records live for a few fetches: in a young generation of the default size they are copied again and again. And a dozen
 * processes on few cores have none to spare for threads that collect garbage side by side.
 */
export const NODE_FLAGS: readonly string[] = ['--max-semi-space-size=32', '--single-threaded-gc']
const FIRST_BACKOFF_MS = 500
const MAX_BACKOFF_MS = 15_000
/** Longer than a service takes to finish what it has in hand. */
const STOP_DEADLINE_MS = 35_000

export interface ScriptOptions {
  script: string
  args?: string[]
  /** Modules to be loaded before the script. */
  preload?: string[]
  env: NodeJS.ProcessEnv
  /** Takes each line that the script writes to standard error, and to standard output unless `onOutput` does. */
  print(line: string): void
  onOutput?: (line: string) => void
}

/** Starts one of our scripts as a process of its own, and prints what it says with its name in front. */
export function startScript(options: ScriptOptions): ChildProcess {
  const { script, args = [], preload = [], env, print, onOutput } = options
  const imports = ['tsx', ...preload].flatMap((module) => ['--import', module])
  const child = spawn(process.execPath, [...NODE_FLAGS, ...imports, script, ...args], {
    cwd: ROOT,
    env,
    // The channel tells the child when we are gone, however that came about.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A group of its own: Ctrl-C reaches us alone, and we stop them in order.
    detached: true,
  })
  createInterface({ input: child.stderr! }).on('line', print)
  createInterface({ input: child.stdout! }).on('line', onOutput ?? print)
  return child
}

export interface ScriptRun {
  /** The exit status, or the signal's name. */
  status: number | string
  /** What it wrote to standard output. */
  lines: string[]
}

/**
 * Runs one of our scripts to its end, with all that it has to say.
 *
 * @param options `print` takes the lines of standard error; `signal` stops it
 */
export async function runScript({
  signal,
  ...options
}: Omit<ScriptOptions, 'onOutput'> & { signal?: AbortSignal }): Promise<ScriptRun> {
  const lines: string[] = []
  const child = startScript({ ...options, onOutput: (line) => lines.push(line) })
  // Not 'exit', which can come before the last of what it has written.
  const closed = once(child, 'close')
  const stop = () => void stopScript(child)
  signal?.addEventListener('abort', stop, { once: true })
  if (signal?.aborted) stop()
  const [status, killedBy] = (await closed) as [number | null, string | null]
  signal?.removeEventListener('abort', stop)
  return { status: status ?? killedBy!, lines }
}

/** Resolves with the exit status, or the signal's name. */
export function ended(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null || child.signalCode !== null) {
    return Promise.resolve(child.exitCode ?? child.signalCode!)
  }
  return new Promise((resolve) => child.once('exit', (status, signal) => resolve(status ?? signal!)))
}

/** Asks a process to end, and ends it if it does not. */
export async function stopScript(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  const deadline = new AbortController()
  void sleep(STOP_DEADLINE_MS, deadline.signal).then(() => !deadline.signal.aborted && child.kill('SIGKILL'))
  await ended(child)
  deadline.abort()
}

/** Keeps scripts running: one that ends by itself is started again, later and later if it does so at once. */
export class Supervisor {
  readonly #children = new Set<ChildProcess>()
  readonly #stopping = new AbortController()
  readonly #watches: Promise<void>[] = []

  keepRunning(options: ScriptOptions): void {
    this.#watches.push(this.#watch(options))
  }

  async #watch(options: ScriptOptions): Promise<void> {
    for (let failures = 0; !this.#stopping.signal.aborted; ) {
      const startedMs = Date.now()
      const child = startScript(options)
      this.#children.add(child)
      const status = await ended(child)
      this.#children.delete(child)
      if (this.#stopping.signal.aborted) return
      failures = Date.now() - startedMs > 60_000 ? 0 : failures + 1
      const backoffMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (failures - 1))
      options.print(`ended (${status}), starting it again in ${backoffMs / 1000} s`)
      await sleep(backoffMs, this.#stopping.signal)
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all([...this.#children].map(stopScript))
    await Promise.all(this.#watches)
  }
}
