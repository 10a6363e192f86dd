/**
 * A look at the whole pipeline in two or three minutes, for whoever changes it: the sustained rate, and the CPU of each
 * process for each order.
 *
 *   --rate R     this rate alone, in place of the search for the sustained one
 *   --seconds N  of each window, 10 by default
 *   --naive      the naive services in place of ours;  --at-once  with all partitions at once
 *   --json       the figures as one JSON object
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { runMain } from '../lib/service.ts'
import type { BenchContext } from './context.ts'
import { NAIVE, NAIVE_AT_ONCE } from './naive/kind.ts'
import { pipelineTables } from './pipeline.ts'
import { OURS, runPipeline, USUAL_PACING } from './pipelineRun.ts'

const FLAGS = {
  rate: { type: 'string' },
  seconds: { type: 'string' },
  naive: { type: 'boolean' },
  'at-once': { type: 'boolean' },
  json: { type: 'boolean' },
} as const

await runMain('bench', 'A look at the whole pipeline.', FLAGS, async ({ signal }, flags) => {
  const say = (line: string) => console.error(line)
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
  const context: BenchContext = {
    ...{ say, progress: say, isQuick: false, rounds: 1, orders: undefined, signal, dataDir },
  }
  const number = (flag: 'rate' | 'seconds', text: string) =>
    readNumberFlag(flag, text, { min: 1, max: 100_000, isWhole: true })
  const rate = flags.rate === undefined ? undefined : number('rate', flags.rate)
  const windowSeconds = number('seconds', flags.seconds ?? String(USUAL_PACING.windowSeconds))
  try {
    const naive = flags['at-once'] ? NAIVE_AT_ONCE : NAIVE
    const kind = flags.naive || flags['at-once'] ? naive : OURS
    const figures = await runPipeline(context, kind, { ...USUAL_PACING, windowSeconds }, rate)
    if (flags.json) console.log(JSON.stringify(figures))
    else {
      for (const { title, header, rows } of pipelineTables([figures])) {
        console.log([title, ...[header, ...rows].map((row) => row.join('\t'))].join('\n'))
      }
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
})
