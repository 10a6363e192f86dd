/** What analytics shows while it runs: a panel for a terminal, a line for a pipe, a line of JSON. */
import { formatColumns, formatMinuteRows, formatMoneys, formatShare, plain } from './analyticsReport.ts'
import type { MinuteRow, ProductRow, RollingFigures, Summary } from './orderStatistics.ts'
import { cutText, flowText, textWidth } from './terminal.ts'
import { formatCount } from './text.ts'

export interface LiveFigures {
  rolling: RollingFigures
  summary: Summary
  /** Arrival of the oldest record counted; undefined when there is none. */
  sinceMs: number | undefined
  /** How many partitions are counted here, and how many there are. */
  partitions: { shown: number; of: number | undefined }
  /** Records that are not counted yet; missing in a replay, which is not told. */
  lag?: number
}

const MINUTES = 5
const PRODUCTS = 5
const REASONS = 3
const LEAST_NAME_WIDTH = 20

/** The compact panel. @param columns of its window: what does not fit is left out or can be cut */
export function formatPanel(figures: LiveFigures, columns: number): string[] {
  const { rolling, summary } = figures
  const head = [
    ...flowText('analytics  ', statusItems(figures), columns),
    ...flowText('rates      ', rateItems(rolling), columns),
    ...flowText('orders     ', orderItems(summary), columns),
    ...flowText('ends       ', endItems(summary), columns),
  ]
  const minutes = minuteLines(summary.minutes.slice(-MINUTES), columns)
  const products = productLines(summary.topProducts.byQuantity.slice(0, PRODUCTS), columns)
  return [head, minutes, products]
    .filter((block) => block.length > 0)
    .flatMap((block, index) => (index === 0 ? block : ['', ...block]))
}

/** One line for a pipe. */
export function formatLine(figures: LiveFigures): string {
  const { rolling, summary } = figures
  return [...rateItems(rolling), ...orderItems(summary), ...endItems(summary), ...statusItems(figures)].join(
    '  ',
  )
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

function statusItems({ partitions, lag, sinceMs }: LiveFigures): string[] {
  return [
    `partitions ${partitions.shown} of ${partitions.of ?? '?'}`,
    ...(lag === undefined ? [] : [`lag ${formatCount(lag)}`]),
    ...(sinceMs === undefined ? [] : [`since ${new Date(sinceMs).toISOString().slice(0, 19)}Z`]),
  ]
}

function rateItems(rolling: RollingFigures): string[] {
  return [
    `${formatCount(rolling.ordersPerSecond, 1)} orders/s`,
    ...moneyItems('booked/min', rolling.bookedRevenuePerMinuteMinor),
    ...moneyItems('captured/min', rolling.capturedRevenuePerMinuteMinor),
  ]
}

function orderItems({ orders, bookedRevenueMinor, late }: Summary): string[] {
  return [
    `${formatCount(orders)} orders`,
    ...moneyItems('booked', bookedRevenueMinor),
    ...(late.orders > 0 ? [`late ${formatCount(late.orders)}`] : []),
  ]
}

function endItems({ confirmed, capturedRevenueMinor, cancelled, rejected }: Summary): string[] {
  return [
    `confirmed ${formatCount(confirmed)}`,
    ...moneyItems('captured', capturedRevenueMinor),
    ...refusedItems(`cancelled ${formatCount(cancelled.orders)}`, cancelled.reasons),
    ...refusedItems(
      `rejected ${formatCount(rejected.orders)} (${formatShare(rejected.share)})`,
      rejected.reasons,
    ),
  ]
}

/** An item for each currency, so that lines can be broken between them. */
function moneyItems(name: string, amounts: Record<string, number>): string[] {
  return formatMoneys(amounts)
    .split(' + ')
    .map((amount, index) => `${index === 0 ? name : '+'} ${amount}`)
}

/** With the most frequent reasons. */
function refusedItems(what: string, reasons: Record<string, number>): string[] {
  const sorted = Object.entries(reasons).sort(([, a], [, b]) => b - a)
  if (sorted.length === 0) return [what]
  const items = sorted.slice(0, REASONS).map(([code, count]) => `${code} ${formatCount(count)}`)
  return [`${what}:`, ...items, ...(sorted.length > REASONS ? ['…'] : [])]
}

/** With as many currencies as there is room for. */
function minuteLines(minutes: readonly MinuteRow[], columns: number): string[] {
  if (minutes.length === 0) return []
  let currencies = new Set(minutes.flatMap(({ bookedRevenueMinor }) => Object.keys(bookedRevenueMinor))).size
  let lines = formatMinuteRows(minutes).split('\n')
  while (currencies > 0 && Math.max(...lines.map(textWidth)) > columns) {
    currencies--
    lines = formatMinuteRows(minutes, currencies).split('\n')
  }
  return lines
}

/** With their revenue where there is room for it beside a name that can still be read. */
function productLines(products: readonly ProductRow[], columns: number): string[] {
  if (products.length === 0) return []
  const table = (nameWidth: number, hasRevenue: boolean) =>
    formatColumns(
      products.map(({ sku, name, quantity, bookedRevenueMinor }) => [
        `  ${plain(sku)}`,
        cutText(plain(name), nameWidth),
        formatCount(quantity),
        ...(hasRevenue ? [formatMoneys(bookedRevenueMinor)] : []),
      ]),
      [2],
    ).split('\n')
  const longest = Math.max(...products.map(({ name }) => textWidth(plain(name))))
  const roomFor = (hasRevenue: boolean) =>
    longest - Math.max(0, Math.max(...table(longest, hasRevenue).map(textWidth)) - columns)
  const hasRevenue = roomFor(true) >= Math.min(longest, LEAST_NAME_WIDTH)
  return ['top products by quantity', ...table(Math.max(1, roomFor(hasRevenue)), hasRevenue)]
}
