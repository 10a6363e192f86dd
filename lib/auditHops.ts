import type { IHeaders } from 'kafkajs'
import type { AuditBook } from './auditBook.ts'
import { Finding } from './auditReport.ts'
import { readPosition } from './auditSource.ts'
import { increment, type Stage } from './auditStage.ts'
import { parseEnvelope } from './crypto.ts'
import { REASON_HEADER } from './deadLetters.ts'
import { UnusableRecordError } from './errors.ts'
import type { HopsRecorded } from './events.ts'
import { CAUSE_HEADER, formatPosition, headerText } from './record.ts'
import type { TopicRecord } from './topicReader.ts'

/** How many rows the store of the metadata log holds. */
export interface HopRows {
  forwarded: number
  refused: number
}

/** What the Command Center says that it did, beside what it did. */
export class HopBooks {
  readonly #stage: Stage
  readonly #auditedTopics: ReadonlySet<string>
  /** By cell of the inbox: how often it was said to be forwarded, and refused. */
  readonly #forwarded: Uint8Array
  readonly #refused: Uint8Array
  readonly said: HopRows = { forwarded: 0, refused: 0 }

  constructor(stage: Stage, auditedTopics: ReadonlySet<string>) {
    this.#stage = stage
    this.#auditedTopics = auditedTopics
    this.#forwarded = new Uint8Array(stage.causes.size)
    this.#refused = new Uint8Array(stage.causes.size)
  }

  /** @param isLate it came after the look at the bounds */
  take({ hops }: HopsRecorded, partition: number, place: number, isLate: boolean): void {
    for (const { offset, error, targetTopic } of hops) {
      const cell = this.#stage.causes.cellOf(partition, offset)
      if (cell < 0) continue
      if (isLate) {
        this.#stage.excuse(cell)
        continue
      }
      increment(error === undefined ? this.#forwarded : this.#refused, cell)
      this.said[error === undefined ? 'forwarded' : 'refused']++
      // A topic of somebody else, which is not read here: what is said of it has to do.
      if (error === undefined && !this.#auditedTopics.has(targetTopic!)) {
        this.#stage.addResult({ cell, partition, offset }, this.#stage.causes.orderAt(cell), place)
      }
    }
  }

  /**
   * Forwarded is received less refused, by position, and all of it is in the metadata log.
   *
   * @param rows of the store; it is compared when the log has come to its end
   */
  check({ isWhole, topics, positions }: AuditBook, rows: HopRows | undefined): Finding[] {
    const lines = positions.get(topics.hops.name)!
    const said = new Finding('each message has its line in the metadata, with what became of it', 1)
    const { causes, results, deadLetters, late } = this.#stage
    for (let cell = 0; cell < causes.size; cell++) {
      if (!causes.isThere(cell) || late[cell] === 1) continue
      // Inbox, lines and targets lose their oldest records each at its own time.
      const { partition } = causes.positionOf(cell)
      const isUnsaid = this.#forwarded[cell] === 0 && this.#refused[cell] === 0
      if (!isWhole && (this.#stage.canBeGone(cell) || (isUnsaid && lines.isGone(partition, 0)))) continue
      said.lookedAt++
      const [forwarded, refused] = [results[cell] ?? 0, deadLetters[cell] ?? 0]
      if (forwarded === this.#forwarded[cell] && refused === this.#refused[cell]) continue
      said.add(() => {
        const { partition, offset } = causes.positionOf(cell)
        const position = formatPosition(causes.topic, partition, offset)
        const what = `forwarded ${forwarded} and refused ${refused} times, the metadata say ${this.#forwarded[cell]} and ${this.#refused[cell]}`
        return { id: position, what, seen: [position] }
      })
    }
    const stored = new Finding('the metadata log holds each line once', 1)
    if (!rows) stored.skipped = 'only of a drained pipeline (--drained)'
    else if (!isWhole) stored.skipped = 'the oldest records are deleted'
    for (const what of ['forwarded', 'refused'] as const) {
      if (!rows) break
      stored.lookedAt += rows[what]
      if (rows[what] === this.said[what]) continue
      stored.add(() => ({
        id: what,
        what: `${rows[what]} rows where ${this.said[what]} are expected`,
        seen: [],
      }))
    }
    return [said, stored]
  }
}

/** Whether a dead letter of the Command Center is good, and waits for its route: one without a route, or no message, does not. */
export function isHeld(headers: IHeaders): boolean {
  return headerText(headers, REASON_HEADER)?.startsWith('the route') === true
}

/** What the sender of such a letter had to answer is not lost: it lies there, until it is redriven. */
export function excuseHeld(
  book: AuditBook,
  { headers, value }: Pick<TopicRecord, 'headers' | 'value'>,
): void {
  const cause = readPosition(headers, CAUSE_HEADER)
  const sender = senderOf(value)
  const stage = book.stages.find(
    ({ definition, causes }) => definition.group === sender && causes.topic === cause?.topic,
  )
  const cell = stage?.causes.cellOf(cause!.partition, cause!.offset) ?? -1
  if (cell >= 0) stage!.excuse(cell)
}

/** Who sealed a message; undefined when it is none. */
function senderOf(value: Buffer | null): string | undefined {
  try {
    return value === null ? undefined : parseEnvelope(value).sender
  } catch (error) {
    if (error instanceof UnusableRecordError) return undefined
    throw error
  }
}
