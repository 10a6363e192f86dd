/** What the tour puts before a person: narration that fits the window, output as it came, and what was shown by it. */
import { sleep } from './async.ts'
import { formatTable } from './text.ts'

export interface NarratorOptions {
  screen: { isTTY?: boolean; columns?: number; write(text: string): unknown }
  /** Where a person presses Enter; undefined where there is nobody, or nobody who wants to be waited for. */
  keys: (NodeJS.ReadableStream & { unref?(): unknown }) | undefined
  color: boolean
  signal: AbortSignal
}

/** A step has not shown what it said. */
export class ClaimError extends Error {}

/** Longer lines are hard to read, however wide the window is. */
const MAX_TEXT_WIDTH = 96
const DEFAULT_WIDTH = 80
const MIN_WIDTH = 20
const OUTPUT_INDENT = 4
/** Of a line that does not fit, what follows stands so much further in. */
const CONTINUED_INDENT = 4
const READING_SECONDS = 20
/** Whatever takes longer is said to take long. */
const SAY_AFTER_MS = 2_000
const REDRAW_MS = 500
const ERASE_LINE = '\r\u001b[2K'

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

export class Narrator {
  readonly #options: NarratorOptions
  /** What was written last is a list of claims, which has no blank line behind it. */
  #isAfterClaim = false
  /** A line says what is waited for, and is to be written over. */
  #isWaitingShown = false

  constructor(options: NarratorOptions) {
    this.#options = options
  }

  heading(text: string): void {
    const rule = '─'.repeat(Math.max(0, this.#textWidth - text.length - 4))
    this.#write(`\n${this.#paint(`── ${text} ${rule}`.trimEnd(), 'bold')}\n\n`)
  }

  /** A paragraph. */
  say(text: string): void {
    this.#write(`${wrap(text, this.#textWidth).join('\n')}\n\n`)
  }

  /** What somebody would type to have what follows. */
  command(text: string, prompt = '$'): void {
    const [first = '', ...more] = wrap(text, this.#textWidth - prompt.length - 1)
    const lines = [`${prompt} ${first}`, ...more.map((line) => `  ${line}`)]
    this.#write(`${lines.map((line) => this.#paint(line, 'cyan')).join('\n')}\n`)
  }

  /** The same in a session of psql. */
  statement(sql: string): void {
    this.command(sql, 'orders=>')
  }

  /** Output, line by line as it came; lines that do not fit go on below. */
  show(lines: readonly string[]): void {
    const fitting = lines.flatMap((line) => fold(line, this.#width - OUTPUT_INDENT))
    this.#write(`${fitting.map((line) => `${' '.repeat(OUTPUT_INDENT)}${line}`.trimEnd()).join('\n')}\n\n`)
  }

  /** Rows in columns. @param alignedRight the columns of numbers */
  table(
    header: readonly string[],
    rows: readonly (readonly string[])[],
    alignedRight: readonly number[] = [],
  ): void {
    this.show(formatTable(header, rows, new Set(alignedRight)).trimEnd().split('\n'))
  }

  /** @throws ClaimError when it is not so */
  claim(sentence: string, isSo: boolean): void {
    const [mark, style] = isSo ? (['✓', 'green'] as const) : (['✗', 'red'] as const)
    const [first = '', ...more] = wrap(sentence, this.#textWidth - 2)
    const lines = [`${this.#paint(mark, style)} ${first}`, ...more.map((line) => `  ${line}`)]
    this.#write(`${lines.join('\n')}\n`, true)
    if (!isSo) throw new ClaimError(sentence)
  }

  /** What went wrong, and is no part of the story. */
  complain(text: string): void {
    this.#write(
      `${wrap(text, this.#textWidth)
        .map((line) => this.#paint(line, 'red'))
        .join('\n')}\n`,
    )
  }

  /** What the step has shown, and where more stands about it. */
  conclude(text: string, where: string): void {
    this.#write(`\n${wrap(text, this.#textWidth).join('\n')}\n`)
    this.#write(
      `${wrap(`More: ${where}`, this.#textWidth)
        .map((line) => this.#paint(line, 'dim'))
        .join('\n')}\n`,
    )
  }

  /** What is being done meanwhile: a line. */
  note(text: string): void {
    this.#write(`${wrap(text, this.#textWidth).join('\n')}\n`)
  }

  /** Waits for something, and says so when it takes long. */
  async waitFor<Result>(what: string, wanted: Promise<Result>): Promise<Result> {
    const { screen } = this.#options
    const startedMs = performance.now()
    let isSaid = false
    const timer = setInterval(() => {
      const elapsedMs = performance.now() - startedMs
      if (elapsedMs < SAY_AFTER_MS) return
      if (screen.isTTY) {
        const seconds = ` (${Math.floor(elapsedMs / 1_000)} s)`
        const text = `… ${what}`.slice(0, this.#width - seconds.length - 1) + seconds
        this.#write(this.#paint(text, 'dim'))
        this.#isWaitingShown = true
      } else if (!isSaid) this.note(`… ${what}`)
      isSaid = true
    }, REDRAW_MS)
    try {
      return await wanted
    } finally {
      clearInterval(timer)
      if (this.#isWaitingShown) screen.write(ERASE_LINE)
      this.#isWaitingShown = false
    }
  }

  /** Time to read: until Enter, or for a while. None where nobody sits before it. */
  async pause(): Promise<void> {
    const { keys, screen, signal } = this.#options
    if (!keys || signal.aborted) return
    const pressed = new AbortController()
    const press = () => pressed.abort()
    const over = AbortSignal.any([pressed.signal, signal])
    // By lines: so Ctrl-C is still the signal that it always is.
    keys.on('data', press)
    keys.resume()
    screen.write('\n')
    for (let left = READING_SECONDS; left > 0 && !over.aborted; left--) {
      screen.write(
        `${ERASE_LINE}${this.#paint(`Enter goes on (or wait ${left} s)`.slice(0, this.#width - 1), 'dim')}`,
      )
      await sleep(1_000, over)
    }
    screen.write(ERASE_LINE)
    keys.off('data', press)
    keys.pause()
  }

  get #width(): number {
    return Math.max(MIN_WIDTH, this.#options.screen.columns ?? DEFAULT_WIDTH)
  }

  get #textWidth(): number {
    return Math.min(MAX_TEXT_WIDTH, this.#width)
  }

  #paint(text: string, style: keyof typeof STYLES): string {
    return this.#options.color ? `\u001b[${STYLES[style]}m${text}\u001b[0m` : text
  }

  #write(text: string, isClaim = false): void {
    const gap = this.#isAfterClaim && !isClaim && !text.startsWith('\n') ? '\n' : ''
    this.#isAfterClaim = isClaim
    this.#options.screen.write(`${this.#isWaitingShown ? ERASE_LINE : ''}${gap}${text}`)
    this.#isWaitingShown = false
  }
}

/** Text in lines of at most so many columns, broken between words where that is possible. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const longer = line === '' ? word : `${line} ${word}`
    if (longer.length <= width) {
      line = longer
      continue
    }
    if (line !== '') lines.push(line)
    line = word
    for (; line.length > width; line = line.slice(width)) lines.push(line.slice(0, width))
  }
  return line === '' ? lines : [...lines, line]
}

/**
 * A line of output in lines of at most so many columns, broken at blanks and commas where that is possible. Of a table
 * that does not fit, the columns come closer first.
 */
export function fold(line: string, width: number): string[] {
  const indent = Math.min(CONTINUED_INDENT, width >> 1)
  const folded: string[] = []
  let rest = line.trimEnd()
  if (rest.length > width) rest = rest.replace(/(\S) {3,}/g, '$1  ')
  while (rest.length > width) {
    const end = Math.max(rest.lastIndexOf(' ', width), rest.lastIndexOf(',', width - 1) + 1)
    const at = end > width / 2 ? end : width
    folded.push(rest.slice(0, at).trimEnd())
    rest = ' '.repeat(indent) + rest.slice(at).trimStart()
  }
  return [...folded, rest]
}
