/** The records of the model of the pipeline, and what stands in them. */
import { DEAD_LETTER_HEADER, formatPosition } from '../lib/record.ts'

export interface ModelRecord {
  topic: string
  partition: number
  offset: number
  key: string | null
  value: string
  headers: Record<string, string>
  writtenAt: number
  /** When its transaction was committed; never for a record that is to stay unseen. */
  committedAt: number
}

const OCCURRED_AT = '2026-01-01T12:00:00.000Z'
export const NO_ORDER = 'no order'
/** What the schema of an OrderPlaced wants besides. */
export const PLACED = {
  eventId: 'model',
  occurredAt: OCCURRED_AT,
  customerId: 'cust-1',
  placedAt: OCCURRED_AT,
}

export function positionOf({ topic, partition, offset }: ModelRecord): string {
  return formatPosition(topic, partition, offset)
}

/** The position that a record counts under: its own, or for a redriven one the one that it had at first. */
export function sourceOf(record: ModelRecord): string {
  return record.headers[DEAD_LETTER_HEADER] === undefined ? positionOf(record) : record.headers.source!
}
