/**
 * All services under load: the rate that is sustained, CPU by process, memory by process; ours and the naive one in turn.
 *
 * Each pipeline has a broker, a database and a gateway (20 ms) of its own, set up the same way, and the same load.
 */
import type { BenchContext, BenchTable, CaseResult } from './context.ts'
import { NAIVE, NAIVE_AT_ONCE } from './naive/kind.ts'
import { OURS, type PipelineFigures, QUICK_PACING, runPipeline, USUAL_PACING } from './pipelineRun.ts'

const LEAST_RATIO = 5

export async function runPipelineCase(context: BenchContext): Promise<CaseResult> {
  const pacing = context.isQuick ? QUICK_PACING : USUAL_PACING
  const kinds = context.isQuick ? [OURS, NAIVE] : [OURS, NAIVE, NAIVE_AT_ONCE]
  const figures = []
  for (const kind of kinds) figures.push(await runPipeline(context, kind, pacing))
  const [ours, naive] = figures.map(({ best }) => best?.ratePerSecond ?? 0)
  const ratio = naive === 0 ? Number.NaN : ours! / naive!
  return {
    name: 'pipeline',
    tables: pipelineTables(figures),
    targets: [
      {
        what: 'sustained rate of all services, against the same services as naive loops',
        wanted: `at least ${LEAST_RATIO}`,
        got: ratio.toFixed(1),
        isMet: ratio >= LEAST_RATIO,
      },
    ],
    raw: figures,
  }
}

/** The sustained rates, and what each process takes at them. */
export function pipelineTables(figures: readonly PipelineFigures[]): BenchTable[] {
  return [rateTable(figures), ...figures.map(useTable)]
}

function rateTable(figures: readonly PipelineFigures[]): BenchTable {
  const ours = figures.find(({ name }) => name === OURS.name)?.best
  return {
    title: 'Sustained rate of the whole pipeline',
    header: [
      'pipeline',
      'sustained/s',
      'ours against it',
      'not any more at/s',
      'why not',
      'cores busy',
      'CPU s per million orders',
    ],
    rows: figures.map(({ name, best, firstTooHigh, steps }) => [
      name,
      best ? String(best.ratePerSecond) : 'none',
      best && ours ? `${(ours.ratePerSecond / best.ratePerSecond).toFixed(1)} times` : '',
      firstTooHigh === undefined ? '' : String(firstTooHigh),
      steps.find(({ ratePerSecond }) => ratePerSecond === firstTooHigh)?.reason ?? '',
      best ? best.cores.toFixed(2) : '',
      best ? String(Math.round(sum(best.cpuMsPerOrder) * 1_000)) : '',
    ]),
    notes: [
      'Sustained: over the window no group falls behind by more than 5 % of the rate, and at its end none is 2 s of orders behind.',
      'CPU is that of everything on the machine that belongs to it: services, broker, database, gateway, load, bench.',
    ],
  }
}

function useTable({ name, best, steps, peakMiB }: PipelineFigures): BenchTable {
  const step = best ?? steps.at(-1)!
  const total = sum(step.cpuMsPerOrder)
  const rows = Object.entries(step.cpuMsPerOrder)
    .sort(([, a], [, b]) => b - a)
    .map(([process, ms]) => [
      process,
      String(Math.round(ms * 1_000)),
      `${((ms / total) * 100).toFixed(1)} %`,
      String(Math.round(peakMiB[process] ?? 0)),
    ])
  return {
    title: `CPU and memory by process at ${step.ratePerSecond} orders/s: ${name}`,
    header: ['process', 'CPU s per million orders', 'share', 'peak memory MiB'],
    rows: [...rows, ['all', String(Math.round(total * 1_000)), '', '']],
    notes: ['Memory of postgres is what all of its processes hold together, at its highest reading.'],
  }
}

function sum(values: Readonly<Record<string, number>>): number {
  return Object.values(values).reduce((total, value) => total + value, 0)
}
