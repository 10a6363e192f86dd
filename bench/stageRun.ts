/** One run of one peer over the backlog, measured from outside. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../lib/async.ts'
import type { BenchContext } from './context.ts'
import type { StageCluster } from './stageCluster.ts'
import { type PeerRun, type RunningPeer, runId, type StagePeer } from './stagePeers.ts'
import { readCpuSeconds, readUse } from './stageUse.ts'

/** Of a peer's orders, not measured: compilers warm up and groups form. The same share for all, */
const WARM_UP_SHARE = 0.1
/** but no fewer than these, for a peer that is given few; of a handful, half of them. */
const LEAST_WARM_UP = 2_000
const POLL_MS = 40
/** Without a commit for so long, a run has failed. */
const STALL_MS = 60_000
const LAST_LINES = 20

export interface StageFigures {
  peer: string
  round: number
  /** Measured, without those of the warm-up. */
  orders: number
  seconds: number
  ordersPerSecond: number
  /** Of the peer and of the database together: a peer that asks it lets it work. */
  cpuMicrosPerOrder: number
  /** The database's part of it. */
  databaseCpuMicrosPerOrder: number
  brokerCpuMicrosPerOrder: number
  peakMiB: number
  /** From the start of the processes to the first commit. */
  startSeconds: number
}

/**
 * Starts a peer on the backlog and waits until it has committed all of it. The clock runs between two commits that its
 * group made, by the broker's books: nothing is asked of the peer itself.
 *
 * @throws Error when a process of it ends, or nothing is committed for a minute
 */
export async function measurePeer(
  { signal, dataDir, progress }: Pick<BenchContext, 'signal' | 'dataDir' | 'progress'>,
  cluster: StageCluster,
  peer: StagePeer,
  round: number,
): Promise<StageFigures> {
  const id = runId(peer, round)
  const lines: string[] = []
  const say = (line: string) => {
    lines.push(line)
    if (lines.length > LAST_LINES) lines.shift()
  }
  const run: PeerRun = { id, round, say, dataDir: join(dataDir, `run-${id}`) }
  await mkdir(run.dataDir, { recursive: true })
  await cluster.reset(peer.group(run))
  const running = await peer.start(cluster, run)
  try {
    const measured = await watch(cluster, peer, { run, running, signal, progress })
    return { peer: peer.id, round, ...measured }
  } catch (error) {
    throw new Error(`${peer.title}: ${(error as Error).message}\n${lines.join('\n')}`, { cause: error })
  } finally {
    await running.stop()
    await rm(run.dataDir, { recursive: true, force: true })
  }
}

interface Watched {
  run: PeerRun
  running: RunningPeer
  signal: AbortSignal
  progress(line: string): void
}

async function watch(cluster: StageCluster, peer: StagePeer, watched: Watched) {
  const { run, running, signal, progress } = watched
  const orders = peer.orders(cluster.orders)
  const warmUpOrders = Math.max(orders * WARM_UP_SHARE, Math.min(LEAST_WARM_UP, orders / 2))
  const group = peer.group(run)
  const startedMs = performance.now()
  let failure: string | undefined
  void running.ended.then((reason) => {
    failure = reason
  })
  const sample = (committed: number) => ({
    committed,
    atMs: performance.now(),
    use: readUse(running.pids),
    databaseCpuSeconds: readCpuSeconds([cluster.databasePid]),
    brokerCpuSeconds: readCpuSeconds([cluster.brokerPid]),
  })
  let first: ReturnType<typeof sample> | undefined
  let firstCommitMs: number | undefined
  let before = 0
  let changedMs = performance.now()
  for (;;) {
    const committed = (await fetchCommitted(cluster, group)) ?? before
    const nowMs = performance.now()
    if (committed > 0) firstCommitMs ??= nowMs
    progress(`${peer.title}, round ${run.round}: ${Math.floor((100 * committed) / orders)} %`)
    if (committed !== before) {
      before = committed
      changedMs = nowMs
    }
    if (!first && committed >= warmUpOrders) first = sample(committed)
    if (first && committed >= orders) {
      return toFigures(first, sample(committed), (firstCommitMs! - startedMs) / 1_000)
    }
    if (failure !== undefined) throw new Error(failure)
    if (signal.aborted) throw new Error('it was interrupted')
    if (nowMs - changedMs > STALL_MS) throw new Error(`nothing was committed for a minute, at ${committed}`)
    await sleep(POLL_MS, signal)
  }

  function toFigures(
    from: ReturnType<typeof sample>,
    to: ReturnType<typeof sample>,
    startSeconds: number,
  ): Omit<StageFigures, 'peer' | 'round'> {
    const done = to.committed - from.committed
    const seconds = (to.atMs - from.atMs) / 1_000
    if (done === 0) throw new Error(`all ${orders} orders came in one commit: too few to be measured`)
    const microsPerOrder = (cpuSeconds: number) => (cpuSeconds * 1e6) / done
    const databaseCpuSeconds = to.databaseCpuSeconds - from.databaseCpuSeconds
    const peerCpuSeconds = to.use.cpuSeconds - from.use.cpuSeconds
    return {
      orders: done,
      seconds,
      ordersPerSecond: done / seconds,
      cpuMicrosPerOrder: microsPerOrder(peerCpuSeconds + databaseCpuSeconds),
      databaseCpuMicrosPerOrder: microsPerOrder(databaseCpuSeconds),
      brokerCpuMicrosPerOrder: microsPerOrder(to.brokerCpuSeconds - from.brokerCpuSeconds),
      peakMiB: to.use.peakMiB,
      startSeconds,
    }
  }
}

/** What the group has committed of the backlog, over all partitions; undefined while its coordinator is being found. */
async function fetchCommitted({ admin, config }: StageCluster, group: string): Promise<number | undefined> {
  try {
    const [topic] = await admin.fetchOffsets({ groupId: group, topics: [config.topics.ordersRaw.name] })
    return topic!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  } catch (error) {
    if ((error as { retriable?: boolean }).retriable !== true) throw error
    return undefined
  }
}
