import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { type CsvRow, readCsvRows, splitQuoted } from '../lib/csvRows.ts'
import { ConfigurationError } from '../lib/errors.ts'

async function fileWith(t: TestContext, content: string | Buffer): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'csv-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = join(directory, 'some.csv')
  await writeFile(file, content)
  return file
}

async function readAll(file: string): Promise<CsvRow[]> {
  const all: CsvRow[] = []
  for await (const rows of readCsvRows(file)) all.push(...rows)
  return all
}

const quote = (field: string) => `"${field.replaceAll('"', '""')}"`

test('whatever is quoted by the rules is read as it was', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), (fields) => {
      assert.deepEqual(splitQuoted(fields.map(quote).join(',')), fields)
    }),
  )
})

test('quotes, commas and line ends in fields, blank lines, CRLF and a byte order mark are understood', async (t) => {
  const file = await fileWith(t, '\uFEFFa,b\r\n1,"x, ""y"""\r\n\r\n2,"two\r\nlines"\r\n3,12" RULER\n4,""')
  assert.deepEqual(
    (await readAll(file)).map(({ lineNumber, fields }) => [lineNumber, fields]),
    [
      [1, ['a', 'b']],
      [2, ['1', 'x, "y"']],
      [4, ['2', 'two\nlines']],
      [6, ['3', '12" RULER']],
      [7, ['4', '']],
    ],
  )
})

test('a quote that never closes costs its own line and no other', async (t) => {
  const lines = Array.from({ length: 30 }, (_, index) => `${index},good`)
  lines[3] = '3,"never closed'
  lines[20] = '20,"closed"badly'
  lines[28] = '28,"open at the end'
  const rows = await readAll(await fileWith(t, lines.join('\n')))
  assert.equal(rows.length, 30)
  const unreadable = rows.filter(({ fields }) => fields === undefined)
  assert.deepEqual(
    unreadable.map(({ lineNumber, text }) => [lineNumber, text]),
    [4, 21, 29].map((lineNumber) => [lineNumber, lines[lineNumber - 1]]),
  )
})

test('a file of many chunks gives the same rows, compressed or not', async (t) => {
  const lines = Array.from({ length: 50_000 }, (_, index) => `${index},"é, ${index}",price £${index}`)
  const text = `${lines.join('\n')}\n`
  for (const content of [text, gzipSync(text)]) {
    const rows = await readAll(await fileWith(t, content))
    assert.equal(rows.length, 50_000)
    assert.ok(
      rows.every(({ fields }, index) => fields?.[1] === `é, ${index}` && fields[2] === `price £${index}`),
    )
    assert.equal(rows.at(-1)!.lineNumber, 50_000)
  }
})

test('a file that is cut short, has no lines or is not there is refused with its name', async (t) => {
  const broken = await fileWith(t, gzipSync('a,b\n'.repeat(10_000)).subarray(0, 40))
  const endless = await fileWith(t, 'x'.repeat(3_000_000))
  for (const file of [broken, endless, '/nonexistent/file.csv']) {
    await assert.rejects(readAll(file), (error: Error) => {
      return error instanceof ConfigurationError && error.message.startsWith(file)
    })
  }
})
