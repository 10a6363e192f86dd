/** What the runs of the case *stage* say: medians, ratios within a round, and whether the targets are met. */
import { formatCount } from '../lib/text.ts'
import type { BenchTable, BenchTarget } from './context.ts'
import { describeSpread, spreadOf } from './spread.ts'
import type { StageOutcome } from './stage.ts'
import type { StagePeer } from './stagePeers.ts'
import type { StageFigures } from './stageRun.ts'

const OURS_ID = 'ours-2'
const STREAMS_ID = 'streams-eos-2'
const NAIVE_ID = 'naive'

type Figure = 'ordersPerSecond' | 'cpuMicrosPerOrder'

/** In each round in which both ran: what one reached, divided by what the other did. */
export function ratios(figures: readonly StageFigures[], one: string, other: string, of: Figure): number[] {
  const found: number[] = []
  for (const a of figures.filter(({ peer }) => peer === one)) {
    const b = figures.find(({ peer, round }) => peer === other && round === a.round)
    if (b) found.push(a[of] / b[of])
  }
  return found
}

export function stageTables(outcome: StageOutcome): BenchTable[] {
  const { orders, orderBytes, limit, peers, leftOut } = outcome
  const tables = [
    tableOf(
      outcome,
      'validate',
      `The validator's job on ${formatCount(orders)} orders of ${Math.round(orderBytes)} bytes`,
    ),
  ]
  if (peers.some(({ job }) => job === 'copy')) {
    tables.push(tableOf(outcome, 'copy', 'The client alone: each record copied with a header'))
  }
  if (limit) {
    tables.push({
      title: "The limit: Kafka's own tools on the same records",
      header: ['tool', 'records/s'],
      rows: [
        ['kafka-producer-perf-test', formatCount(Math.round(limit.producedPerSecond))],
        ['kafka-consumer-perf-test', formatCount(Math.round(limit.consumedPerSecond))],
      ],
    })
  }
  tables[0]!.notes!.push(...leftOut)
  return tables
}

function tableOf(
  { figures, peers, differences }: StageOutcome,
  job: StagePeer['job'],
  title: string,
): BenchTable {
  const ofJob = peers.filter((peer) => peer.job === job)
  const reference = job === 'copy' ? `${STREAMS_ID}-copy` : STREAMS_ID
  return {
    title,
    header: [
      'peer',
      'orders/s',
      'against Streams EOS 2',
      'µs of CPU, peer and database',
      'of these the database',
      'the broker besides',
      'peak MiB',
      'rounds',
      'output',
    ],
    rows: ofJob.map(({ id, title: name }) => {
      const runs = figures.filter(({ peer }) => peer === id)
      const median = (of: keyof StageFigures) => spreadOf(runs.map((run) => Number(run[of]))).median
      return [
        name,
        formatCount(Math.round(median('ordersPerSecond'))),
        describeSpread(ratios(figures, id, reference, 'ordersPerSecond')),
        median('cpuMicrosPerOrder').toFixed(1),
        median('databaseCpuMicrosPerOrder').toFixed(1),
        median('brokerCpuMicrosPerOrder').toFixed(1),
        formatCount(Math.round(median('peakMiB'))),
        String(runs.length),
        outputOf(differences[id]),
      ]
    }),
    notes: [
      'Medians; the ratio is that of orders/s within a round, with the lowest and the highest.',
      ...Object.entries(differences).flatMap(([id, lines]) =>
        lines.slice(0, 3).map((line) => `${id}: ${line}`),
      ),
    ],
  }
}

function outputOf(differences: string[] | undefined): string {
  if (differences === undefined) return ''
  return differences.length === 0 ? 'the same' : 'DIFFERS'
}

export function stageTargets({ figures, differences }: StageOutcome): BenchTarget[] {
  const rate = ratios(figures, OURS_ID, STREAMS_ID, 'ordersPerSecond')
  const cpu = ratios(figures, OURS_ID, STREAMS_ID, 'cpuMicrosPerOrder')
  const naive = ratios(figures, OURS_ID, NAIVE_ID, 'ordersPerSecond')
  const differing = Object.entries(differences).filter(([, lines]) => lines.length > 0)
  return [
    {
      what: 'orders/s exactly-once, against Kafka Streams exactly_once_v2 with two threads',
      wanted: 'at least 1.0',
      got: describeSpread(rate),
      isMet: spreadOf(rate).median >= 1,
    },
    {
      what: 'CPU per order of peer and database, against the same',
      wanted: 'at most 1.0',
      got: describeSpread(cpu),
      isMet: spreadOf(cpu).median <= 1,
    },
    {
      what: 'orders/s, against the naive loop',
      wanted: 'at least 15',
      got: describeSpread(naive),
      isMet: spreadOf(naive).median >= 15,
    },
    {
      what: 'outputs, record by record',
      wanted: 'the same',
      got: differing.length === 0 ? 'the same' : `different: ${differing.map(([id]) => id).join(', ')}`,
      isMet: differing.length === 0,
    },
  ]
}
