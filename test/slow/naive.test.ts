import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { test } from 'node:test'
import { runScript } from '../../lib/childProcesses.ts'
import type { FaultReport } from '../../lib/faultReport.ts'

test('services without guarantees do things twice under the same faults, and the fault run says so', async (t) => {
  const said: string[] = []
  const { status, lines: output } = await runScript({
    script: 'tools/chaos.ts',
    args: ['--naive', '--seconds', '45', '--faults', '12', '--rate', '60', '--seed', '4', '--json'],
    env: { ...process.env, LOG_LEVEL: 'warn' },
    print: (line) => said.push(line),
    signal: t.signal,
  })
  const failure = `${said.slice(-30).join('\n')}\n${output.join('\n').slice(0, 5_000)}`
  // 1 is also the status of a run that broke down: only the report tells.
  assert.equal(status, 1, failure)
  const { ok, audit } = JSON.parse(output.join('')) as FaultReport
  assert.deepEqual([ok, audit.ok], [false, false], failure)
  // Whether something is lost as well is a matter of moments.
  assert.ok(audit.totals.duplicated > 0, failure)
  assert.ok(audit.totals.chargedTwice > 0, failure)
  await removeState(said)
})

/** A run that has failed keeps its state; here it was to fail, and nobody needs it. */
async function removeState(said: readonly string[]): Promise<void> {
  const [, directory] = /^State and the log of each process are in (.+)\.$/m.exec(said.join('\n')) ?? []
  assert.ok(directory, said.slice(-5).join('\n'))
  await rm(directory, { recursive: true, force: true })
}
