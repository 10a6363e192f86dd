/** What processes take of the machine, all in the same way whoever wrote them, as Linux tells it in /proc. */
import { readFileSync } from 'node:fs'
import { cpuSecondsOf, descendantsOf, readProcesses } from '../lib/processTree.ts'

export interface Use {
  /** Since they began, with all that they have started. */
  cpuSeconds: number
  /** The most memory that they ever held, each for itself, in MiB. */
  peakMiB: number
}

/** @throws Error when one of them is not there any more */
export function readUse(pids: readonly number[]): Use {
  const processes = readProcesses()
  const tree = descendantsOf(pids, processes)
  let peakKib = 0
  for (const pid of tree) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    peakKib += Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0)
  }
  return { cpuSeconds: cpuSecondsOf(tree, processes), peakMiB: peakKib / 1_024 }
}

/** What they have used with all that they have started, also by those of these that have ended since. */
export function readCpuSeconds(pids: readonly number[]): number {
  const processes = readProcesses()
  return cpuSecondsOf(descendantsOf(pids, processes), processes)
}
