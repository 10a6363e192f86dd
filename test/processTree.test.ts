import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { cpuSecondsOf, descendantsOf, hasProcessTimes, parseStat, readProcesses } from '../lib/processTree.ts'

describe('what processes have used', () => {
  it('is read behind a name that can hold anything', () => {
    const numbers = '1 1 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 11 0'
    assert.deepEqual(parseStat(`42 (a) b (c) S 7 ${numbers}`), { parent: 7, cpuSeconds: 2.5 })
  })

  it('is that of a process with all that it has started, and of no other', () => {
    const of = (parent: number, cpuSeconds: number) => ({ parent, cpuSeconds })
    const processes = new Map([
      [1, of(0, 100)],
      [30, of(20, 4)],
      [20, of(10, 2)],
      [10, of(1, 1)],
      [11, of(1, 8)],
    ])
    const found = descendantsOf([10, 99], processes)
    assert.deepEqual([...found].sort(), [10, 20, 30])
    assert.equal(cpuSecondsOf(found, processes), 7)
  })

  it('grows with what a child of ours does', async (t) => {
    if (!hasProcessTimes()) return t.skip('this system has no /proc')
    const busy = 'while (process.cpuUsage().user < 200_000); console.log(1); setInterval(() => 0, 1e6)'
    const child = spawn(process.execPath, ['-e', busy], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.after(() => child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    const processes = readProcesses()
    const ours = descendantsOf([process.pid], processes)
    assert.ok(ours.has(child.pid!))
    assert.ok(cpuSecondsOf([child.pid!], processes) > 0.1)
  })
})
