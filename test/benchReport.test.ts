/** How `npm run bench` shows its tables. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pipelineTables } from '../bench/pipeline.ts'
import { OURS, type PipelineFigures } from '../bench/pipelineRun.ts'
import { type Machine, toMarkdown, toText } from '../bench/report.ts'

const MACHINE: Machine = {
  ...{
    cores: 2,
    processor: 'any',
    memoryGiB: 8,
    system: 'linux',
    node: 'v20',
    java: '17',
    kafka: '4',
    postgres: '18',
  },
  ...{ commit: 'abc', at: '2026-01-02T03:04:05.678Z' },
}

function resultWith(row: string[]) {
  const table = { title: 'Rates', header: ['peer', 'orders/s'], rows: [['ours', '2'], row] }
  return [{ name: 'stage', tables: [table], targets: [], raw: undefined }]
}

test('a row of another width than the headings is refused', () => {
  for (const show of [toText, toMarkdown]) {
    assert.match(show(MACHINE, resultWith(['theirs', '1'])), /theirs/)
    for (const row of [['theirs'], ['theirs', '1', 'more']]) {
      assert.throws(
        () => show(MACHINE, resultWith(row)),
        /^Error: Rates: a row of \d cells under 2 headings: theirs/,
      )
    }
  }
})

test('the tables of the case pipeline have a heading for each cell', () => {
  const step = {
    ...{ ratePerSecond: 300, placedPerSecond: 300, isSustained: true, reason: '', orders: 2_400, cores: 1.5 },
    ...{
      furthestBehind: { place: 'validator orders.raw', seconds: 0.1 },
      cpuMsPerOrder: { validator: 1 },
      use: {},
    },
  }
  const figures: PipelineFigures[] = [
    { name: OURS.name, best: step, firstTooHigh: undefined, steps: [step], peakMiB: { validator: 90 } },
    { name: 'none', best: undefined, firstTooHigh: 300, steps: [step], peakMiB: {} },
  ]
  const results = [{ name: 'pipeline', tables: pipelineTables(figures), targets: [], raw: undefined }]
  assert.match(toMarkdown(MACHINE, results), /\| ours against it \|/)
})
