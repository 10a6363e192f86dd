/**
 * What has to be known before the first order: customers, products and their stock in PostgreSQL, and the
 * products on their compacted topic. Saying it all again changes nothing, also when two producers say it at once.
 */
import type { Config } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { type Client, type Database, inTransaction, query } from './database.ts'
import { UnavailableError } from './errors.ts'
import { type Customer, eventIdOf } from './events.ts'
import type { Logger } from './log.ts'
import type { OrderSender } from './orderSender.ts'

export interface CatalogueProduct {
  sku: string
  name: string
  unitPriceMinor: number
  currency: string
  /** Received once. At or below `lowLevel` available, an order is told 'limited'. */
  stock: { quantity: number; lowLevel: number }
}

export interface CatalogueCustomer extends Customer {
  blocked: boolean
}

export interface Catalogue {
  products: CatalogueProduct[]
  customers: CatalogueCustomer[]
}

export interface RegistrationOptions {
  config: Config
  database: Database
  sender: Pick<OrderSender, 'send'>
  log: Logger
  signal: AbortSignal
}

const ROWS_PER_TRANSACTION = 1_000
/** Names the receipt that a product starts with: a receipt of that name is booked once per product. */
const INITIAL_RECEIPT = 'initial'

/**
 * Registers a catalogue: first in the database, then on the topic, so that whoever sees a product there finds its
 * stock. Waits for what is away, until the signal.
 */
export async function registerAll(options: RegistrationOptions, catalogue: Catalogue): Promise<void> {
  const { database, log, signal } = options
  // Sorted, so that two producers at once lock rows in the same order.
  const customers = [...catalogue.customers].sort((a, b) => (a.id < b.id ? -1 : 1))
  const products = [...catalogue.products].sort((a, b) => (a.sku < b.sku ? -1 : 1))
  for (const some of chunks(customers, ROWS_PER_TRANSACTION)) {
    await patiently(database, log, signal, (client) => insertCustomers(client, some))
  }
  for (const some of chunks(products, ROWS_PER_TRANSACTION)) {
    await patiently(database, log, signal, (client) => insertProducts(client, some))
  }
  for (const some of chunks(products, ROWS_PER_TRANSACTION)) {
    if (signal.aborted) return
    await publishProducts(options, some)
  }
  if (!signal.aborted) {
    log.info(`registered ${catalogue.products.length} products and ${catalogue.customers.length} customers`)
  }
}

function* chunks<Item>(items: readonly Item[], size: number): Generator<Item[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}

/** @returns undefined when the signal came first */
async function patiently<Result>(
  database: Database,
  log: Logger,
  signal: AbortSignal,
  work: (client: Client) => Promise<Result>,
): Promise<Result | undefined> {
  for (let attempt = 1; !signal.aborted; attempt++) {
    try {
      return await inTransaction(database, work)
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error
      if (attempt % 20 === 1) log.warn(`${error.message} - waiting for it`)
      await sleep(500, signal)
    }
  }
  return undefined
}

/** A customer that is there stays as it is: somebody may have blocked it since. */
async function insertCustomers(client: Client, customers: readonly CatalogueCustomer[]): Promise<void> {
  await query(client, {
    text: `INSERT INTO customers (id, name, email, tier, country, blocked)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
           ON CONFLICT (id) DO NOTHING`,
    values: [
      customers.map(({ id }) => id),
      customers.map(({ name }) => name),
      customers.map(({ email }) => email),
      customers.map(({ tier }) => tier),
      customers.map(({ country }) => country),
      customers.map(({ blocked }) => blocked),
    ],
  })
}

/**
 * The product, its stock row and its first receipt. The stock is raised by the receipts that were inserted here
 * and now, in the same transaction: whoever comes second waits for the first's row and then inserts none.
 */
async function insertProducts(client: Client, products: readonly CatalogueProduct[]): Promise<void> {
  const skus = products.map(({ sku }) => sku)
  await query(client, {
    text: `INSERT INTO products (sku, name, unit_price_minor, currency)
           SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
           ON CONFLICT (sku) DO NOTHING`,
    values: [
      skus,
      products.map(({ name }) => name),
      products.map(({ unitPriceMinor }) => unitPriceMinor),
      products.map(({ currency }) => currency),
    ],
  })
  await query(client, {
    text: `INSERT INTO stock (sku, low_level)
           SELECT * FROM unnest($1::text[], $2::bigint[])
           ON CONFLICT (sku) DO NOTHING`,
    values: [skus, products.map(({ stock }) => stock.lowLevel)],
  })
  await query(client, {
    text: `WITH receipt AS (
             INSERT INTO stock_receipts (cause, sku, quantity)
             SELECT $1, sku, quantity FROM unnest($2::text[], $3::bigint[]) AS given (sku, quantity)
             ON CONFLICT (cause, sku) DO NOTHING
             RETURNING sku, quantity
           )
           UPDATE stock SET received = received + receipt.quantity, available = available + receipt.quantity
           FROM receipt WHERE stock.sku = receipt.sku`,
    values: [INITIAL_RECEIPT, skus, products.map(({ stock }) => stock.quantity)],
  })
}

/**
 * Publishes products as the database has them now, which may be newer than the catalogue, and none that has been
 * withdrawn. Also those that were there before: the process that inserted them may have died before it came here.
 */
async function publishProducts(
  { config, database, sender, log, signal }: RegistrationOptions,
  products: readonly CatalogueProduct[],
): Promise<void> {
  const { products: topic } = config.topics
  const rows = await patiently(database, log, signal, (client) =>
    query<{ sku: string; name: string; unitPrice: number; currency: string }>(client, {
      text: `SELECT sku, name, unit_price_minor AS "unitPrice", currency FROM products
             WHERE sku = ANY ($1) AND NOT withdrawn ORDER BY sku`,
      values: [products.map(({ sku }) => sku)],
    }),
  )
  const occurredAt = new Date().toISOString()
  const records = (rows ?? []).map((row) => {
    const eventId = eventIdOf(row.sku, 'ProductCreated')
    return {
      key: row.sku,
      value: Buffer.from(topic.encode({ type: 'ProductCreated', eventId, occurredAt, ...row })),
    }
  })
  await sender.send(topic.name, records)
}
