/**
 * How the validator does with what lies before it: backlogs of 10 thousand to 5 million orders, 1 to 12 partitions, 1 to
 * 4 instances, and a million orders that came while it was off. Time and memory for each order must not grow.
 */
import { type Backlog, type BacklogCluster, startBacklogCluster } from './backlogCluster.ts'
import { type BacklogRun, workOff } from './backlogRun.ts'
import type { BenchContext, BenchTable, BenchTarget, CaseResult } from './context.ts'
import { spreadOf } from './spread.ts'

interface Figures extends BacklogRun {
  what: 'size' | 'partitions' | 'instances' | 'outage'
  partitions: number
  instances: number
  backlog: number
}

interface Sizes {
  backlogs: number[]
  /** For partitions, instances and the outage. */
  usual: number
  /** Before what is measured, in each run. */
  warmUp: number
  /** How often small backlogs are measured. */
  repeats: number
}

const USUAL_SIZES: Sizes = {
  backlogs: [10_000, 100_000, 1_000_000, 5_000_000],
  usual: 1_000_000,
  warmUp: 200_000,
  repeats: 5,
}
const QUICK_SIZES: Sizes = {
  backlogs: [10_000, 100_000, 300_000],
  usual: 200_000,
  warmUp: 50_000,
  repeats: 1,
}
const PARTITIONS = [1, 3, 6, 12]
const USUAL_PARTITIONS = 6
const INSTANCES = [1, 2, 4]
/** Less takes so little time that a poll more or less counts, so the median of several is taken. */
const REPEATED_BELOW = 200_000

const MAX_GROWTH = 1.1
const MAX_MEMORY_MIB = 200
const LEAST_RECOVERY = 0.8

export async function runGrowthCase(context: BenchContext): Promise<CaseResult> {
  const sizes = context.isQuick ? QUICK_SIZES : USUAL_SIZES
  const cluster = await startBacklogCluster(context)
  try {
    const figures = [
      ...(await measureSizes(context, cluster, sizes)),
      ...(await measurePartitions(context, cluster, sizes)),
      ...(await measureInstances(context, cluster, sizes)),
      await measureOutage(context, cluster, sizes),
    ]
    return { name: 'growth', tables: toTables(figures), targets: toTargets(figures, sizes), raw: figures }
  } finally {
    await cluster.stop()
  }
}

/** What is measured lies behind a warm-up of the same size for all, so that none is measured while it compiles. */
async function measureSizes(
  context: BenchContext,
  cluster: BacklogCluster,
  { backlogs, warmUp, repeats }: Sizes,
) {
  const figures: Figures[] = []
  for (const size of backlogs) {
    const backlog = await cluster.createBacklog(`size-${size}`, USUAL_PARTITIONS)
    for (let repeat = 0; repeat < (size < REPEATED_BELOW ? repeats : 1); repeat++) {
      await backlog.grow(warmUp + size)
      figures.push(await measure(context, cluster, backlog, { what: 'size', instances: 1, warmUp, size }))
    }
    await backlog.remove()
  }
  return figures
}

async function measurePartitions(context: BenchContext, cluster: BacklogCluster, { usual, warmUp }: Sizes) {
  const figures: Figures[] = []
  for (const partitions of PARTITIONS) {
    const backlog = await cluster.createBacklog(`partitions-${partitions}`, partitions)
    await backlog.grow(warmUp + usual)
    const run = { what: 'partitions', instances: 1, warmUp, size: usual } as const
    figures.push(await measure(context, cluster, backlog, run))
    await backlog.remove()
  }
  return figures
}

async function measureInstances(context: BenchContext, cluster: BacklogCluster, { usual, warmUp }: Sizes) {
  const figures: Figures[] = []
  for (const instances of INSTANCES) {
    const backlog = await cluster.createBacklog(`instances-${instances}`, USUAL_PARTITIONS)
    await backlog.grow(warmUp + usual)
    const run = { what: 'instances', instances, warmUp, size: usual } as const
    figures.push(await measure(context, cluster, backlog, run))
    await backlog.remove()
  }
  return figures
}

/**
 * It runs, is stopped, orders pile up, and it is started again, with its window of duplicates to be rebuilt: the target takes
 * the time from that start to the last commit.
 */
async function measureOutage(context: BenchContext, cluster: BacklogCluster, { usual, warmUp }: Sizes) {
  const backlog = await cluster.createBacklog('outage', USUAL_PARTITIONS)
  await backlog.grow(warmUp)
  await measure(context, cluster, backlog, { what: 'outage', instances: 1, warmUp: 0, size: warmUp })
  await backlog.grow(usual)
  return measure(context, cluster, backlog, { what: 'outage', instances: 1, warmUp: 0, size: usual })
}

async function measure(
  { say, signal }: BenchContext,
  { brokerPid }: BacklogCluster,
  backlog: Backlog,
  run: { what: Figures['what']; instances: number; warmUp: number; size: number },
): Promise<Figures> {
  const { what, instances, warmUp: warmUpOrders, size } = run
  const measured = await workOff({ backlog, instances, brokerPid, warmUpOrders, signal, say })
  const { ordersPerSecond, peakMiB } = measured
  say(
    `${what}: ${size} orders, ${instances} instances: ${Math.round(ordersPerSecond)}/s, ${Math.round(peakMiB)} MiB`,
  )
  return { ...measured, what, instances, partitions: backlog.config.partitions, backlog: size }
}

function toTables(figures: readonly Figures[]): BenchTable[] {
  const title = {
    size: 'size of the backlog',
    partitions: 'partitions',
    instances: 'instances',
    outage: 'an outage',
  }
  return (Object.keys(title) as Figures['what'][]).map((what) => ({
    title: `Growth, the validator by ${title[what]}`,
    header: [
      'backlog',
      'partitions',
      'instances',
      'orders/s',
      'µs per order',
      'CPU µs',
      'broker CPU µs',
      'memory MiB',
      'orders/s from the start',
    ],
    rows: figures
      .filter((figure) => figure.what === what)
      .map((figure) => [
        String(figure.backlog),
        ...[figure.partitions, figure.instances, Math.round(figure.ordersPerSecond)].map(String),
        ...[1e6 / figure.ordersPerSecond, figure.cpuMicrosPerOrder, figure.brokerCpuMicrosPerOrder].map(
          (value) => value.toFixed(1),
        ),
        String(Math.round(figure.peakMiB)),
        String(Math.round(figure.ordersPerSecondFromStart)),
      ]),
    notes: [
      'Memory is the most that an instance ever held, as the kernel counts it.',
      'From the start: of all orders, the warm-up among them, from the start of the processes to the last commit.',
    ],
  }))
}

function toTargets(figures: readonly Figures[], { backlogs, usual }: Sizes): BenchTarget[] {
  const microsOf = (size: number) => {
    const runs = figures.filter(({ what, backlog }) => what === 'size' && backlog === size)
    return 1e6 / spreadOf(runs.map(({ ordersPerSecond }) => ordersPerSecond)).median
  }
  const largest = backlogs.at(-1)!
  const growth = microsOf(largest) / microsOf(backlogs[1]!)
  const peak = Math.max(...figures.map(({ peakMiB }) => peakMiB))
  const outage = figures.find(({ what }) => what === 'outage')!
  const stage = figures.find(
    ({ what, partitions }) => what === 'partitions' && partitions === USUAL_PARTITIONS,
  )!
  const recovery = outage.ordersPerSecondFromStart / stage.ordersPerSecond
  return [
    {
      what: `time per order at ${largest}, against ${backlogs[1]}`,
      wanted: `at most ${MAX_GROWTH}`,
      got: growth.toFixed(2),
      isMet: growth <= MAX_GROWTH,
    },
    {
      what: 'memory of the validator throughout',
      wanted: `under ${MAX_MEMORY_MIB} MiB`,
      got: `${Math.round(peak)} MiB`,
      isMet: peak < MAX_MEMORY_MIB,
    },
    {
      what: `rate after an outage of ${usual} orders, from the start on, against that of a warm validator`,
      wanted: `at least ${LEAST_RECOVERY}`,
      got: recovery.toFixed(2),
      isMet: recovery >= LEAST_RECOVERY,
    },
  ]
}
