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
  const tree = descendantsOf(pids, readProcesses())
  let peakKib = 0
  for (const pid of tree) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    peakKib += Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0)
  }
  return { cpuSeconds: cpuSecondsOf(tree, readProcesses()), peakMiB: peakKib / 1_024 }
}
