import { formatLine, formatPanel, type LiveFigures, toLiveJson } from './analyticsReport.ts'
import { type OrderStatistics, summarise, sumRolling } from './orderStatistics.ts'

export interface DisplayOptions {
  json: boolean
  graceMs: number
  /** How many of the latest minutes a line of JSON has. */
  minutes: number
  output: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns' | 'rows'>
}

/**
 * Shows figures once a second: a panel redrawn in place on a terminal, a plain line in a pipe while something
 * changes, or a line of JSON. No colours.
 */
export class AnalyticsDisplay {
  readonly #options: DisplayOptions
  #drawnLines = 0
  #lastLine = ''

  constructor(options: DisplayOptions) {
    this.#options = options
  }

  show(parts: readonly OrderStatistics[], partitions: LiveFigures['partitions'], nowMs = Date.now()): void {
    const { json, output, graceMs, minutes } = this.#options
    const since = Math.min(...parts.map(({ sinceMs }) => sinceMs))
    const figures: LiveFigures = {
      rolling: sumRolling(parts, nowMs),
      summary: summarise(parts, graceMs),
      sinceMs: Number.isFinite(since) ? since : undefined,
      partitions,
    }
    if (json) output.write(`${toLiveJson(figures, minutes)}\n`)
    else if (output.isTTY) this.#redraw(formatPanel(figures))
    else this.#printIfNew(formatLine(figures))
  }

  #printIfNew(line: string): void {
    if (line !== this.#lastLine) this.#options.output.write(`${line}\n`)
    this.#lastLine = line
  }

  /** Over what was drawn before. Lines are cut: one that wraps, or scrolls away, could not be drawn over. */
  #redraw(panel: string): void {
    const { output } = this.#options
    const lines = panel
      .trimEnd()
      .split('\n')
      .slice(0, Math.max(1, output.rows - 1))
      .map((line) => line.slice(0, output.columns))
    const goBack = this.#drawnLines > 0 ? `\x1b[${this.#drawnLines}A\x1b[J` : ''
    output.write(`${goBack}${lines.join('\n')}\n`)
    this.#drawnLines = lines.length
  }
}
