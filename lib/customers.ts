import { type Database, query } from './database.ts'
import type { Customer } from './events.ts'
import type { KnownCustomer } from './orderRules.ts'

const MAX_CACHED = 50_000
/** How long a customer is taken from memory: as long as a block can go unnoticed. */
const MAX_AGE_MS = 5_000

/** Customers by id, from PostgreSQL, many in one look-up, with a bounded cache. */
export class CustomerLookup {
  readonly #database: Database
  /** Oldest look-up first. */
  readonly #cache = new Map<string, { known: KnownCustomer; atMs: number }>()

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * The customers among these ids that exist. Those that do not are looked for again each time: they may be
   * registered at any moment.
   *
   * @throws UnavailableError
   */
  async find(ids: Iterable<string>): Promise<Map<string, KnownCustomer>> {
    const nowMs = Date.now()
    const found = new Map<string, KnownCustomer>()
    const missing = new Set<string>()
    for (const id of ids) {
      const cached = this.#cache.get(id)
      if (cached && nowMs - cached.atMs < MAX_AGE_MS) found.set(id, cached.known)
      else missing.add(id)
    }
    if (missing.size === 0) return found
    const rows = await query<Customer & { blocked: boolean }>(this.#database, {
      name: 'find-customers',
      text: 'SELECT id, name, email, tier, country, blocked FROM customers WHERE id = ANY($1)',
      values: [[...missing]],
    })
    for (const { blocked, ...customer } of rows) {
      const known = { customer, blocked }
      found.set(customer.id, known)
      this.#cache.delete(customer.id)
      this.#cache.set(customer.id, { known, atMs: nowMs })
    }
    for (const id of this.#cache.keys()) {
      if (this.#cache.size <= MAX_CACHED) break
      this.#cache.delete(id)
    }
    return found
  }
}
