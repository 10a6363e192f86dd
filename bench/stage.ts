/**
 * The validator's job on a backlog, by ours and by what people would use instead, in turn and interleaved.
 *
 * All read the same log, write to the same topics (emptied before each run) and are measured alike, from outside; what each
 * has written in its first run is compared with what ours has, record by record.
 */
import { describe } from '../lib/errors.ts'
import type { BenchContext, CaseResult } from './context.ts'
import { startStageCluster } from './stageCluster.ts'
import { findDifferences, type OutputPrint, readOutput } from './stageCompare.ts'
import { prepareStreams } from './stageJava.ts'
import { type LimitFigures, measureLimit } from './stageLimit.ts'
import { naive, ours, platformatic, runId, type StagePeer, streams } from './stagePeers.ts'
import { preparePlatformatic } from './stagePlatformatic.ts'
import { measurePeer, type StageFigures } from './stageRun.ts'
import { stageTables, stageTargets } from './stageTables.ts'

const ORDERS = 1_000_000
const QUICK_ORDERS = 150_000

/** Those that the target does not speak of are given less, so that all of it takes minutes. */
const ORDERS_OF_OTHERS = 300_000

/** A peer, and in how many of the rounds it takes part, from the first on. */
interface Entry {
  peer: StagePeer
  rounds: number
}

export interface StageOutcome {
  orders: number
  orderBytes: number
  peers: StagePeer[]
  figures: StageFigures[]
  /** By the peer's id: what differs from what ours wrote, empty when nothing does. Of those that do the whole job. */
  differences: Record<string, string[]>
  limit: LimitFigures | undefined
  /** Peers that could not be measured, and why. */
  leftOut: string[]
}

/** The pair that the target speaks of. */
export const OURS = ours(2)
export const STREAMS = streams({ guarantee: 'exactly_once_v2', threads: 2, job: 'validate' })
export const NAIVE = naive()

export async function runStageCase(context: BenchContext): Promise<CaseResult> {
  const orders = context.orders ?? (context.isQuick ? QUICK_ORDERS : ORDERS)
  await prepareStreams(context.say)
  const leftOut: string[] = []
  const directory = context.isQuick ? undefined : await preparePlatformatic(context.say).catch(leaveOut)
  const cluster = await startStageCluster(context, orders)
  try {
    const plan = planOf(context, directory)
    const outcome: StageOutcome = {
      ...{ orders, orderBytes: cluster.orderBytes, peers: plan.map(({ peer }) => peer) },
      ...{ figures: [], differences: {}, limit: undefined, leftOut },
    }
    let expected: OutputPrint | undefined
    for (let round = 1; round <= context.rounds; round++) {
      for (const { peer } of ofRound(plan, round)) {
        const figures = await measurePeer(context, cluster, peer, round)
        outcome.figures.push(figures)
        context.say(describeRun(peer, figures))
        if (round > 1 || peer.job !== 'validate') continue
        const output = await readOutput(cluster, peer.group({ id: runId(peer, round) }))
        expected ??= output
        const given = peer.orders(orders)
        const isPart = given < orders
        outcome.differences[peer.id] = findDifferences(expected, output, { orders: given, isPart })
      }
    }
    if (!context.isQuick) outcome.limit = await measureLimit(context, cluster)
    return {
      name: 'stage',
      tables: stageTables(outcome),
      targets: stageTargets(outcome),
      raw: { ...outcome, peers: outcome.peers.map(({ id, title }) => ({ id, title })) },
    }
  } finally {
    await cluster.stop()
  }

  function leaveOut(error: unknown): undefined {
    const [why] = describe(error).split('\n')
    const line = `@platformatic/kafka is left out, it could not be installed: ${why}`
    leftOut.push(line)
    context.say(line)
  }
}

/** Ours and Streams in turn: whoever comes second finds the machine as the other left it. */
function ofRound(plan: readonly Entry[], round: number): Entry[] {
  const [one, other, ...rest] = plan.filter(({ rounds }) => round <= rounds)
  return round % 2 === 0 ? [other!, one!, ...rest] : [one!, other!, ...rest]
}

/**
 * Who takes part how often: the pair that the target speaks of in every round, with the naive loop, the others once.
 * Ours comes first in the first round: what it writes is what is expected.
 */
function planOf({ rounds, isQuick }: BenchContext, directory: string | undefined): Entry[] {
  const always = [OURS, STREAMS, NAIVE].map((peer) => ({ peer, rounds }))
  if (isQuick) return always
  const others = [
    ours(1),
    streams({ guarantee: 'exactly_once_v2', threads: 1, job: 'validate' }),
    streams({ guarantee: 'at_least_once', threads: 2, job: 'validate' }),
    streams({ guarantee: 'at_least_once', threads: 1, job: 'validate' }),
    ...(directory ? [platformatic(directory)] : []),
    ours(2, 'copy'),
    streams({ guarantee: 'exactly_once_v2', threads: 2, job: 'copy' }),
    ...(directory ? [platformatic(directory, 'copy')] : []),
    naive('copy'),
  ]
  const given = (peer: StagePeer) => ({
    ...peer,
    orders: (all: number) => Math.min(peer.orders(all), ORDERS_OF_OTHERS),
  })
  return [...always, ...others.map((peer) => ({ peer: given(peer), rounds: 1 }))]
}

function describeRun({ title, job }: StagePeer, figures: StageFigures): string {
  const rate = Math.round(figures.ordersPerSecond).toLocaleString('en-GB')
  return `  ${title}${job === 'copy' ? ', bare' : ''}: ${rate} orders/s, ${figures.cpuMicrosPerOrder.toFixed(1)} µs each`
}
