import { formatMoney } from './money.ts'
import type { Figures } from './tally.ts'
import { formatCount } from './text.ts'

const REDRAW_MS = 500
/** In a pipe a line now and then is enough, and only when something has changed. */
const LINE_MS = 2_000

export interface LiveTableOptions {
  isTTY: boolean
  write(text: string): void
}

/**
 * Live figures below a scroll of lines. On a terminal the table is redrawn in place; in a pipe it is one plain
 * line every two seconds.
 */
export class LiveTable {
  readonly #options: LiveTableOptions
  #rows: (() => [name: string, value: string][]) | undefined
  #timer: NodeJS.Timeout | undefined
  #drawnLines = 0
  #lastLine = ''

  constructor(options: LiveTableOptions) {
    this.#options = options
  }

  /** Shows these rows from now on, asked anew for each drawing. */
  begin(rows: () => [name: string, value: string][]): void {
    this.#rows = rows
    this.#timer = setInterval(() => this.#draw(), this.#options.isTTY ? REDRAW_MS : LINE_MS)
  }

  /** Leaves the last state standing. */
  end(): void {
    if (!this.#timer) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#draw()
    this.#drawnLines = 0
    this.#rows = undefined
  }

  /** Writes a line that stays, above the table. */
  print(line: string): void {
    this.#erase()
    this.#options.write(`${line}\n`)
    if (this.#options.isTTY) this.#draw()
  }

  #draw(): void {
    const rows = this.#rows?.()
    if (!rows) return
    if (!this.#options.isTTY) {
      const line = rows.map(([name, value]) => `${name} ${value}`).join('  ')
      if (line !== this.#lastLine) this.#options.write(`${line}\n`)
      this.#lastLine = line
      return
    }
    this.#erase()
    const width = Math.max(...rows.map(([name]) => name.length))
    this.#options.write(rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}\n`).join(''))
    this.#drawnLines = rows.length
  }

  #erase(): void {
    if (this.#drawnLines > 0) this.#options.write(`\x1b[${this.#drawnLines}F\x1b[J`)
    this.#drawnLines = 0
  }
}

/** The figures as rows, each with how many a second came lately. */
export function summaryRows(figures: Figures, rates: RateMeter): [string, string][] {
  const row = (name: string, count: number): [string, string] => {
    const perSecond = rates.rate(name, count)
    return [name, `${formatCount(count)}${perSecond > 0 ? ` (${perSecond}/s)` : ''}`]
  }
  const money = (amounts: Record<string, number>) =>
    Object.entries(amounts)
      .map(([currency, minor]) => formatMoney(minor, currency))
      .join('  ') || '0'
  const reasons = Object.entries(figures.cancelled).map(([code, count]) => `${code} ${formatCount(count)}`)
  const [cancelled, cancelledRate] = row('cancelled', figures.cancelledOrders)
  return [
    row('placed', figures.placed),
    row('validated', figures.validated),
    row('rejected', figures.rejected),
    row('dead-lettered', figures.deadLettered),
    row('reserved', figures.reserved),
    row('not reserved', figures.notReserved),
    row('authorised', figures.authorised),
    row('declined', figures.declined),
    row('confirmed', figures.confirmed),
    [cancelled, reasons.length > 0 ? `${cancelledRate}: ${reasons.join(', ')}` : cancelledRate],
    ['booked', money(figures.revenueMinor)],
    ['captured', money(figures.capturedMinor)],
  ]
}

/** How fast counters grow, over the last few seconds. */
export class RateMeter {
  static readonly #OVER_MS = 3_000
  readonly #samples = new Map<string, { atMs: number; count: number }[]>()

  /** Notes a count and says by how much it grew per second. */
  rate(name: string, count: number): number {
    const nowMs = Date.now()
    const samples = this.#samples.get(name) ?? []
    this.#samples.set(name, samples)
    samples.push({ atMs: nowMs, count })
    while (samples.length > 2 && samples[1]!.atMs < nowMs - RateMeter.#OVER_MS) samples.shift()
    const [first] = samples
    const seconds = (nowMs - first!.atMs) / 1_000
    return seconds > 0 ? Math.round((count - first!.count) / seconds) : 0
  }
}
