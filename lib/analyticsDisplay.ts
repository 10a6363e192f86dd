import { formatLine, formatPanel, type LiveFigures, toLiveJson } from './analyticsPanel.ts'
import { type OrderStatistics, summarise, sumRolling } from './orderStatistics.ts'
import { canRedraw, type TerminalOutput } from './terminal.ts'
import { TerminalPanel } from './terminalPanel.ts'

export interface DisplayOptions {
  json: boolean
  graceMs: number
  /** How many of the latest minutes a line of JSON has. */
  minutes: number
  output: TerminalOutput
}

/**
 * Shows figures once a second: a panel redrawn in place on a terminal, a plain line in a pipe while something
 * changes, or a line of JSON. No colours.
 */
export class AnalyticsDisplay {
  readonly #options: DisplayOptions
  /** Undefined where nothing can be redrawn. */
  readonly #panel: TerminalPanel | undefined
  #lastLine = ''

  constructor(options: DisplayOptions) {
    this.#options = options
    this.#panel = canRedraw(options.output) ? new TerminalPanel(options.output) : undefined
  }

  /** @param lag records that are not counted yet, where that is known */
  show(
    parts: readonly OrderStatistics[],
    partitions: LiveFigures['partitions'],
    lag?: number,
    nowMs = Date.now(),
  ): void {
    const { json, output, graceMs, minutes } = this.#options
    const since = Math.min(...parts.map(({ sinceMs }) => sinceMs))
    const figures: LiveFigures = {
      rolling: sumRolling(parts, nowMs),
      summary: summarise(parts, graceMs),
      sinceMs: Number.isFinite(since) ? since : undefined,
      partitions,
      ...(lag !== undefined && { lag }),
    }
    if (json) output.write(`${toLiveJson(figures, minutes)}\n`)
    else if (this.#panel) this.#panel.draw(formatPanel(figures, this.#panel.columns))
    else this.#printIfNew(formatLine(figures))
  }

  #printIfNew(line: string): void {
    if (line !== this.#lastLine) this.#options.output.write(`${line}\n`)
    this.#lastLine = line
  }
}
