/** The figures of analytics as text for people, and as JSON. */
import { formatMoney } from './money.ts'
import type { CountedOrders, MinuteRow, ProductRow, RollingFigures, Summary } from './orderStatistics.ts'

/** What is shown while it runs. */
export interface LiveFigures {
  rolling: RollingFigures
  summary: Summary
  /** Arrival of the oldest record counted; undefined when there is none. */
  sinceMs: number | undefined
  /** How many partitions are counted here, and how many there are. */
  partitions: { shown: number; of: number | undefined }
}

const REPORT_MINUTES = 30
const PANEL_MINUTES = 5
const PANEL_PRODUCTS = 5
const MAX_NAME_LENGTH = 40

/** The whole report of a replay. Two replays of the same records give the same text. */
export function formatReport(summary: Summary): string {
  const blocks = [
    formatTotals(summary),
    formatMinutes(summary.minutes, REPORT_MINUTES, 'all of them with --json'),
    formatProducts('top products by quantity', summary.topProducts.byQuantity),
    ...Object.entries(summary.topProducts.byRevenue).map(([currency, products]) =>
      formatProducts(`top products by booked revenue in ${currency}`, products, currency),
    ),
  ]
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`
}

/** The compact panel that is redrawn on a terminal. */
export function formatPanel(figures: LiveFigures): string {
  const { rolling, summary } = figures
  const rates = formatColumns([
    ['orders/s', formatCount(rolling.ordersPerSecond, 1), 'over the last 10 s'],
    ['booked/min', formatMoneys(rolling.bookedRevenuePerMinuteMinor), 'over the last 60 s'],
    ['captured/min', formatMoneys(rolling.capturedRevenuePerMinuteMinor), 'over the last 60 s'],
  ])
  const blocks = [
    `analytics  ${formatPartitions(figures)}  totals ${formatSince(figures)}`,
    rates,
    formatTotals(summary),
    formatMinutes(summary.minutes, PANEL_MINUTES, ''),
    formatProducts('top products by quantity', summary.topProducts.byQuantity.slice(0, PANEL_PRODUCTS)),
  ]
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`
}

/** One line for a pipe. */
export function formatLine(figures: LiveFigures): string {
  const { rolling, summary } = figures
  return [
    `${formatCount(rolling.ordersPerSecond, 1)} orders/s`,
    `booked/min ${formatMoneys(rolling.bookedRevenuePerMinuteMinor)}`,
    `${formatCount(summary.orders)} orders booked ${formatMoneys(summary.bookedRevenueMinor)} ${formatSince(figures)}`,
    `confirmed ${formatCount(summary.confirmed)} captured ${formatMoneys(summary.capturedRevenueMinor)}`,
    `cancelled ${formatCount(summary.cancelled.orders)}`,
    `rejected ${formatShare(summary.rejected.share)}`,
    formatPartitions(figures),
  ].join('  ')
}

/** One line of JSON. @param minutes how many of the latest minutes it has */
export function toLiveJson({ rolling, summary, sinceMs, partitions }: LiveFigures, minutes: number): string {
  const since = sinceMs === undefined ? null : new Date(sinceMs).toISOString()
  return JSON.stringify({
    partitions,
    since,
    ...rolling,
    ...summary,
    minutes: summary.minutes.slice(-minutes),
  })
}

function formatTotals(summary: Summary): string {
  const { confirmed, cancelled, rejected, late, future, droppedMinutes, unusableRecords } = summary
  const rows = [
    formatTotal('orders', summary, ''),
    ['confirmed', formatCount(confirmed), `captured ${formatMoneys(summary.capturedRevenueMinor)}`, ''],
    ['cancelled', formatCount(cancelled.orders), '', formatReasons(cancelled.reasons)],
    ['rejected', formatCount(rejected.orders), formatShare(rejected.share), formatReasons(rejected.reasons)],
    formatTotal('late', late, `after ${summary.graceSeconds} s of grace: in the totals, not in the minutes`),
  ]
  if (future.orders > 0) rows.push(formatTotal('future', future, 'dated ahead of their arrival: likewise'))
  if (droppedMinutes.minutes > 0) {
    rows.push(formatTotal('dropped', droppedMinutes, `in the oldest ${droppedMinutes.minutes} minutes`))
  }
  if (unusableRecords > 0)
    rows.push(['unusable', formatCount(unusableRecords), '', 'records without an event'])
  return formatColumns(rows, [1])
}

function formatReasons(reasons: Record<string, number>): string {
  return Object.entries(reasons)
    .map(([code, count]) => `${code} ${formatCount(count)}`)
    .join(', ')
}

function formatTotal(label: string, { orders, bookedRevenueMinor }: CountedOrders, note: string): string[] {
  return [label, formatCount(orders), orders === 0 ? '' : `booked ${formatMoneys(bookedRevenueMinor)}`, note]
}

function formatMinutes(minutes: readonly MinuteRow[], most: number, where: string): string {
  if (minutes.length === 0) return ''
  const shown = minutes.slice(-most)
  const currencies = [...new Set(shown.flatMap((row) => Object.keys(row.bookedRevenueMinor)))].sort()
  const rows = shown.map(({ minute, orders, bookedRevenueMinor }) => [
    minute.replace('T', ' ').replace('Z', ''),
    formatCount(orders),
    ...currencies.map((currency) => formatMoney(bookedRevenueMinor[currency] ?? 0, currency)),
  ])
  const table = formatColumns(
    [['placed (UTC)', 'orders', ...currencies.map(() => 'booked')], ...rows],
    'numbers',
  )
  const left = minutes.length - shown.length
  if (left === 0 || where === '') return table
  return `${table}\n(${formatCount(left)} earlier minutes with orders left out: ${where})`
}

/** @param currency the only one to be shown; without it all */
function formatProducts(title: string, products: readonly ProductRow[], currency?: string): string {
  if (products.length === 0) return ''
  const rows = products.map(({ sku, name, quantity, bookedRevenueMinor }) => [
    `  ${plain(sku)}`,
    plain(name),
    formatCount(quantity),
    currency === undefined
      ? formatMoneys(bookedRevenueMinor)
      : formatMoney(bookedRevenueMinor[currency] ?? 0, currency),
  ])
  return `${title}\n${formatColumns(rows, [2])}`
}

function formatPartitions({ partitions }: LiveFigures): string {
  return `partitions ${partitions.shown} of ${partitions.of ?? '?'}`
}

function formatSince({ sinceMs }: LiveFigures): string {
  return sinceMs === undefined ? '' : `since ${new Date(sinceMs).toISOString().slice(0, 19)}Z`
}

function formatMoneys(amounts: Record<string, number>): string {
  const parts = Object.entries(amounts).map(([currency, amountMinor]) => formatMoney(amountMinor, currency))
  return parts.length === 0 ? '-' : parts.join(' + ')
}

function formatCount(count: number, digits = 0): string {
  return count.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

/** Names come from outside: what steers a terminal is not for them to say. */
function plain(text: string): string {
  return text.replace(/\p{C}/gu, ' ').slice(0, MAX_NAME_LENGTH)
}

/** @param right the columns to be aligned to the right; 'numbers' is all but the first */
function formatColumns(rows: readonly string[][], right: readonly number[] | 'numbers' = []): string {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length)
    })
  }
  const isRight = (column: number) => (right === 'numbers' ? column > 0 : right.includes(column))
  const align = (cell: string, column: number) =>
    isRight(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
  return rows.map((row) => row.map(align).join('  ').trimEnd()).join('\n')
}
