import { DateTime } from 'luxon'
import { type CsvRow, readCsvRows } from './csvRows.ts'
import { ConfigurationError } from './errors.ts'
import { NotADecimalError, parseDecimal } from './money.ts'

/** What one line of an order history says. */
export interface RetailContent {
  sku: string
  /** Empty when the file does not say. */
  name: string
  quantity: number
  unitPriceMinor: number
  /** In milliseconds since 1970. */
  placedAtMs: number
  /** Empty when the file does not say. */
  customerId: string
  country: string
}

export interface RetailLine {
  lineNumber: number
  /** As it stands in the file. */
  text: string
  /** Undefined when the line has none that can be an order id. */
  invoice: string | undefined
  /** Undefined when it cannot be understood; `problem` then says why. */
  content: RetailContent | undefined
  problem: string | undefined
}

/** The columns, by the names that the two editions of the data set give them. */
const COLUMNS = {
  invoice: ['invoiceno', 'invoice'],
  sku: ['stockcode'],
  name: ['description'],
  quantity: ['quantity'],
  placedAt: ['invoicedate'],
  unitPrice: ['unitprice', 'price'],
  customerId: ['customerid'],
  country: ['country'],
} as const
type Column = keyof typeof COLUMNS
type Layout = Record<Column, number> & { width: number }

/** The shop's own clock. */
const ZONE = 'Europe/London'
const DATE_FORMATS = ['yyyy-MM-dd HH:mm:ss', 'M/d/yyyy H:mm']
const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/
const MAX_SKU_LENGTH = 64
const MAX_NAME_LENGTH = 500
const MAX_QUANTITY = 1e9
const MAX_MINOR = 1e15

/**
 * The lines of an order history, some at a time.
 *
 * @throws ConfigurationError when the file cannot be read or its first line names other columns
 */
export async function* readRetailLines(file: string): AsyncGenerator<RetailLine[]> {
  let layout: Layout | undefined
  const readTime = createTimeReader()
  for await (const rows of readCsvRows(file)) {
    layout ??= rows[0] && readHeader(file, rows.shift()!)
    if (layout === undefined) continue
    const lines: RetailLine[] = []
    for (const row of rows) lines.push(readLine(row, layout, readTime))
    yield lines
  }
}

function readHeader(file: string, { fields, text }: CsvRow): Layout {
  const found = fields?.map((field) => field.toLowerCase().replace(/[^a-z]/g, '')) ?? []
  const position = (names: readonly string[]) => found.findIndex((name) => names.includes(name))
  const entries = Object.entries(COLUMNS).map(([column, names]) => [column, position(names)] as const)
  if (entries.some(([, at]) => at < 0)) {
    throw new ConfigurationError(
      `${file} is no order history in the Online Retail format: its first line has to name the columns InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country and is '${text.slice(0, 200)}'`,
    )
  }
  return { ...(Object.fromEntries(entries) as Record<Column, number>), width: found.length }
}

class LineProblem extends Error {}

function readLine(row: CsvRow, layout: Layout, readTime: (text: string) => number): RetailLine {
  const { lineNumber, text, fields } = row
  const number = (fields ?? text.split(','))[layout.invoice]?.trim() ?? ''
  const invoice = IDENTIFIER.test(number) ? number : undefined
  const line = { lineNumber, text, invoice }
  try {
    if (fields === undefined) throw new LineProblem('its quotes do not close')
    if (fields.length !== layout.width) {
      throw new LineProblem(`it has ${fields.length} columns, not ${layout.width}`)
    }
    if (invoice === undefined) throw new LineProblem(`'${number}' is no invoice number`)
    return { ...line, content: readContent(fields, layout, readTime), problem: undefined }
  } catch (error) {
    if (!(error instanceof LineProblem || error instanceof NotADecimalError)) throw error
    return { ...line, content: undefined, problem: error.message }
  }
}

/** @throws LineProblem, NotADecimalError */
function readContent(
  fields: readonly string[],
  layout: Layout,
  readTime: (text: string) => number,
): RetailContent {
  const sku = fields[layout.sku]!.trim()
  if (sku === '' || sku.length > MAX_SKU_LENGTH) throw new LineProblem(`'${sku}' is no stock code`)
  const name = fields[layout.name]!.trim()
  if (name.length > MAX_NAME_LENGTH) {
    throw new LineProblem(`its description is longer than ${MAX_NAME_LENGTH} characters`)
  }
  // Numbers of customers went through a spreadsheet: 17850.0.
  const customerId = fields[layout.customerId]!.trim().replace(/\.0+$/, '')
  if (customerId !== '' && !IDENTIFIER.test(customerId)) {
    throw new LineProblem(`'${customerId}' is no customer number`)
  }
  const country = fields[layout.country]!.trim()
  // PostgreSQL takes no text with this character.
  if ((sku + name + country).includes('\0')) throw new LineProblem('it has a zero byte')
  return {
    sku,
    name,
    quantity: readQuantity(fields[layout.quantity]!),
    unitPriceMinor: readPrice(fields[layout.unitPrice]!),
    placedAtMs: readTime(fields[layout.placedAt]!.trim()),
    customerId,
    country: country.slice(0, MAX_NAME_LENGTH),
  }
}

function readQuantity(text: string): number {
  const quantity = /^-?\d+(\.0+)?$/.test(text.trim()) ? Number(text) : Number.NaN
  if (!(Math.abs(quantity) <= MAX_QUANTITY))
    throw new LineProblem(`the quantity '${text}' is no whole number`)
  // Minus zero is a number of its own, which JSON has not.
  return quantity + 0
}

function readPrice(text: string): number {
  const minor = parseDecimal(text)
  if (Math.abs(minor) > MAX_MINOR) throw new LineProblem(`the price '${text}' is too large`)
  return minor
}

/** Remembers the last one: the lines of an invoice share their time, and to parse it costs more than the rest. */
function createTimeReader(): (text: string) => number {
  let lastText: string | undefined
  let lastMs = 0
  return (text) => {
    if (text !== lastText) {
      lastMs = readTime(text)
      lastText = text
    }
    return lastMs
  }
}

/**
 * A time of the shop's clock. An hour that summer time skips is taken as the one after; of an hour that comes
 * twice, the first.
 */
function readTime(text: string): number {
  for (const format of DATE_FORMATS) {
    const time = DateTime.fromFormat(text, format, { zone: ZONE, locale: 'en-GB' })
    if (time.isValid) return time.toMillis()
  }
  throw new LineProblem(`the date '${text}' is none`)
}
