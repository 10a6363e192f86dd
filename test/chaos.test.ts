import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runScript } from '../lib/childProcesses.ts'
import type { FaultReport } from '../lib/faultReport.ts'

const SECONDS = 60

test('after a minute of faults each order has come to its ends exactly once', async (t) => {
  const said: string[] = []
  const { status, lines: output } = await runScript({
    script: 'tools/chaos.ts',
    // Less than the machine can do: the other tests run beside it.
    args: ['--seconds', String(SECONDS), '--faults', '20', '--seed', '4', '--rate', '100', '--json'],
    env: { ...process.env, LOG_LEVEL: 'warn' },
    print: (line) => said.push(line),
    signal: t.signal,
  })
  const failure = `${said.slice(-30).join('\n')}\n${output.join('\n').slice(0, 5_000)}`
  assert.equal(status, 0, failure)
  const report = JSON.parse(output.join('')) as FaultReport
  assert.ok(report.ok, failure)
  const { totals } = report.audit
  assert.deepEqual([totals.lost, totals.duplicated, totals.chargedTwice], [0, 0, 0])
  assert.ok(totals.placed > SECONDS * 20, `${totals.placed} orders were placed`)
  assert.ok(report.faults.filter(({ wasApplied }) => wasApplied).length >= 15, failure)
})
