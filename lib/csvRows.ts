import { createReadStream, type ReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createGunzip } from 'node:zlib'
import { ConfigurationError, describe } from './errors.ts'

/** One record of a CSV file. */
export interface CsvRow {
  /** Of its first line, from 1. */
  lineNumber: number
  /** Undefined when its quotes do not close. */
  fields: string[] | undefined
  /** As it stands in the file. */
  text: string
}

/** A file without line ends in so many characters is none of ours, and must not be held in memory. */
const MAX_LINE_LENGTH = 1_048_576
/**
 * A quoted field may hold line ends. A quote that never closes would swallow the rest of the file: after so many
 * lines only the line that opened it counts as unreadable, and the next ones are read by themselves.
 */
const MAX_LINES_PER_ROW = 10

/**
 * The rows of a CSV file (comma, RFC 4180 quotes, UTF-8, LF or CRLF), gzip-compressed or not, a few at a time.
 * Blank lines hold nothing and are passed over.
 *
 * @throws ConfigurationError when the file cannot be read to its end
 */
export async function* readCsvRows(file: string): AsyncGenerator<CsvRow[]> {
  let pending: string[] = []
  let firstLineNumber = 1
  for await (const lines of readLines(file)) {
    pending.push(...lines)
    const { rows, used } = takeRows(pending, firstLineNumber, false)
    pending = pending.slice(used)
    firstLineNumber += used
    yield rows
  }
  yield takeRows(pending, firstLineNumber, true).rows
}

function takeRows(lines: readonly string[], firstLineNumber: number, isEnd: boolean) {
  const rows: CsvRow[] = []
  let used = 0
  while (used < lines.length) {
    const line = lines[used]!
    const lineNumber = firstLineNumber + used
    if (!line.includes('"')) {
      if (line.trim() !== '') rows.push({ lineNumber, fields: line.split(','), text: line })
      used++
      continue
    }
    const reach = lines.slice(used, used + MAX_LINES_PER_ROW)
    const found = takeQuotedRow(reach)
    // The lines that could close the quote have not all been read.
    if (found === undefined && !isEnd && reach.length < MAX_LINES_PER_ROW) break
    const { fields, count } = found ?? { fields: undefined, count: 1 }
    rows.push({ lineNumber, fields, text: reach.slice(0, count).join('\n') })
    used += count
  }
  return { rows, used }
}

/** The row that begins on the first of these lines; undefined when its quotes do not close within them. */
function takeQuotedRow(
  lines: readonly string[],
): { fields: string[] | undefined; count: number } | undefined {
  for (let count = 1; count <= lines.length; count++) {
    const fields = splitQuoted(lines.slice(0, count).join('\n'))
    if (fields === 'malformed') return { fields: undefined, count: 1 }
    if (fields !== 'open') return { fields, count }
  }
  return undefined
}

/**
 * The fields of a row with quotes in it. A quote inside a field that does not begin with one stands for itself
 * (12" RULER); 'open' when a quoted field does not end, 'malformed' when something else than a comma follows it.
 */
export function splitQuoted(text: string): string[] | 'open' | 'malformed' {
  const fields: string[] = []
  for (let position = 0; ; position++) {
    if (text[position] === '"') {
      let field = ''
      for (position++; ; position++) {
        const quote = text.indexOf('"', position)
        if (quote < 0) return 'open'
        field += text.slice(position, quote)
        position = quote + 1
        // A quote inside is doubled.
        if (text[position] !== '"') break
        field += '"'
      }
      fields.push(field)
    } else {
      const comma = text.indexOf(',', position)
      const end = comma < 0 ? text.length : comma
      fields.push(text.slice(position, end))
      position = end
    }
    if (position >= text.length) return fields
    if (text[position] !== ',') return 'malformed'
  }
}

/** The default of 16 KiB costs more in turns of the event loop than in work. */
const GUNZIP_CHUNK_BYTES = 262_144

async function* readLines(file: string): AsyncGenerator<string[]> {
  let rest = ''
  let source: ReadStream | undefined
  try {
    const isCompressed = await isGzip(file)
    source = createReadStream(file)
    const bytes = isCompressed ? source.pipe(createGunzip({ chunkSize: GUNZIP_CHUNK_BYTES })) : source
    // An error of the file does not reach the stream behind the pipe by itself.
    if (bytes !== source) source.on('error', (error) => bytes.destroy(error))
    bytes.setEncoding('utf8')
    let isFirst = true
    for await (const chunk of bytes as AsyncIterable<string>) {
      const text = isFirst ? chunk.replace(/^\uFEFF/, '') : chunk
      isFirst = false
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      if (rest.length > MAX_LINE_LENGTH) {
        throw new ConfigurationError(
          `${file} is no CSV file: a line in it is longer than ${MAX_LINE_LENGTH} characters`,
        )
      }
      yield lines.map(withoutCarriageReturn)
    }
  } catch (error) {
    if (error instanceof ConfigurationError) throw error
    throw new ConfigurationError(`${file} cannot be read: ${describe(error)}`, { cause: error })
  } finally {
    // Whoever reads may have had enough before the end.
    source?.destroy()
  }
  if (rest !== '') yield [withoutCarriageReturn(rest)]
}

function withoutCarriageReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line
}

/** By its first two bytes: a name can lie. */
async function isGzip(file: string): Promise<boolean> {
  const handle = await open(file)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0)
    return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b
  } finally {
    await handle.close()
  }
}
