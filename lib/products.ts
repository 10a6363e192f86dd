/**
 * Products and their stock, as people change them: in the database first, then on the topic (lib/productPublisher.ts).
 * Whoever calls has checked the shape (lib/events.ts): what the topic does not allow, its readers pass over.
 */
import { within } from './async.ts'
import { type Client, type Database, inTransaction, query } from './database.ts'
import { PipelineError } from './errors.ts'
import type { ProductPublisher } from './productPublisher.ts'

/** A product with what it starts with. */
export interface NewProduct {
  sku: string
  name: string
  unitPriceMinor: number
  currency: string
  stock: {
    /** Received once, at the start. */
    quantity: number
    /** At or below this many available, an order is told 'limited', and more are ordered. */
    lowLevel: number
    /** So many are received then; none when it is left out or 0. */
    restockQuantity?: number
  }
}

/** A product as the table has it. A withdrawn one keeps its row, and its stock. */
export interface Product {
  sku: string
  name: string
  unitPriceMinor: number
  currency: string
  withdrawn: boolean
  /** 1, and one more for each change. */
  version: number
}

/** What can be changed; what is left out stays. */
export interface ProductChanges {
  name?: string | undefined
  unitPriceMinor?: number | undefined
  currency?: string | undefined
  lowLevel?: number | undefined
  restockQuantity?: number | undefined
}

/** received = available + reserved + committed */
export interface ProductStock {
  sku: string
  received: number
  available: number
  reserved: number
  committed: number
  lowLevel: number
  restockQuantity: number
}

/** Goods that came in. `cause` names what for, and is received once for each product. */
export interface Receipt {
  cause: string
  sku: string
  quantity: number
}

export interface Page {
  /** Begins after this sku; at the first one when it is left out. */
  after?: string | undefined
  limit: number
}

export interface ProductContext {
  database: Database
  publisher: ProductPublisher
}

export class UnknownProductError extends PipelineError {
  readonly code = 'UNKNOWN_PRODUCT'
  readonly canRetry = false
  constructor(sku: string) {
    super(`there is no product ${sku}`)
  }
}

export class ProductExistsError extends PipelineError {
  readonly code = 'PRODUCT_EXISTS'
  readonly canRetry = false
  constructor(sku: string) {
    super(`there is a product ${sku} already`)
  }
}

/** It was withdrawn, which is for good. */
export class ProductWithdrawnError extends PipelineError {
  readonly code = 'PRODUCT_WITHDRAWN'
  readonly canRetry = false
  constructor(sku: string) {
    super(`product ${sku} is withdrawn`)
  }
}

/** Names the receipt that a product starts with: a receipt of that name is booked once per product. */
const INITIAL_RECEIPT = 'initial'
/** A change that is made counts, whether Kafka takes the news in this time or later. */
const PUBLISHED_WITHIN_MS = 2_000

const PRODUCT_COLUMNS = 'sku, name, unit_price_minor AS "unitPriceMinor", currency, withdrawn, version'
const STOCK_COLUMNS =
  'sku, received, available, reserved, committed, low_level AS "lowLevel", restock_quantity AS "restockQuantity"'

/**
 * A new product with its stock. Resolves when it is in the database and, unless Kafka is away, on the topic; so do
 * the other changes.
 *
 * @throws ProductExistsError, ProductWithdrawnError, UnavailableError (of the database)
 */
export async function createProduct(context: ProductContext, product: NewProduct): Promise<Product> {
  const created = await inTransaction(context.database, async (client) => {
    const isNew = (await insertProducts(client, [product])).includes(product.sku)
    const found = await lockProduct(client, product.sku)
    if (!isNew)
      throw found.withdrawn ? new ProductWithdrawnError(found.sku) : new ProductExistsError(found.sku)
    return found
  })
  await publish(context)
  return created
}

/** @throws UnknownProductError, ProductWithdrawnError, UnavailableError */
export async function updateProduct(
  context: ProductContext,
  sku: string,
  changes: ProductChanges,
): Promise<Product> {
  const updated = await inTransaction(context.database, async (client) => {
    const before = await lockProduct(client, sku)
    if (before.withdrawn) throw new ProductWithdrawnError(sku)
    const [after = before] = await query<Product>(client, {
      text: `UPDATE products SET name = coalesce($2, name), unit_price_minor = coalesce($3, unit_price_minor),
                                 currency = coalesce($4, currency), version = version + 1
             WHERE sku = $1 AND (name, unit_price_minor, currency) IS DISTINCT FROM
                   (coalesce($2, name), coalesce($3, unit_price_minor), coalesce($4, currency))
             RETURNING ${PRODUCT_COLUMNS}`,
      values: [sku, changes.name, changes.unitPriceMinor, changes.currency],
    })
    if (changes.lowLevel !== undefined || changes.restockQuantity !== undefined) {
      await query(client, {
        text: `UPDATE stock SET low_level = coalesce($2, low_level),
                                restock_quantity = coalesce($3, restock_quantity) WHERE sku = $1`,
        values: [sku, changes.lowLevel, changes.restockQuantity],
      })
    }
    return after
  })
  await publish(context)
  return updated
}

/** Takes a product off sale, for good; one that is already, stays so. @throws UnknownProductError, UnavailableError */
export async function withdrawProduct(context: ProductContext, sku: string): Promise<Product> {
  const [withdrawn] = await query<Product>(context.database, {
    text: `UPDATE products SET withdrawn = true, version = version + (NOT withdrawn)::int
           WHERE sku = $1 RETURNING ${PRODUCT_COLUMNS}`,
    values: [sku],
  })
  if (!withdrawn) throw new UnknownProductError(sku)
  await publish(context)
  return withdrawn
}

function publish({ publisher }: ProductContext): Promise<void> {
  return within(PUBLISHED_WITHIN_MS, publisher.publish())
}

/** @throws UnknownProductError */
async function lockProduct(client: Client, sku: string): Promise<Product> {
  const [product] = await query<Product>(client, {
    text: `SELECT ${PRODUCT_COLUMNS} FROM products WHERE sku = $1 FOR UPDATE`,
    values: [sku],
  })
  if (!product) throw new UnknownProductError(sku)
  return product
}

/**
 * Books goods that came in, once for each cause and product: the same again changes nothing. 'initial' and what begins
 * with 'restock:' are causes of the pipeline's own.
 *
 * @returns the receipt as it is booked, and whether that was done before: perhaps with another quantity
 * @throws UnknownProductError, ProductWithdrawnError, UnavailableError
 */
export function receiveStock(
  database: Database,
  receipt: Receipt,
): Promise<Receipt & { isRepeated: boolean }> {
  return inTransaction(database, async (client) => {
    const { sku, cause } = receipt
    // Whoever has the same cause waits here for the other, and so does a withdrawal.
    const { withdrawn } = await lockProduct(client, sku)
    const [booked] = await query<Receipt>(client, {
      text: 'SELECT cause, sku, quantity FROM stock_receipts WHERE cause = $1 AND sku = $2',
      values: [cause, sku],
    })
    if (booked) return { ...booked, isRepeated: true }
    if (withdrawn) throw new ProductWithdrawnError(sku)
    await bookReceipts(client, [receipt])
    return { ...receipt, isRepeated: false }
  })
}

/** Products in the order of their skus, withdrawn ones too; `next` is the sku to go on after, if there are more. */
export async function listProducts(
  database: Database,
  page: Page,
): Promise<{ products: Product[]; next?: string }> {
  const { rows, ...next } = await readPage<Product>(database, 'products', PRODUCT_COLUMNS, page)
  return { products: rows, ...next }
}

/** Stock levels in the order of their skus. */
export async function listStock(
  database: Database,
  page: Page,
): Promise<{ stock: ProductStock[]; next?: string }> {
  const { rows, ...next } = await readPage<ProductStock>(database, 'stock', STOCK_COLUMNS, page)
  return { stock: rows, ...next }
}

export async function findProduct(
  database: Database,
  sku: string,
): Promise<(Product & { stock: ProductStock }) | undefined> {
  const select = (columns: string, table: string) => ({
    text: `SELECT ${columns} FROM ${table} WHERE sku = $1`,
    values: [sku],
  })
  const [product] = await query<Product>(database, select(PRODUCT_COLUMNS, 'products'))
  const [stock] = await query<ProductStock>(database, select(STOCK_COLUMNS, 'stock'))
  return product && stock && { ...product, stock }
}

async function readPage<Row extends { sku: string }>(
  database: Database,
  table: 'products' | 'stock',
  columns: string,
  { after, limit }: Page,
): Promise<{ rows: Row[]; next?: string }> {
  // One more than asked for, to see whether there is one.
  const rows = await query<Row>(database, {
    text: `SELECT ${columns} FROM ${table} WHERE $1::text IS NULL OR sku > $1 ORDER BY sku LIMIT $2 + 1`,
    values: [after ?? null, limit],
  })
  if (rows.length <= limit) return { rows }
  const wanted = rows.slice(0, limit)
  return { rows: wanted, next: wanted.at(-1)!.sku }
}

/**
 * Products with their stock rows and first receipts. One that is there stays as it is: whoever comes second waits for
 * the first's row and then inserts none. To be given sorted, so that two at once do not deadlock.
 *
 * @returns the skus that were not there before
 */
export async function insertProducts(client: Client, products: readonly NewProduct[]): Promise<string[]> {
  const skus = products.map(({ sku }) => sku)
  const inserted = await query<{ sku: string }>(client, {
    text: `INSERT INTO products (sku, name, unit_price_minor, currency)
           SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
           ON CONFLICT (sku) DO NOTHING RETURNING sku`,
    values: [
      skus,
      products.map(({ name }) => name),
      products.map(({ unitPriceMinor }) => unitPriceMinor),
      products.map(({ currency }) => currency),
    ],
  })
  await query(client, {
    text: `INSERT INTO stock (sku, low_level, restock_quantity)
           SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
           ON CONFLICT (sku) DO NOTHING`,
    values: [
      skus,
      products.map(({ stock }) => stock.lowLevel),
      products.map(({ stock }) => stock.restockQuantity ?? 0),
    ],
  })
  const isNew = new Set(inserted.map(({ sku }) => sku))
  // Of the new ones alone: one that was made with nothing in stock keeps that, too.
  const initial = products
    .filter(({ sku, stock }) => isNew.has(sku) && stock.quantity > 0)
    .map(({ sku, stock }) => ({ cause: INITIAL_RECEIPT, sku, quantity: stock.quantity }))
  await bookReceipts(client, initial)
  return [...isNew]
}

/**
 * Books receipts that are not booked yet. The stock is raised by those that were inserted here and now, in the same
 * statement.
 */
export async function bookReceipts(client: Client, receipts: readonly Receipt[]): Promise<void> {
  if (receipts.length === 0) return
  await query(client, {
    text: `WITH receipt AS (
             INSERT INTO stock_receipts (cause, sku, quantity)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
             ON CONFLICT (cause, sku) DO NOTHING
             RETURNING sku, quantity
           ), received AS (
             SELECT sku, sum(quantity)::bigint AS quantity FROM receipt GROUP BY sku
           )
           UPDATE stock SET received = stock.received + received.quantity,
                            available = available + received.quantity
           FROM received WHERE stock.sku = received.sku`,
    values: [
      receipts.map(({ cause }) => cause),
      receipts.map(({ sku }) => sku),
      receipts.map(({ quantity }) => quantity),
    ],
  })
}
