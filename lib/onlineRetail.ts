/**
 * Reads an order history in the Online Retail format (UCI data set 352) as orders: the lines of one invoice are
 * one order, placed when the history says. Twice through the file, so that memory holds the open invoices alone:
 * first what is in it, then the orders.
 *
 * Nothing is dropped in silence. A line that cannot be understood is reported with its number and stands in the
 * order as the text that it was. That makes it no order, and the validator dead-letters the whole of it: without
 * the line it would pass for an order that nobody placed.
 */
import { ConfigurationError } from './errors.ts'
import { eventIdOf } from './events.ts'
import { type RetailContent, type RetailLine, readRetailLines } from './onlineRetailLine.ts'
import type { Catalogue, CatalogueCustomer, CatalogueProduct } from './registration.ts'
import { MAX_ORDER_BYTES } from './topics.ts'

/** Who buys when the history does not say. */
export const GUEST_ID = 'guest'
const CURRENCY = 'GBP'
/** Hundreds of times what the whole history orders. */
const STOCK = { quantity: 1_000_000_000, lowLevel: 0 }
/** Above this the topic would not take the record: it goes without its lines, which is no order either. */
const MAX_RECORD_BYTES = 2 * MAX_ORDER_BYTES

/** What is in a file. */
export interface Survey {
  file: string
  catalogue: Catalogue
  /** The name of each product, by stock code. */
  names: ReadonlyMap<string, string>
  lines: number
  /** How many lines each invoice has. */
  invoices: ReadonlyMap<string, number>
  /** How many records the file gives: its invoices, and each line that belongs to none. */
  records: number
  /** The first and the last time in it, in milliseconds since 1970; both 0 when there is none. */
  firstMs: number
  lastMs: number
}

export interface HistoricalOrder {
  key: string
  value: Buffer
  /** How many lines of the file are in it. */
  lines: number
  /** Undefined when no line of it could be understood. */
  placedAtMs: number | undefined
  /** Whether a line of it could not be understood. */
  isBroken: boolean
}

/** Takes what is wrong with a line, once for each. */
export type ReportProblem = (lineNumber: number, problem: string) => void

/**
 * The first pass.
 *
 * @throws ConfigurationError when the file cannot be read, has other columns, or holds nothing
 */
export async function surveyFile(file: string): Promise<Survey> {
  const products = new Map<string, CatalogueProduct>()
  const customers = new Map([[GUEST_ID, makeCustomer('', 'Unspecified')]])
  const invoices = new Map<string, number>()
  let lines = 0
  let strays = 0
  let firstMs = Number.POSITIVE_INFINITY
  let lastMs = Number.NEGATIVE_INFINITY
  for await (const some of readRetailLines(file)) {
    for (const { invoice, content } of some) {
      lines++
      if (invoice === undefined) strays++
      else invoices.set(invoice, (invoices.get(invoice) ?? 0) + 1)
      if (content === undefined) continue
      noteProduct(products, content)
      const customer = makeCustomer(content.customerId, content.country)
      if (!customers.has(customer.id)) customers.set(customer.id, customer)
      firstMs = Math.min(firstMs, content.placedAtMs)
      lastMs = Math.max(lastMs, content.placedAtMs)
    }
  }
  if (lines === 0) throw new ConfigurationError(`${file} holds no order`)
  for (const product of products.values()) product.name ||= product.sku
  return {
    file,
    catalogue: { products: [...products.values()], customers: [...customers.values()] },
    names: new Map([...products.values()].map(({ sku, name }) => [sku, name])),
    lines,
    invoices,
    records: invoices.size + strays,
    firstMs: Number.isFinite(firstMs) ? firstMs : 0,
    lastMs: Number.isFinite(lastMs) ? lastMs : 0,
  }
}

/** The first name and the first price above nothing that the history gives: later ones are notes of damage. */
function noteProduct(
  products: Map<string, CatalogueProduct>,
  { sku, name, unitPriceMinor }: RetailContent,
): void {
  let product = products.get(sku)
  if (product === undefined) {
    product = { sku, name: '', unitPriceMinor: 0, currency: CURRENCY, stock: STOCK }
    products.set(sku, product)
  }
  product.name ||= name
  if (product.unitPriceMinor === 0) product.unitPriceMinor = Math.max(0, unitPriceMinor)
}

function makeCustomer(number: string, country: string): CatalogueCustomer {
  const id = number || GUEST_ID
  return {
    id,
    name: number ? `Customer ${number}` : 'Guest',
    email: `${id}@customers.example`,
    tier: 'standard',
    country,
    blocked: false,
  }
}

/**
 * The second pass: each invoice when its last line was read, which is the order of the file but for invoices that
 * others interrupt.
 *
 * @throws ConfigurationError when the file can no longer be read
 */
export async function* readOrders(survey: Survey, report: ReportProblem): AsyncGenerator<HistoricalOrder> {
  const open = new Map<string, RetailLine[]>()
  for await (const some of readRetailLines(survey.file)) {
    for (const line of some) {
      if (line.problem !== undefined) report(line.lineNumber, line.problem)
      if (line.invoice === undefined) {
        yield composeOrder(`line-${line.lineNumber}`, [line], survey)
        continue
      }
      const lines = open.get(line.invoice) ?? []
      lines.push(line)
      if (lines.length === survey.invoices.get(line.invoice)) {
        open.delete(line.invoice)
        yield composeOrder(line.invoice, lines, survey, report)
      } else open.set(line.invoice, lines)
    }
  }
  // Only when the file has changed since the first pass.
  for (const [invoice, lines] of open) yield composeOrder(invoice, lines, survey, report)
}

function composeOrder(
  orderId: string,
  lines: readonly RetailLine[],
  survey: Survey,
  report?: ReportProblem,
): HistoricalOrder {
  // The first line says who, when and where; a few invoices were a minute in the making.
  const first = lines.find(({ content }) => content !== undefined)?.content
  const order = {
    type: 'OrderPlaced',
    eventId: eventIdOf(orderId, 'OrderPlaced'),
    occurredAt: new Date().toISOString(),
    orderId,
    ...(first ? describeOrder(first) : {}),
    items: lines.map((line) => composeItem(line, survey)),
    total: totalOf(lines),
  }
  const value = Buffer.from(JSON.stringify(order))
  const result = { key: orderId, value, lines: lines.length, placedAtMs: first?.placedAtMs }
  if (value.length <= MAX_RECORD_BYTES) {
    return { ...result, isBroken: lines.some(({ problem }) => problem !== undefined) }
  }
  const problem = `invoice ${orderId} has ${lines.length} lines in ${value.length} bytes, too large for a record`
  report?.(lines[0]!.lineNumber, problem)
  return { ...result, value: Buffer.from(JSON.stringify({ ...order, items: problem })), isBroken: true }
}

function describeOrder({ customerId, placedAtMs, country }: RetailContent) {
  const { id, name } = makeCustomer(customerId, country)
  return {
    customerId: id,
    placedAt: new Date(placedAtMs).toISOString(),
    currency: CURRENCY,
    // The country is the invoice's: a guest's is nowhere else, and a few customers bought from two.
    shippingAddress: { name, street: '', city: '', postcode: '', country },
  }
}

function composeItem({ lineNumber, text, content }: RetailLine, { names }: Survey) {
  if (content === undefined) return { line: lineNumber, text }
  const { sku, name, quantity, unitPriceMinor } = content
  return { sku, name: name || (names.get(sku) ?? sku), quantity, unitPrice: unitPriceMinor }
}

function totalOf(lines: readonly RetailLine[]): number {
  let total = 0
  for (const { content } of lines) if (content) total += content.quantity * content.unitPriceMinor
  return total
}
