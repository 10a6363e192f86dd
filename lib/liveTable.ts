import { canRedraw, flowText, harmless, type TerminalOutput } from './terminal.ts'
import { TerminalPanel } from './terminalPanel.ts'

const REDRAW_MS = 500
/** In a pipe a line now and then is enough, and only when something has changed. */
const LINE_MS = 2_000

/** Figures that are asked anew for each drawing. */
export interface LiveView {
  /** For a window with so much room; what is wider or longer is cut. */
  lines(columns: number, rows: number): string[]
  /** The same in one line, without colours. */
  line(): string
}

/**
 * Live figures below a scroll of lines. On a terminal they are redrawn in place; in a pipe they are one plain line every
 * two seconds.
 */
export class LiveTable {
  readonly #output: TerminalOutput
  /** Undefined where nothing can be redrawn. */
  readonly #panel: TerminalPanel | undefined
  readonly #onResize = () => this.#draw()
  #view: LiveView | undefined
  #timer: NodeJS.Timeout | undefined
  #lastLine = ''

  constructor(output: TerminalOutput) {
    this.#output = output
    this.#panel = canRedraw(output) ? new TerminalPanel(output) : undefined
  }

  begin(view: LiveView): void {
    this.#view = view
    this.#timer = setInterval(() => this.#draw(), this.#panel ? REDRAW_MS : LINE_MS)
    this.#output.on?.('resize', this.#onResize)
  }

  /** Leaves the last state standing. */
  end(): void {
    if (!this.#timer) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#output.off?.('resize', this.#onResize)
    this.#draw()
    this.#panel?.leave()
    this.#view = undefined
  }

  /** Writes a line that stays, above the figures. What it says may be of others: it gets no hold of the terminal. */
  print(line: string): void {
    if (this.#panel) this.#draw(`${harmless(line)}\n`)
    else this.#output.write(`${harmless(line)}\n`)
  }

  #draw(above = ''): void {
    if (this.#panel) {
      this.#panel.draw(this.#view?.lines(this.#panel.columns, this.#panel.rows) ?? [], above)
    } else {
      const line = this.#view?.line() ?? ''
      if (line !== this.#lastLine) this.#output.write(`${line}\n`)
      this.#lastLine = line
    }
  }
}

/** A name and a value on each line. */
export function rowsView(rows: () => readonly (readonly [name: string, value: string])[]): LiveView {
  return {
    lines(columns) {
      const shown = rows()
      const width = Math.max(...shown.map(([name]) => name.length))
      return shown.flatMap(([name, value]) => flowText(`  ${name.padEnd(width)}  `, [value], columns))
    },
    line: () =>
      rows()
        .map(([name, value]) => `${name} ${value}`)
        .join('  '),
  }
}
