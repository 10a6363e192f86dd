/** What processes of this machine have used of its processors, as Linux tells it in /proc. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'

interface ProcessTimes {
  parent: number
  /** Of itself and of those of its children that have ended and were waited for. */
  cpuSeconds: number
}

export type Processes = ReadonlyMap<number, ProcessTimes>

/** USER_HZ, which is this on every Linux that Node runs on, whatever its kernel counts in. */
const TICKS_PER_SECOND = 100

/** Whether this system tells. */
export function hasProcessTimes(): boolean {
  return existsSync('/proc/self/stat')
}

/** All processes of this machine. */
export function readProcesses(): Processes {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return new Map(
    pids.flatMap((pid) => {
      try {
        return [[Number(pid), parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))] as const]
      } catch (error) {
        // It has ended since it was listed.
        if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
        throw error
      }
    }),
  )
}

/** @param text of /proc/<pid>/stat; see proc(5). The second field is a name in brackets, which can hold anything. */
export function parseStat(text: string): ProcessTimes {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [user, system, userOfChildren, systemOfChildren] = fields.slice(11, 15).map(Number)
  return {
    parent: Number(fields[1]),
    cpuSeconds: (user! + system! + userOfChildren! + systemOfChildren!) / TICKS_PER_SECOND,
  }
}

/** These processes and all that they have started. */
export function descendantsOf(roots: readonly number[], processes: Processes): Set<number> {
  const found = new Set(roots.filter((pid) => processes.has(pid)))
  for (let before = -1; found.size > before; ) {
    before = found.size
    for (const [pid, { parent }] of processes) if (found.has(parent)) found.add(pid)
  }
  return found
}

/** What these processes have used, with all that they have started. */
export function cpuSecondsOf(pids: Iterable<number>, processes: Processes): number {
  let sum = 0
  for (const pid of pids) sum += processes.get(pid)?.cpuSeconds ?? 0
  return sum
}
