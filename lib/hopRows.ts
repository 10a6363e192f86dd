import type { HopsRecorded } from './events.ts'
import { DAY_MS, type HopRow } from './hopStore.ts'
import type { InputRecord } from './record.ts'
import { storableText } from './text.ts'

/** Further ahead than that a record has a wrong clock behind it: its rows would not go when they should. */
const MAX_AHEAD_MS = DAY_MS
const MAX_LABEL_LENGTH = 200
const MAX_ERROR_LENGTH = 500

/** The rows that a record of the topic of hops stands for. */
export function toHopRows({ partition, offset, event }: InputRecord<HopsRecorded>): HopRow[] {
  const atMs = Date.parse(event.occurredAt)
  return event.hops.map(({ requestId, workerName, sender, error, offset: sourceOffset, ...hop }, index) => ({
    partition,
    offset,
    index,
    requestId: storableText(requestId, MAX_LABEL_LENGTH),
    workerName: storableText(workerName, MAX_LABEL_LENGTH),
    sender: storableText(sender, MAX_LABEL_LENGTH),
    sourceTopic: event.sourceTopic,
    sourceOffset,
    ...hop,
    success: error === undefined,
    ...(error !== undefined && { error: storableText(error, MAX_ERROR_LENGTH) }),
    atMs,
  }))
}

/** Whether a record is dated so far ahead that it cannot be right. */
export function isFromFuture({ event }: InputRecord<HopsRecorded>, nowMs: number): boolean {
  return Date.parse(event.occurredAt) > nowMs + MAX_AHEAD_MS
}
