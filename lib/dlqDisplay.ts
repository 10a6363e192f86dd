/** What `npm run dlq` prints. Bytes of others go to a terminal here: nothing in them may control it. */

import { isUtf8 } from 'node:buffer'
import type { DeadLetterSummary, LetterState } from './deadLetterQueue.ts'
import { formatCount, formatTable } from './text.ts'
import type { TopicRecord } from './topicReader.ts'

const MAX_TEXT_LENGTH = 4_000
const MAX_HEX_BYTES = 512
/** Kinds of reasons that are told apart in a summary. */
const MAX_KINDS = 1_000
const MAX_KIND_LENGTH = 100
const OTHER = '(other reasons)'

/** How many letters of which group there are, for which reasons; held in bounded memory. */
export class QueueSummary {
  total = 0
  readonly states: Partial<Record<LetterState, number>> = {}
  readonly #kinds = new Map<string, { group: string; kind: string; letters: number }>()

  add({ group, reason, state }: DeadLetterSummary): void {
    this.total++
    this.states[state] = (this.states[state] ?? 0) + 1
    const kind = kindOf(reason)
    const name = this.#kinds.has(`${group} ${kind}`) || this.#kinds.size < MAX_KINDS ? kind : OTHER
    const entry = this.#kinds.get(`${group} ${name}`)
    if (entry) entry.letters++
    else this.#kinds.set(`${group} ${name}`, { group, kind: name, letters: 1 })
  }

  /** The most frequent first. */
  get kinds(): { group: string; kind: string; letters: number }[] {
    return [...this.#kinds.values()].sort((a, b) => b.letters - a.letters)
  }
}

/** A reason without what differs from record to record: what it quotes, and numbers. */
function kindOf(reason: string): string {
  const kind = reason.replace(/'[^']*'|"[^"]*"|\d+/g, '…')
  return printable(kind).slice(0, MAX_KIND_LENGTH)
}

const COLUMNS = [
  'group',
  'position',
  'when',
  'order',
  'tried',
  'redriven',
  'bytes',
  'state',
  'reason',
] as const
const ALIGNED_RIGHT = new Set(
  ['tried', 'redriven', 'bytes'].map((name) => (COLUMNS as readonly string[]).indexOf(name)),
)

/**
 * A line for each letter, oldest first.
 *
 * @param width cut lines to so many columns; as long as they are without it
 */
export function formatLetters(listed: readonly DeadLetterSummary[], width?: number): string {
  const rows = listed.map((letter) => [
    letter.group,
    letter.position,
    new Date(letter.whenMs).toISOString(),
    printable(letter.order ?? '-').slice(0, 64),
    String(letter.attempts),
    String(letter.redrives),
    formatCount(letter.bytes),
    letter.state,
    printable(letter.reason),
  ])
  return formatTable(COLUMNS, rows, ALIGNED_RIGHT, width)
}

/** How many there are, of which kinds, in words. */
export function formatSummary(summary: QueueSummary, shown: number): string {
  if (summary.total === 0) return 'no dead letters\n'
  const states = Object.entries(summary.states).map(([state, number]) => `${formatCount(number)} ${state}`)
  const more = summary.total > shown ? ` (the last ${formatCount(shown)} are listed, --limit lists more)` : ''
  const kinds = summary.kinds.slice(0, 20)
  const width = Math.max(...kinds.map(({ group }) => group.length))
  const lines = kinds.map(
    (entry) => `  ${entry.group.padEnd(width)}  ${formatCount(entry.letters).padStart(9)}  ${entry.kind}\n`,
  )
  return `${lettersOf(summary.total)}: ${states.join(', ')}${more}\n${lines.join('')}`
}

/** One letter in full, as far as a person wants to see it. */
export function formatLetter(letter: DeadLetterSummary, { key, value, headers }: TopicRecord): string {
  const fields: [string, string][] = [
    ['position', letter.position],
    ['state', letter.state],
    ['when', new Date(letter.whenMs).toISOString()],
    ['reason', printable(letter.reason)],
    ['key', key === null ? '(none)' : bytesAsText(key)],
  ]
  const ofHeaders = Object.entries(headers).flatMap(([name, header]) => {
    const values = Array.isArray(header) ? header : [header]
    return values.map((one) => [printable(name), one == null ? '(none)' : bytesAsText(Buffer.from(one))])
  }) as [string, string][]
  const table = (rows: [string, string][], indent: string) => {
    const width = rows.reduce((widest, [name]) => Math.max(widest, name.length), 0)
    return rows.map(([name, text]) => `${indent}${name.padEnd(width)}  ${text}\n`).join('')
  }
  const body = value === null ? '  (none)\n' : formatValue(value)
  return `${table(fields, '')}headers\n${table(ofHeaders, '  ')}value, ${formatCount(value?.length ?? 0)} bytes\n${body}`
}

function formatValue(value: Buffer): string {
  if (!isUtf8(value)) {
    const left = value.length - MAX_HEX_BYTES
    return `${hexDump(value.subarray(0, MAX_HEX_BYTES))}${left > 0 ? `  and ${formatCount(left)} bytes more\n` : ''}`
  }
  const text = value.toString()
  const lines = text.slice(0, MAX_TEXT_LENGTH).split('\n')
  const left = text.length - MAX_TEXT_LENGTH
  const more = left > 0 ? `  and ${formatCount(left)} characters more (--json has all)\n` : ''
  return `${lines.map((line) => `  ${printable(line)}\n`).join('')}${more}`
}

/** A letter for programs: text where the bytes are UTF-8, else base64. */
export function toJson(letter: DeadLetterSummary, { key, value, headers }: TopicRecord): object {
  const encode = (bytes: Buffer) => (isUtf8(bytes) ? bytes.toString() : { base64: bytes.toString('base64') })
  const encodeHeader = (header: Buffer | string | undefined) =>
    header == null ? null : encode(Buffer.from(header))
  const encoded = Object.entries(headers).map(([name, header]) => [
    name,
    Array.isArray(header) ? header.map(encodeHeader) : encodeHeader(header),
  ])
  return {
    ...summaryToJson(letter),
    key: key && encode(key),
    value: value && encode(value),
    headers: Object.fromEntries(encoded),
  }
}

/** What `position` says in one is not said again in its parts. */
export function summaryToJson(letter: DeadLetterSummary): object {
  const { group, position, source, state, order, reason, attempts, redrives, bytes, whenMs } = letter
  const when = new Date(whenMs).toISOString()
  return { group, position, source, state, order, reason, attempts, redrives, bytes, when }
}

function bytesAsText(bytes: Buffer): string {
  const text = isUtf8(bytes) ? printable(bytes.toString()) : `0x${bytes.toString('hex')}`
  return text.length > 200 ? `${text.slice(0, 200)}… (${formatCount(bytes.length)} bytes)` : text
}

/** Without anything that a terminal would obey: escape sequences, changes of direction. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (one) => `\\u{${one.codePointAt(0)!.toString(16)}}`)
}

/** Sixteen bytes a line: offset, hexadecimal, and those that are ASCII. */
function hexDump(bytes: Buffer): string {
  let text = ''
  for (let offset = 0; offset < bytes.length; offset += 16) {
    const line = bytes.subarray(offset, offset + 16)
    const hex = line.toString('hex').replace(/../g, '$& ').padEnd(48)
    const ascii = line.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
    text += `  ${offset.toString(16).padStart(6, '0')}  ${hex} ${ascii}\n`
  }
  return text
}

export function lettersOf(number: number): string {
  return `${formatCount(number)} dead letter${number === 1 ? '' : 's'}`
}
