/** Validators started on a backlog, and watched from outside until they have worked it off. */

import { createKafka } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { ended, startScript, stopScript } from '../lib/childProcesses.ts'
import type { Backlog } from './backlogCluster.ts'
import { cpuBetween, type Pids, type ProcessUse, readUse } from './processUse.ts'

export interface BacklogRun {
  /** Measured: all but the warm-up. */
  orders: number
  seconds: number
  ordersPerSecond: number
  cpuMicrosPerOrder: number
  brokerCpuMicrosPerOrder: number
  /** The most that any of the instances ever held. */
  peakMiB: number
  /** From the start of the processes to the first commit. */
  startSeconds: number
  /** Of all that was to be done, with the warm-up, from the start of the processes to the last commit. */
  ordersPerSecondFromStart: number
  /** How far it was, a reading for each tenth of what is measured. */
  progress: { orders: number; seconds: number }[]
}

export interface BacklogRunOptions {
  backlog: Backlog
  instances: number
  brokerPid: number
  /** Of what is left to do, not measured: compilers warm up and groups form. */
  warmUpOrders: number
  signal: AbortSignal
  say(line: string): void
}

const POLL_MS = 50
/** Without a commit for so long, it has failed. */
const STALL_MS = 60_000
const READINGS = 10

/**
 * Works off all that is left of a backlog. The clock runs between two commits, by the broker's books.
 *
 * @throws Error when an instance ends, or nothing is committed for a minute
 */
export async function workOff(options: BacklogRunOptions): Promise<BacklogRun> {
  const { backlog, instances, brokerPid, warmUpOrders, signal, say } = options
  const { config, env, log } = backlog
  const admin = createKafka(config, 'bench-books', log).admin()
  await admin.connect()
  const groupId = `${config.topicPrefix}validator`
  let committed = 0
  const fetchCommitted = async () => {
    try {
      const [topic] = await admin.fetchOffsets({ groupId, topics: [config.topics.ordersRaw.name] })
      committed = topic!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
    } catch (error) {
      // The group is new, and its coordinator is being found.
      if ((error as { retriable?: boolean }).retriable !== true) throw error
    }
    return committed
  }
  const doneBefore = await fetchCommitted()
  const startedMs = performance.now()
  const children = Array.from({ length: instances }, () =>
    startScript({ script: 'validator.ts', env, print: say }),
  )
  const pids: Pids = {
    ...Object.fromEntries(children.map(({ pid }, index) => [`validator-${index + 1}`, pid!])),
    broker: brokerPid,
  }
  let failure: string | undefined
  for (const child of children) {
    void ended(child).then((status) => {
      failure ??= `a validator ended with ${status}`
    })
  }
  const read = async () => ({ done: await fetchCommitted(), atMs: performance.now(), use: readUse(pids) })
  try {
    const first = await until(doneBefore + 1)
    const from = warmUpOrders > 0 ? await until(doneBefore + warmUpOrders) : first
    const all = backlog.orders - from.done
    const readings: { orders: number; seconds: number }[] = []
    let to = from
    for (let tenth = 1; tenth <= READINGS; tenth++) {
      to = await until(tenth === READINGS ? backlog.orders : from.done + Math.floor((all * tenth) / READINGS))
      readings.push({ orders: to.done - from.done, seconds: (to.atMs - from.atMs) / 1_000 })
    }
    const seconds = (to.atMs - from.atMs) / 1_000
    const { broker: brokerCpu, ...cpu } = cpuBetween(from.use, to.use)
    const cpuSeconds = Object.values(cpu).reduce((sum, taken) => sum + taken, 0)
    return {
      orders: all,
      seconds,
      ordersPerSecond: all / seconds,
      cpuMicrosPerOrder: (cpuSeconds * 1e6) / all,
      brokerCpuMicrosPerOrder: (brokerCpu! * 1e6) / all,
      peakMiB: Math.max(...Object.keys(cpu).map((name) => peakOf(name, to.use))),
      startSeconds: (first.atMs - startedMs) / 1_000,
      ordersPerSecondFromStart: ((to.done - doneBefore) * 1_000) / (to.atMs - startedMs),
      progress: readings,
    }
  } finally {
    await Promise.all(children.map(stopScript))
    await admin.disconnect()
  }

  /** Waits until so many orders of the topic are committed. */
  async function until(orders: number): Promise<Awaited<ReturnType<typeof read>>> {
    let before = -1
    let changedMs = performance.now()
    for (;;) {
      const now = await read()
      if (now.done >= orders) return now
      if (failure !== undefined) throw new Error(failure)
      signal.throwIfAborted()
      if (now.done !== before) changedMs = now.atMs
      before = now.done
      if (now.atMs - changedMs > STALL_MS) throw new Error(`nothing was committed for a minute, at ${before}`)
      await sleep(POLL_MS, signal)
    }
  }
}

/** @throws Error when the kernel does not tell: it must not pass for little */
function peakOf(name: string, use: Record<string, ProcessUse>): number {
  const peakMiB = use[name]?.peakMiB
  if (peakMiB === undefined) throw new Error(`the peak memory of ${name} is not known`)
  return peakMiB
}
