/** Whether a replayed table of minutes and the live one say the same, and if not, why they may not: pure. */
import { MAX_AHEAD_MS, MINUTE_MS } from './minuteTable.ts'
import type { MinuteRow, OrderStatistics } from './orderStatistics.ts'

/** What analytics shows live. */
export interface LiveTable {
  /** Of each partition that this instance has. */
  statistics: readonly OrderStatistics[]
  /** `of` is undefined until the broker has said how many there are. */
  partitions: { shown: number; of: number | undefined }
  /** Records that it has not counted yet. */
  lag: number
}

/**
 * - equal: to the byte
 * - open: the live table has counted orders that came after the replay
 * - not-held: differs, and the live table does not hold all of it
 * - behind: differs, and the live table has records to come
 * - differs: and should not
 */
export type RowResult = 'equal' | 'open' | 'not-held' | 'behind' | 'differs'

export interface ComparedRow {
  /** In UTC, '2026-11-21T07:36Z'. */
  minute: string
  result: RowResult
  /** In words, unless it is equal. */
  why?: string
}

export interface TableComparison {
  /**
   * - agree: all rows are equal that can be
   * - differ: some are not and should be
   * - not-comparable: this instance does not show all partitions
   */
  agreement: 'agree' | 'differ' | 'not-comparable'
  /** The same in a sentence. */
  text: string
  rows: ComparedRow[]
}

export interface TablesToCompare {
  replayed: readonly MinuteRow[]
  /** By partition, the arrival of the oldest record that the replay counted. */
  replayedSinceMs: readonly number[]
  /** Of the partition that is least far in the replay. */
  watermarkMs: number
  graceMs: number
  live: LiveTable
  /** Those of the range. */
  liveRows: readonly MinuteRow[]
}

export function compareTables(tables: TablesToCompare): TableComparison {
  const { shown, of } = tables.live.partitions
  if (of === undefined || shown < of) {
    const text = `This instance shows ${shown} of ${of ?? '?'} partitions, and the replay has all of them: they cannot be compared.`
    return { agreement: 'not-comparable', text, rows: [] }
  }
  const replayed = new Map(tables.replayed.map((row) => [row.minute, row]))
  const live = new Map(tables.liveRows.map((row) => [row.minute, row]))
  const heldFromMs = findHeldFrom(tables)
  const minutes = [...new Set([...replayed.keys(), ...live.keys()])].sort()
  const rows = minutes.map((minute): ComparedRow => {
    const [before, now] = [replayed.get(minute), live.get(minute)]
    if (JSON.stringify(before) === JSON.stringify(now)) return { minute, result: 'equal' }
    const hasGrown = (now?.orders ?? 0) > (before?.orders ?? 0)
    return { minute, ...explain(Date.parse(minute), { heldFromMs, hasGrown }, tables) }
  })
  const agreement = rows.some(({ result }) => result === 'differs' || result === 'behind')
    ? 'differ'
    : 'agree'
  return { agreement, text: inWords(rows), rows }
}

/**
 * From which minute on the live table holds all that the replay holds. An analytics that was started again reads back
 * so far as its window reaches, and no further.
 *
 * What it has not read arrived before it began, so it can count at most {@link MAX_AHEAD_MS} later, and make late only
 * what is older than that.
 */
function findHeldFrom({ live, replayedSinceMs }: TablesToCompare): number {
  const began = live.statistics
    .map(({ sinceMs }) => sinceMs)
    .filter(Number.isFinite)
    .sort((a, b) => a - b)
  const replayed = [...replayedSinceMs].filter(Number.isFinite).sort((a, b) => a - b)
  const holdsAll =
    began.length >= replayed.length && replayed.every((sinceMs, index) => began[index]! <= sinceMs)
  if (holdsAll) return Number.NEGATIVE_INFINITY
  return Math.max(...began) + MAX_AHEAD_MS
}

function explain(
  minuteMs: number,
  { heldFromMs, hasGrown }: { heldFromMs: number; hasGrown: boolean },
  { watermarkMs, graceMs, live }: TablesToCompare,
): { result: RowResult; why: string } {
  if (minuteMs < heldFromMs) {
    return { result: 'not-held', why: 'the live table began later and does not hold all of it' }
  }
  if (hasGrown && minuteMs + MINUTE_MS + graceMs > watermarkMs) {
    return {
      result: 'open',
      why: `still takes orders, until those of each partition are ${graceMs / 1_000} s past its end`,
    }
  }
  if (live.lag > 0) return { result: 'behind', why: `the live table has ${live.lag} records to count` }
  return {
    result: 'differs',
    why: 'they should be equal, unless dead letters of analytics were redriven: those are counted live alone',
  }
}

function inWords(rows: readonly ComparedRow[]): string {
  const count = (result: RowResult) => rows.filter((row) => row.result === result).length
  if (rows.length === 0) return 'There are no orders in these minutes, in neither table.'
  const equal = count('equal')
  if (equal === rows.length) {
    return rows.length === 1
      ? 'Both tables agree in the one minute.'
      : `Both tables agree in all ${equal} minutes.`
  }
  const differing = count('differs') + count('behind')
  const rest = [
    ...(count('open') > 0 ? [`${count('open')} still took orders`] : []),
    ...(count('not-held') > 0 ? [`${count('not-held')} the live table does not hold whole`] : []),
  ]
  const others = rest.length > 0 ? `; of the others ${rest.join(' and ')}` : ''
  if (differing === 0) return `Both tables agree in ${equal} of ${rows.length} minutes${others}.`
  return `The tables differ in ${differing} of ${rows.length} minutes and agree in ${equal}${others}.`
}
