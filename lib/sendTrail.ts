import type { Hop, HopsRecorded } from './events.ts'
import { formatPosition } from './record.ts'
import type { Said } from './sendAnswers.ts'

/** One thing that became of a request, as its watcher tells it. */
export type Step = HopStep | AnswerStep

/** A message of it came to the Command Center, and was forwarded or refused. */
export interface HopStep extends Omit<Hop, 'offset' | 'requestId'> {
  kind: 'hop'
  atMs: number
}

export interface AnswerStep extends Said {
  kind: 'answer'
  atMs: number
}

/**
 * Puts in order what became of one request. Hops and answers are read from different topics, so an answer can be seen
 * before the hop that brought it: it is held back until then.
 */
export class RequestTrail {
  readonly #requestId: string
  /** Positions in the inbox that were told of. */
  readonly #told = new Set<string>()
  #held: { hop: string; step: AnswerStep }[] = []

  constructor(requestId: string) {
    this.#requestId = requestId
  }

  /** @returns what can be told now */
  takeHops(partition: number, { sourceTopic, occurredAt, hops }: HopsRecorded): Step[] {
    const atMs = Date.parse(occurredAt)
    return hops.flatMap(({ offset, requestId, ...hop }) => {
      if (requestId !== this.#requestId) return []
      const position = formatPosition(sourceTopic, partition, offset)
      this.#told.add(position)
      return [{ kind: 'hop' as const, atMs, ...hop }, ...this.#release(position)]
    })
  }

  /**
   * @param hop the position in the inbox of the message that brought it, by its header
   * @returns what can be told now
   */
  takeAnswer(hop: string | undefined, step: AnswerStep): Step[] {
    if (hop === undefined || this.#told.has(hop)) return [step]
    this.#held.push({ hop, step })
    return []
  }

  #release(position: string): AnswerStep[] {
    const released = this.#held.filter(({ hop }) => hop === position)
    this.#held = this.#held.filter(({ hop }) => hop !== position)
    return released.map(({ step }) => step)
  }
}
