/** Feeds the auditor from the model, as it would find it at given moments. */

import { WAVES } from '../lib/audit.ts'
import { AuditBook, auditedTopics } from '../lib/auditBook.ts'
import { type Judgement, type JudgeOptions, judge } from '../lib/auditChecks.ts'
import { AuditIntake } from '../lib/auditIntake.ts'
import { AuditRows } from '../lib/auditRows.ts'
import type { StockRow } from '../lib/auditStock.ts'
import type { BoundsByPartition } from '../lib/topicBounds.ts'
import type { TopicRecord } from '../lib/topicReader.ts'
import type { Model } from './auditModel.ts'
import type { ModelRecord } from './auditModelRecords.ts'

/** When an audit looked at what. */
export interface Moments {
  snapshot: number
  /** One for each wave of topics. */
  waves: number[]
  /** The first reading was over, and the ends were looked at for the second one: at no time in common. */
  second: (topic: string) => number
  /** The database was asked once more. */
  again: number
  /** Retention has deleted what was written to a topic until then. */
  deletedUntil?: (topic: string) => number
}

/** Everything, after all has been done. */
export const AT_THE_END: Moments = {
  snapshot: Number.MAX_SAFE_INTEGER,
  waves: WAVES.map(() => Number.MAX_SAFE_INTEGER),
  second: () => Number.MAX_SAFE_INTEGER,
  again: Number.MAX_SAFE_INTEGER,
}

/** All of a history is within it. */
const DEDUPE = { maxOrders: 1_000, maxAgeMs: 100_000 }

export function auditModel(
  model: Model,
  options: Omit<JudgeOptions, 'dedupe'> & Partial<JudgeOptions>,
  moments: Moments = AT_THE_END,
  stock: StockRow[] = model.stockAt(moments.snapshot),
): Judgement {
  const { topics } = model
  const bounds: BoundsByPartition = new Map(
    WAVES.flatMap((wave, index) => [
      ...model.boundsAt(
        moments.waves[index]!,
        wave(topics).map(({ name }) => name),
        moments.deletedUntil,
      ),
    ]),
  )
  const book = new AuditBook(topics, bounds)
  const intake = new AuditIntake(book)
  const rows = new AuditRows(book)
  for (const row of stock) book.stock.takeRow(row)
  for (const [sku, quantity] of model.receipts) book.stock.takeReceipts({ sku, quantity })
  takeRows(model, rows, moments.snapshot)
  for (const topic of auditedTopics(topics)) {
    const second = moments.second(topic)
    model.logs.get(topic)!.forEach((log, partition) => {
      const seen = log.filter(({ committedAt, writtenAt }) => {
        return (
          writtenAt > (moments.deletedUntil?.(topic) ?? 0) &&
          committedAt < Number.POSITIVE_INFINITY &&
          writtenAt <= second
        )
      })
      intake.take(topic, partition, seen.map(toTopicRecord))
    })
  }
  const missing = new Set(rows.findMissing())
  takeRows(model, rows, moments.again, missing)
  return judge(book, rows, { dedupe: DEDUPE, ...options })
}

function takeRows(model: Model, rows: AuditRows, until: number, of?: Set<string>): void {
  const isTaken = ({ at, orderId }: { at: number; orderId: string }) =>
    at <= until && (of?.has(orderId) ?? true)
  for (const row of model.outcomes.filter(isTaken)) rows.takeOutcome(row.table, row)
  for (const row of model.ledger.filter(isTaken)) rows.takeLedger(row)
}

export function toTopicRecord({ offset, key, value, headers, writtenAt }: ModelRecord): TopicRecord {
  const bytes = Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)])
  return {
    offset,
    key: key === null ? null : Buffer.from(key),
    value: Buffer.from(value),
    headers: Object.fromEntries(bytes),
    timestampMs: writtenAt,
  }
}

/** The moments of an audit that looks while the model works: at any times, in their order. */
export function momentsWithin(model: Model, random: () => number): Moments {
  const between = (from: number) => from + Math.floor(random() ** 2 * (model.now - from + 1))
  const snapshot = Math.floor(random() * model.now)
  const waves: number[] = []
  for (const _ of WAVES) waves.push(between(waves.at(-1) ?? snapshot))
  // What was begun before an end was looked at is waited for, until it is committed.
  let second = waves.at(-1)!
  WAVES.forEach((wave, index) => {
    for (const { name } of wave(model.topics)) {
      for (const { writtenAt, committedAt } of model.records(name)) {
        if (writtenAt <= waves[index]! && committedAt < Number.POSITIVE_INFINITY) {
          second = Math.max(second, committedAt)
        }
      }
    }
  })
  const seconds = new Map(auditedTopics(model.topics).map((topic) => [topic, between(second)]))
  return { snapshot, waves, second: (topic) => seconds.get(topic)!, again: between(second) }
}
