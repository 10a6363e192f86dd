import { cutText, type TerminalOutput, textWidth } from './terminal.ts'

/** Of a terminal that does not tell its size. */
const USUAL_COLUMNS = 80
const USUAL_ROWS = 24

/** Lines at the lower end of a terminal that are written over each time. */
export class TerminalPanel {
  readonly #output: TerminalOutput
  /** Of the lines that stand there now. */
  #drawnWidths: number[] = []

  constructor(output: TerminalOutput) {
    this.#output = output
  }

  /** Columns that can be used: a character in the last one makes some terminals wrap. */
  get columns(): number {
    return (this.#output.columns || USUAL_COLUMNS) - 1
  }

  /** Rows that can be used: the cursor stands below them, and what scrolls away could not be written over. */
  get rows(): number {
    return Math.max(1, (this.#output.rows || USUAL_ROWS) - 1)
  }

  /**
   * Cuts the lines to the window.
   *
   * @param above what is to stay above them from now on, with its line end
   */
  draw(lines: readonly string[], above = ''): void {
    const shown = lines.slice(0, this.rows).map((line) => cutText(line, this.columns))
    // In one piece, so that nobody sees it empty.
    this.#output.write(this.#goBack() + above + shown.map((line) => `${line}\n`).join(''))
    this.#drawnWidths = shown.map(textWidth)
  }

  /** What stands there stays. */
  leave(): void {
    this.#drawnWidths = []
  }

  /** To the beginning of what was drawn. In a window that has become narrower each line has been wrapped since. */
  #goBack(): string {
    const wrapped = (width: number) => Math.max(1, Math.ceil(width / (this.columns + 1)))
    const rows = this.#drawnWidths.reduce((sum, width) => sum + wrapped(width), 0)
    return rows > 0 ? `\u001b[${Math.min(rows, this.rows)}F\u001b[J` : ''
  }
}
