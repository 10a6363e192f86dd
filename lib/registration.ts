/**
 * What has to be known before the first order: customers, products and their stock in PostgreSQL, and the
 * products on their compacted topic. Saying it all again changes nothing, also when two producers say it at once.
 */
import type { Config } from '../kafkaConfig.ts'
import { sleep } from './async.ts'
import { type Client, type Database, inTransaction, query } from './database.ts'
import { UnavailableError } from './errors.ts'
import type { Customer } from './events.ts'
import type { Logger } from './log.ts'
import type { OrderSender } from './orderSender.ts'
import { ProductPublisher } from './productPublisher.ts'
import { insertProducts, type NewProduct } from './products.ts'

export type CatalogueProduct = NewProduct

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

/**
 * Registers a catalogue: first in the database, then on the topic, so that whoever sees a product there finds its
 * stock. Waits for what is away, until the signal.
 */
export async function registerAll(options: RegistrationOptions, catalogue: Catalogue): Promise<void> {
  const { config, database, sender, log, signal } = options
  // Sorted, so that two producers at once lock rows in the same order.
  const customers = [...catalogue.customers].sort((a, b) => (a.id < b.id ? -1 : 1))
  const products = [...catalogue.products].sort((a, b) => (a.sku < b.sku ? -1 : 1))
  for (const some of chunks(customers, ROWS_PER_TRANSACTION)) {
    await patiently(database, log, signal, (client) => insertCustomers(client, some))
  }
  for (const some of chunks(products, ROWS_PER_TRANSACTION)) {
    await patiently(database, log, signal, (client) => insertProducts(client, some))
  }
  const publisher = new ProductPublisher({
    ...{ database, sender, log, signal },
    topic: config.topics.products,
  })
  // Those that were there before, too: the topic may be another one than they were published on.
  await publisher.publish(products.map(({ sku }) => sku))
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
