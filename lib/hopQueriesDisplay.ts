/** What `npm run trail` prints. Labels are what others sent: nothing in them may control a terminal. */
import { printable } from './dlqDisplay.ts'
import { type HopRow, type HopSummary, MAX_SUMMARY_LINES, MAX_TRAIL_HOPS } from './hopStore.ts'
import { formatCount, formatTable } from './text.ts'

const NONE = '-'
/** Labels can be as long as 200 characters, and all lines are as wide as the widest. */
const MAX_LABEL_LENGTH = 40

/**
 * A line for each hop of a request, in order of time.
 *
 * @param width cut lines to so many columns; as long as they are without it
 */
export function formatTrail(hops: readonly HopRow[], width?: number): string {
  const firstMs = hops[0]?.atMs ?? 0
  const table = formatTable(
    ['time', '+ms', 'from -> to', 'topic', 'route', 'took ms', 'result'],
    hops.map((hop) => [
      new Date(hop.atMs).toISOString(),
      formatCount(hop.atMs - firstMs),
      `${label(hop.sender)} -> ${label(hop.workerName)}`,
      hop.targetTopic ?? NONE,
      String(hop.routeId ?? NONE),
      formatCount(hop.processingTimeMs),
      hop.success ? 'ok' : `refused: ${printable(hop.error ?? '')}`,
    ]),
    new Set([1, 4, 5]),
    width,
  )
  return hops.length < MAX_TRAIL_HOPS ? table : `${table}these are the first ${formatCount(hops.length)}\n`
}

/** A line for each worker or route, the most hops first. */
export function formatSummaries(
  summaries: readonly HopSummary[],
  by: 'worker' | 'route',
  width?: number,
): string {
  const names = by === 'worker' ? ['worker'] : ['route', 'topic']
  const table = formatTable(
    [...names, 'hops', 'refused', 'success', 'p50 ms', 'p99 ms', 'mean ms'],
    summaries.map((summary) => [
      ...(by === 'worker'
        ? [label(summary.workerName ?? '')]
        : [String(summary.routeId ?? NONE), summary.targetTopic ?? NONE]),
      formatCount(summary.hops),
      formatCount(summary.refused),
      formatRatio(successRatio(summary)),
      formatCount(summary.p50Ms),
      formatCount(summary.p99Ms),
      summary.meanMs.toFixed(1),
    ]),
    new Set([0, 1, 2, 3, 4, 5].map((column) => names.length + column)),
    width,
  )
  return summaries.length < MAX_SUMMARY_LINES
    ? table
    : `${table}these are the first ${formatCount(MAX_SUMMARY_LINES)}\n`
}

export function trailToJson(requestId: string, hops: readonly HopRow[]): object {
  return { requestId, hops: hops.map(({ atMs, ...hop }) => ({ ...hop, at: new Date(atMs).toISOString() })) }
}

export function summariesToJson(summaries: readonly HopSummary[]): object[] {
  return summaries.map((summary) => ({ ...summary, successRatio: successRatio(summary) }))
}

function successRatio({ hops, refused }: HopSummary): number {
  return (hops - refused) / hops
}

/** '99.98 %', and 100 only where it is all. */
function formatRatio(ratio: number): string {
  return ratio === 1 ? '100 %' : `${(Math.floor(ratio * 10_000) / 100).toFixed(2)} %`
}

function label(text: string): string {
  const shown = printable(text) || '(none)'
  return shown.length > MAX_LABEL_LENGTH ? `${shown.slice(0, MAX_LABEL_LENGTH)}…` : shown
}

/**
 * Rows below a header, each column as wide as its widest cell.
 *
 * @param alignedRight the columns of numbers, counted from 0
 * @param width cut lines to so many columns; as long as they are without it
 */
