/** Those who do the validator's job in the case *stage*, each as one or more processes. */
import type { ChildProcess } from 'node:child_process'
import { ended, startScript, stopScript } from '../lib/childProcesses.ts'
import { STAGE_PREFIX, type StageCluster } from './stageCluster.ts'
import { type StreamsPeer, startStreams, stopStreams } from './stageJava.ts'
import { startPlatformatic } from './stagePlatformatic.ts'

export const NAIVE_ORDERS = 10_000

/** The validator's whole job, or only to copy records with a header. */
export type StageJob = 'validate' | 'copy'

export interface StagePeer {
  /** In a word, for figures: 'ours-1' */
  id: string
  /** For people: 'ours, exactly-once, 1 process'. */
  title: string
  job: StageJob
  /** The share of the backlog that it is given; the naive loop would need minutes for all of it. */
  orders(all: number): number
  /** @returns its processes, and the consumer group whose commits tell how far it is */
  start(cluster: StageCluster, run: PeerRun): Promise<RunningPeer>
  /** The group of this run. */
  group(run: Pick<PeerRun, 'id'>): string
}

/** The id of a peer's run in a round. */
export function runId({ id }: Pick<StagePeer, 'id'>, round: number): string {
  return `${id}-${round}`
}

export interface PeerRun {
  /** Of its own, and empty. */
  dataDir: string
  /** Unique among the runs of the case. */
  id: string
  round: number
  say(line: string): void
}

export interface RunningPeer {
  pids: number[]
  /** Resolves with a reason as soon as one of its processes has ended. */
  ended: Promise<string>
  stop(): Promise<void>
}

/** Takes processes together. */
export function asPeer(children: ChildProcess[], stop: (child: ChildProcess) => Promise<void>): RunningPeer {
  return {
    pids: children.map(({ pid }) => pid!),
    ended: Promise.race(
      children.map(async (child) => `process ${child.pid} ended with ${await ended(child)}`),
    ),
    stop: async () => void (await Promise.all(children.map(stop))),
  }
}

/** validator.ts itself; for the job `copy`, its loop with nothing to decide. */
export function ours(processes: 1 | 2, job: StageJob = 'validate'): StagePeer {
  return {
    id: `ours-${processes}${suffix(job)}`,
    title: `ours, exactly-once, ${processes === 1 ? '1 process' : `${processes} processes`}`,
    job,
    orders: (all) => all,
    group: () => `${STAGE_PREFIX}validator`,
    async start({ env }, { say }) {
      const script = job === 'validate' ? 'validator.ts' : 'bench/peers/copy.ts'
      const start = () => startScript({ script, env, print: say })
      return asPeer(Array.from({ length: processes }, start), stopScript)
    },
  }
}

/** One message at a time: it is given no more than it can do in some seconds. */
export function naive(job: StageJob = 'validate'): StagePeer {
  return {
    id: `naive${suffix(job)}`,
    title: 'naive loop, at-least-once',
    job,
    orders: (all) => Math.min(all, NAIVE_ORDERS),
    group: ({ id }) => id,
    async start({ env }, { id, say }) {
      const script = 'bench/peers/naive.ts'
      const child = startScript({ script, env: { ...env, JOB: job, GROUP: id }, print: say })
      return asPeer([child], stopScript)
    },
  }
}

/** @param directory where it was installed */
export function platformatic(directory: string, job: StageJob = 'validate'): StagePeer {
  return {
    id: `platformatic${suffix(job)}`,
    title: '@platformatic/kafka, at-least-once, 1 process',
    job,
    orders: (all) => all,
    group: ({ id }) => id,
    async start({ env }, { id, say }) {
      return asPeer([startPlatformatic(directory, { ...env, JOB: job, GROUP: id }, say)], stopScript)
    },
  }
}

function suffix(job: StageJob): string {
  return job === 'copy' ? '-copy' : ''
}

export function streams(options: Pick<StreamsPeer, 'guarantee' | 'threads' | 'job'>): StagePeer {
  const { guarantee, threads, job } = options
  const short = guarantee === 'exactly_once_v2' ? 'eos' : 'alo'
  return {
    id: `streams-${short}-${threads}${suffix(job)}`,
    title: `Kafka Streams, ${guarantee}, ${threads === 1 ? '1 thread' : `${threads} threads`}`,
    job,
    orders: (all) => all,
    group: ({ id }) => `streams-${id}`,
    async start({ config }, { dataDir, id, say }) {
      const brokers = config.kafka.brokers.join(',')
      const applicationId = `streams-${id}`
      const child = await startStreams({
        ...{ ...options, brokers, topicPrefix: STAGE_PREFIX, applicationId, dataDir, say },
      })
      return asPeer([child], stopStreams)
    },
  }
}
