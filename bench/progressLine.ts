/** How far a bench is: a line that is drawn again on a terminal; elsewhere, one now and then. */
const LINE_MS = 5_000
const ERASE_LINE = '\r\u001b[2K'

export class ProgressLine {
  readonly #output: { isTTY?: boolean; columns?: number; write(text: string): unknown }
  #isDrawn = false
  #writtenMs = Number.NEGATIVE_INFINITY

  constructor(output: { isTTY?: boolean; columns?: number; write(text: string): unknown }) {
    this.#output = output
  }

  /** A line that stays. */
  say(text: string): void {
    this.clear()
    this.#output.write(`${text}\n`)
  }

  /** A line that the next takes the place of. */
  progress(text: string): void {
    const { isTTY, columns = 80 } = this.#output
    if (isTTY) {
      this.#output.write(`${ERASE_LINE}${text.slice(0, columns - 1)}`)
      this.#isDrawn = true
      return
    }
    if (performance.now() - this.#writtenMs < LINE_MS) return
    this.#writtenMs = performance.now()
    this.#output.write(`${text}\n`)
  }

  clear(): void {
    if (this.#isDrawn) this.#output.write(ERASE_LINE)
    this.#isDrawn = false
  }
}
