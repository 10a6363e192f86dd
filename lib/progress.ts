import { formatCount } from './text.ts'

/** How a long job goes, on a terminal as a bar that is drawn again, else as a plain line every two seconds. */
export interface ProgressOptions {
  total: number
  /** What is counted, in the plural. */
  unit: string
  output: { isTTY?: boolean; columns?: number; write(text: string): unknown }
  color: boolean
  nowMs?: () => number
}

const BAR_WIDTH = 30
const REDRAW_MS = 200
const LINE_MS = 2_000
const ERASE_LINE = '\r\u001b[2K'

export class Progress {
  readonly #options: ProgressOptions
  readonly #nowMs: () => number
  readonly #startedMs: number
  #shownMs: number
  #isDrawn = false

  constructor(options: ProgressOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.#startedMs = this.#nowMs()
    this.#shownMs = this.#startedMs
  }

  /**
   * Shows how far it is, at most as often as makes sense.
   *
   * @param leftMs when that is known better than from the rate so far
   */
  update(done: number, leftMs?: number): void {
    const nowMs = this.#nowMs()
    if (nowMs - this.#shownMs < (this.#options.output.isTTY ? REDRAW_MS : LINE_MS)) return
    this.#shownMs = nowMs
    this.#show(done, leftMs, false)
  }

  /** A line of its own above the bar. */
  note(text: string): void {
    this.#options.output.write(`${this.#isDrawn ? ERASE_LINE : ''}${text}\n`)
    this.#isDrawn = false
  }

  /** The last word. */
  finish(done: number): void {
    this.#show(done, undefined, true)
    if (this.#isDrawn) this.#options.output.write('\n')
    this.#isDrawn = false
  }

  #show(done: number, leftMs: number | undefined, isLast: boolean): void {
    const { total, unit, output } = this.#options
    const elapsedMs = Math.max(1, this.#nowMs() - this.#startedMs)
    const share = total > 0 ? Math.min(1, done / total) : 1
    const estimateMs = leftMs ?? (done > 0 ? (elapsedMs / done) * Math.max(0, total - done) : Number.NaN)
    const rate = (done / elapsedMs) * 1_000
    const text = [
      `${Math.floor(share * 100)} %`,
      `${formatCount(done)} of ${formatCount(total)} ${unit}`,
      `${formatCount(Math.round(rate))}/s`,
      isLast ? `in ${formatDuration(elapsedMs)}` : `${formatDuration(estimateMs)} left`,
    ].join('  ')
    if (!output.isTTY) {
      output.write(`${text}\n`)
      return
    }
    const width = Math.max(0, Math.min(BAR_WIDTH, (output.columns ?? 80) - text.length - 4))
    output.write(`${ERASE_LINE}${this.#bar(share, width)} ${text}`)
    this.#isDrawn = true
  }

  #bar(share: number, width: number): string {
    const filled = Math.round(share * width)
    const bar = `${'█'.repeat(filled)}${'░'.repeat(width - filled)}`
    return this.#options.color ? `\u001b[36m${bar}\u001b[0m` : bar
  }
}

/** '4 s', '2 min 5 s', '3 h 12 min'. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return 'unknown time'
  const seconds = Math.ceil(ms / 1_000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`
}
