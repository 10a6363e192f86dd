import type { Kafka } from 'kafkajs'
import { sleep } from './async.ts'
import { fetchPositions, type GroupPosition, type WorkingGroup } from './groupLag.ts'

/** One look: who was behind at that time. */
export interface Look {
  atMs: number
  /** Groups that had not done yet what had been in their inputs a while before; everybody when Kafka did not say. */
  behind: readonly string[]
}

/** A group is behind when it has not done what was there so long ago. */
export const BEHIND_MS = 1_000
const POLL_MS = 500

/**
 * Watches from outside how far the groups are behind, in time rather than in records: what counts is how long
 * somebody who has placed an order waits.
 */
export class RecoveryWatch {
  readonly #kafka: Kafka
  readonly #groups: readonly WorkingGroup[]
  readonly #sinceMs: number
  readonly #stop = new AbortController()
  readonly looks: Look[] = []
  /** Ends of the logs as they were, the oldest first, no more than needed. */
  readonly #ends: { atMs: number; ends: Map<string, number> }[] = []
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
      const atMs = performance.now() - this.#sinceMs
      let behind: string[]
      try {
        behind = this.#compare(atMs, await fetchPositions(this.#kafka, this.#groups))
      } catch {
        // Whatever the reason: who cannot be asked cannot be said to work.
        behind = this.#groups.map(({ group }) => group)
      }
      this.looks.push({ atMs: performance.now() - this.#sinceMs, behind })
      await sleep(POLL_MS, this.#stop.signal)
    }
  }

  #compare(atMs: number, positions: readonly GroupPosition[]): string[] {
    const keyOf = ({ topic, partition }: GroupPosition) => `${topic}/${partition}`
    while (this.#ends.length > 1 && this.#ends[1]!.atMs <= atMs - BEHIND_MS) this.#ends.shift()
    const before = this.#ends[0]?.ends
    const behind = new Set<string>()
    for (const position of positions) {
      if (position.committed < (before?.get(keyOf(position)) ?? 0)) behind.add(position.group)
    }
    this.#ends.push({ atMs, ends: new Map(positions.map((position) => [keyOf(position), position.end])) })
    return [...behind]
  }
}

/**
 * How long after `fromMs` nobody was behind any more, as seen until `toMs`: 0 when nobody was at all, undefined when
 * somebody still was at the end.
 */
export function recoveryMs(looks: readonly Look[], fromMs: number, toMs: number): number | undefined {
  const within = looks.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
  const last = within.findLastIndex(({ behind }) => behind.length > 0)
  if (last === within.length - 1) return undefined
  return last === -1 ? 0 : within[last + 1]!.atMs - fromMs
}
