/** What named processes take of the machine: CPU and memory, as Linux tells it in /proc. */
import { readFileSync } from 'node:fs'
import { cpuSecondsOf, descendantsOf, type Processes, readProcesses } from '../lib/processTree.ts'

export interface ProcessUse {
  /** Since it began, with what it has started. */
  cpuSeconds: number
  /** Of physical memory, now; what several share is divided among them. */
  memoryMiB: number
  /**
   * The most that it ever held, as the kernel keeps it, each process for itself; undefined for PostgreSQL, whose processes
   * share most of theirs, and where the kernel does not tell.
   */
  peakMiB: number | undefined
}

/** The name that its processes go by. */
const SHARING = 'postgres'

export type Pids = Readonly<Record<string, number>>

/**
 * By name; of each process with all that it has started, but for what has a name of its own. One that has ended in
 * between is left out.
 */
export function readUse(pids: Pids): Record<string, ProcessUse> {
  const processes = readProcesses()
  const uses: Record<string, ProcessUse> = {}
  for (const [name, pid] of Object.entries(pids)) {
    const named = Object.values(pids).filter((other) => other !== pid)
    const tree = descendantsOf([pid], withoutThese(processes, named))
    if (tree.size === 0) continue
    let memoryMiB = 0
    let peakKib = 0
    for (const each of tree) {
      memoryMiB += readKibibytes(each, 'smaps_rollup', 'Pss') / 1_024
      peakKib += readKibibytes(each, 'status', 'VmHWM')
    }
    const peakMiB = name === SHARING || peakKib === 0 ? undefined : peakKib / 1_024
    uses[name] = { cpuSeconds: cpuSecondsOf(tree, processes), memoryMiB, peakMiB }
  }
  return uses
}

function withoutThese(processes: Processes, pids: readonly number[]): Processes {
  return new Map([...processes].filter(([pid]) => !pids.includes(pid)))
}

/** 0 for a process that has ended. */
function readKibibytes(pid: number, file: 'status' | 'smaps_rollup', field: string): number {
  try {
    const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(
      readFileSync(`/proc/${pid}/${file}`, 'utf8'),
    )
    return Number(match?.[1] ?? 0)
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0
    throw error
  }
}

/** CPU seconds that each took from one reading to the next. */
export function cpuBetween(
  before: Record<string, ProcessUse>,
  after: Record<string, ProcessUse>,
): Record<string, number> {
  const taken = Object.entries(after).map(
    ([name, { cpuSeconds }]) => [name, cpuSeconds - (before[name]?.cpuSeconds ?? 0)] as const,
  )
  return Object.fromEntries(taken)
}
