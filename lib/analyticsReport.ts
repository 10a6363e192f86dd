/** The figures of analytics as text for people: the report of a replay, and what the live panel shares with it. */
import { formatMoney } from './money.ts'
import type { CountedOrders, MinuteRow, ProductRow, Summary } from './orderStatistics.ts'
import { cutText, padText, textWidth, withoutControl } from './terminal.ts'
import { formatCount } from './text.ts'

const REPORT_MINUTES = 30
/** In columns of a terminal. */
const NAME_WIDTH = 40

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

/** The latest minutes, and where to find those that are left out. */
function formatMinutes(minutes: readonly MinuteRow[], most: number, where: string): string {
  if (minutes.length === 0) return ''
  const shown = minutes.slice(-most)
  const left = minutes.length - shown.length
  const table = formatMinuteRows(shown)
  return left === 0
    ? table
    : `${table}\n(${formatCount(left)} earlier minutes with orders left out: ${where})`
}

/** @param mostCurrencies leaves out the booked revenue in others */
export function formatMinuteRows(
  shown: readonly MinuteRow[],
  mostCurrencies = Number.POSITIVE_INFINITY,
): string {
  const currencies = [...new Set(shown.flatMap((row) => Object.keys(row.bookedRevenueMinor)))]
    .sort()
    .slice(0, mostCurrencies)
  const rows = shown.map(({ minute, orders, bookedRevenueMinor }) => [
    minute.replace('T', ' ').replace('Z', ''),
    formatCount(orders),
    ...currencies.map((currency) => formatMoney(bookedRevenueMinor[currency] ?? 0, currency)),
  ])
  return formatColumns([['placed (UTC)', 'orders', ...currencies.map(() => 'booked')], ...rows], 'numbers')
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

export function formatMoneys(amounts: Record<string, number>): string {
  const parts = Object.entries(amounts).map(([currency, amountMinor]) => formatMoney(amountMinor, currency))
  return parts.length === 0 ? '-' : parts.join(' + ')
}

export function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

/** Names come from outside: what steers a terminal is not for them to say. */
export function plain(text: string): string {
  return cutText(withoutControl(text), NAME_WIDTH)
}

/** @param right the columns to be aligned to the right; 'numbers' is all but the first */
export function formatColumns(rows: readonly string[][], right: readonly number[] | 'numbers' = []): string {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, textWidth(cell))
    })
  }
  const isRight = (column: number) => (right === 'numbers' ? column > 0 : right.includes(column))
  const align = (cell: string, column: number) =>
    padText(cell, widths[column]!, isRight(column) ? 'left' : 'right')
  return rows.map((row) => row.map(align).join('  ').trimEnd()).join('\n')
}
