import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { fetchPositions, type GroupPosition, type WorkingGroup } from './groupLag.ts'

/** One look: who stood still at that time. */
export interface Look {
  atMs: number
  /** Groups with a partition that has work to do and did none of it for a while; everybody when Kafka did not say. */
  stalled: readonly string[]
}

/** A partition stands still when it has work that was there so long ago, and has not moved since. */
export const STALL_MS = 1_000
const POLL_MS = 500

/** Watches from outside whether all partitions are worked on: by Kafka's own books, not by what services say. */
export class RecoveryWatch {
  readonly #kafka: Kafka
  readonly #groups: readonly WorkingGroup[]
  readonly #sinceMs: number
  readonly #stop = new AbortController()
  readonly looks: Look[] = []
  /** Positions as they were, the oldest first, no more than needed. */
  readonly #history: { atMs: number; positions: ReadonlyMap<string, GroupPosition> }[] = []
  readonly #running: Promise<void>

  /** @param sinceMs what times are counted from, by performance.now() */
  constructor(kafka: Kafka, groups: readonly WorkingGroup[], sinceMs: number) {
    this.#kafka = kafka
    this.#groups = groups
    this.#sinceMs = sinceMs
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let stalled: string[]
      try {
        stalled = this.#compare(await fetchPositions(this.#kafka, this.#groups))
      } catch {
        // Whatever the reason: who cannot be asked cannot be said to work.
        stalled = this.#groups.map(({ group }) => group)
      }
      this.looks.push({ atMs: performance.now() - this.#sinceMs, stalled })
      await sleep(POLL_MS, this.#stop.signal)
    }
  }

  #compare(positions: readonly GroupPosition[]): string[] {
    const atMs = performance.now()
    const history = this.#history
    while (history.length > 1 && history[1]!.atMs <= atMs - STALL_MS) history.shift()
    const isOldEnough = history[0] !== undefined && history[0].atMs <= atMs - STALL_MS
    const keyOf = ({ group, topic, partition }: GroupPosition) => `${group} ${topic}/${partition}`
    const stalled = new Set<string>()
    for (const position of isOldEnough ? positions : []) {
      const before = history[0]!.positions.get(keyOf(position))!
      if (position.committed === before.committed && before.committed < before.end)
        stalled.add(position.group)
    }
    history.push({ atMs, positions: new Map(positions.map((position) => [keyOf(position), position])) })
    return [...stalled]
  }
}

/**
 * How long after `fromMs` nobody stood still any more, as seen until `toMs`: 0 when nobody did at all, undefined when
 * somebody still did at the end.
 */
export function recoveryMs(looks: readonly Look[], fromMs: number, toMs: number): number | undefined {
  const within = looks.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
  const last = within.findLastIndex(({ stalled }) => stalled.length > 0)
  if (last === within.length - 1) return undefined
  return last === -1 ? 0 : within[last + 1]!.atMs - fromMs
}
