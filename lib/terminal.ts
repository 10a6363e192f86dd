/** What there is to know of a terminal before something is drawn on it, and how text is measured in its columns. */
import { stripVTControlCharacters } from 'node:util'

export interface TerminalOutput {
  isTTY?: boolean
  /** Of the window; unknown where there is none. */
  columns?: number
  rows?: number
  write(text: string): unknown
  on?(event: 'resize', listener: () => void): unknown
  off?(event: 'resize', listener: () => void): unknown
}

type Environment = Readonly<Record<string, string | undefined>>

/** FORCE_COLOR decides if it is set (0 and false are no colours), then NO_COLOR, then whether it is a terminal that has any. */
export function wantsColor(output: Pick<TerminalOutput, 'isTTY'>, env: Environment = process.env): boolean {
  const { FORCE_COLOR, NO_COLOR } = env
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false'
  return !NO_COLOR && canRedraw(output, env)
}

/** Whether what was written can be written over: not in a pipe, and not on a terminal that knows no sequences. */
export function canRedraw(output: Pick<TerminalOutput, 'isTTY'>, env: Environment = process.env): boolean {
  return output.isTTY === true && env.TERM !== 'dumb'
}

const ESCAPE = '\u001b'
const COLORS = { red: 31, yellow: 33 } as const

/** @param color none leaves the text as it is */
export function paint(text: string, color: keyof typeof COLORS | undefined): string {
  return color === undefined ? text : `${ESCAPE}[${COLORS[color]}m${text}${ESCAPE}[39m`
}

/** Colours and the like, or one character. */
const PIECES = new RegExp(`${ESCAPE}\\[[\\d;]*m|.`, 'gsu')

/** A line of others without anything that a terminal would obey, but for colours. */
export function harmless(line: string): string {
  return line.replace(PIECES, (piece) => (piece.length > 2 || piece === '\t' ? piece : withoutControl(piece)))
}

/** Control characters, changes of direction and line ends become spaces. */
export function withoutControl(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, ' ')
}

/**
 * What takes two columns: East Asian scripts and full-width forms (the ranges W and F of Unicode's EastAsianWidth, in
 * whole blocks), and pictures.
 */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18aff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]/u
/** What is drawn onto the character before it. */
const WITHOUT_WIDTH = /[\p{Mn}\p{Me}\p{Cc}\p{Cf}]/u

/** How many columns a text takes, without its colours. At most so many where terminals differ (pictures of several parts). */
export function textWidth(text: string): number {
  let width = 0
  for (const character of stripVTControlCharacters(text)) width += characterWidth(character)
  return width
}

function characterWidth(character: string): number {
  if (character >= ' ' && character <= '~') return 1
  if (WITHOUT_WIDTH.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

/** Cut to so many columns, with … in place of what is left out. Colours are kept, and end with the text. */
export function cutText(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text
  let cut = ''
  let width = 0
  for (const [piece] of text.matchAll(PIECES)) {
    if (piece.length <= 2) width += characterWidth(piece)
    if (width > columns - 1) break
    cut += piece
  }
  return `${cut}…${cut.includes(ESCAPE) ? `${ESCAPE}[0m` : ''}`
}

/** Filled with spaces to so many columns. */
export function padText(text: string, columns: number, side: 'left' | 'right' = 'right'): string {
  const spaces = ' '.repeat(Math.max(0, columns - textWidth(text)))
  return side === 'left' ? spaces + text : text + spaces
}

/** Items one after another behind a label, on as many lines as they take; those that follow are set in as far as the first. */
export function flowText(label: string, items: readonly string[], columns: number): string[] {
  const lines: string[] = []
  let line = label
  for (const item of items) {
    const isFirst = line === label || line.trim() === ''
    const longer = isFirst ? `${line}${item}` : `${line}  ${item}`
    if (isFirst || textWidth(longer) <= columns) {
      line = longer
    } else {
      lines.push(line)
      line = `${' '.repeat(textWidth(label))}${item}`
    }
  }
  return [...lines, line]
}
