/**
 * The simulated gateway's books: decides each request once by its idempotency key, and keeps what it answered.
 *
 * All state is in PostgreSQL, so any number of front ends can run over the same ledger.
 */
import { createHash, randomUUID } from 'node:crypto'
import { sleep } from './async.ts'
import { type Client, type Database, inTransaction, query } from './database.ts'
import { UnavailableError } from './errors.ts'

export type GatewayOperation = 'authorise' | 'capture' | 'void'

export interface GatewayRequest {
  idempotencyKey: string
  operation: GatewayOperation
  orderId: string
  amountMinor: number
  currency: string
}

/** A request with the definitive answer to it: one row of the ledger. */
export interface LedgerEntry extends GatewayRequest {
  status: 'authorised' | 'declined' | 'captured' | 'voided' | 'refused'
  authorisationId: string | null
  /** Why it was declined or refused. */
  reason: string | null
}

/** A batch is one statement and one wait for the disk, and its locks (one for each order) are in a bounded table. */
const MAX_BATCH_REQUESTS = 250
const MAX_WAITING_REQUESTS = 5_000
/** How long the first request of a batch waits for others: a transaction costs the same, whatever is in it. */
const GATHER_MS = 5

interface Waiting {
  request: GatewayRequest
  resolve(entry: LedgerEntry): void
  reject(error: unknown): void
}

/**
 * Group commit: requests that arrive within a few milliseconds, or while a write is under way, are written together.
 */
export class GatewayLedger {
  readonly #database: Database
  readonly #declineRatio: () => number
  #waiting: Waiting[] = []
  #writing = false

  /** @param declineRatio is asked for each new authorisation, since it may change at any time */
  constructor(database: Database, declineRatio: () => number) {
    this.#database = database
    this.#declineRatio = declineRatio
  }

  /**
   * The first definitive answer to the request's key, which is the answer to this request if it has none yet.
   *
   * @returns an entry whose request differs from this one when the key was used for another
   * @throws UnavailableError when nothing definitive can be said: nothing was done, or it will be found next time
   */
  answer(request: GatewayRequest): Promise<LedgerEntry> {
    if (this.#waiting.length >= MAX_WAITING_REQUESTS) {
      throw new UnavailableError('gateway ledger', `${MAX_WAITING_REQUESTS} requests wait already`)
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject })
      if (!this.#writing) void this.#writeAll()
    })
  }

  async #writeAll(): Promise<void> {
    this.#writing = true
    while (this.#waiting.length > 0) {
      if (this.#waiting.length < MAX_BATCH_REQUESTS) await sleep(GATHER_MS)
      const batch = this.#waiting.splice(0, MAX_BATCH_REQUESTS)
      try {
        const entries = await this.#write(batch.map(({ request }) => request))
        batch.forEach(({ resolve }, index) => {
          resolve(entries[index]!)
        })
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#writing = false
  }

  /**
   * Lock, then look, then decide: another front end that has the same order in hand is either waited for and its
   * row is seen (each statement sees what was committed before it began), or it waits and sees ours.
   */
  #write(requests: GatewayRequest[]): Promise<LedgerEntry[]> {
    return inTransaction(this.#database, async (client) => {
      await lockOrders(client, requests)
      const { byKey, byOrder } = await readEntries(client, requests)
      const added: LedgerEntry[] = []
      const answers = requests.map((request) => {
        const known = byKey.get(request.idempotencyKey)
        if (known) return known
        const entriesOfOrder = byOrder.get(request.orderId) ?? []
        const entry = decideRequest(request, entriesOfOrder, this.#declineRatio())
        byKey.set(entry.idempotencyKey, entry)
        byOrder.set(entry.orderId, [...entriesOfOrder, entry])
        added.push(entry)
        return entry
      })
      if (added.length > 0) await insertEntries(client, added)
      return answers
    })
  }
}

/**
 * What a gateway answers to a request that it has not seen, from what it has done for that order:
 *
 *   - authorise: whatever is asked for under a key of its own, as gateways do, so asking for one order under two keys
 *     charges twice. Never after a void, which is declined rather than refused: it is an answer about the order, and
 *     whoever asks late is to have one
 *   - capture: only what is authorised, not above it, once
 *   - void: whatever is not captured, once; without an authorisation it stays as a tombstone against a late one
 */
export function decideRequest(
  request: GatewayRequest,
  entriesOfOrder: readonly LedgerEntry[],
  declineRatio: number,
): LedgerEntry {
  const find = (status: LedgerEntry['status']) => entriesOfOrder.find((entry) => entry.status === status)
  const authorised = find('authorised')
  const authorisationId = authorised?.authorisationId ?? null
  const settled = find('captured') ?? find('voided')
  const answer = (status: LedgerEntry['status'], id: string | null, reason: string | null = null) => ({
    ...request,
    status,
    authorisationId: id,
    reason,
  })
  const refuse = (reason: string) => answer('refused', authorisationId, reason)

  if (request.operation === 'authorise') {
    if (find('voided')) return answer('declined', null, 'order voided')
    const reason = declineReasonOf(request.orderId, declineRatio)
    return reason === undefined ? answer('authorised', randomUUID()) : answer('declined', null, reason)
  }
  if (settled) return refuse(`the order is ${settled.status} already`)
  const isCurrencyOther = authorised !== undefined && authorised.currency !== request.currency
  if (isCurrencyOther) return refuse(`the order is authorised in ${authorised.currency}`)
  if (request.operation === 'capture') {
    if (!authorised) return refuse('the order is not authorised')
    if (request.amountMinor > authorised.amountMinor) return refuse('more than the authorised amount')
    return answer('captured', authorisationId)
  }
  if (authorised && request.amountMinor !== authorised.amountMinor) return refuse('not the authorised amount')
  return answer('voided', authorisationId)
}

/** Whether this is the request that the entry answers. */
export function isSameRequest(entry: LedgerEntry, request: GatewayRequest): boolean {
  return (
    entry.operation === request.operation &&
    entry.orderId === request.orderId &&
    entry.amountMinor === request.amountMinor &&
    entry.currency === request.currency
  )
}

const DECLINE_REASONS = ['insufficient funds', 'card expired', 'limit exceeded', 'refused by issuer'] as const

/** Which orders are declined, and why, depends on their id alone: every run and every replay declines the same. */
function declineReasonOf(orderId: string, declineRatio: number): string | undefined {
  const hash = createHash('sha256').update(orderId).digest()
  if (hash.readUInt32BE(0) / 2 ** 32 >= declineRatio) return undefined
  return DECLINE_REASONS[hash[4]! % DECLINE_REASONS.length]
}

/** Sorted by the lock itself, so that two front ends cannot deadlock. The end of the transaction unlocks. */
async function lockOrders(client: Client, requests: readonly GatewayRequest[]): Promise<void> {
  await query(client, {
    name: 'gateway-lock-orders',
    text: `SELECT pg_advisory_xact_lock(key) FROM (
             SELECT DISTINCT hashtextextended('gateway ' || order_id, 0) AS key FROM unnest($1::text[]) AS order_id
             ORDER BY key
           ) AS sorted`,
    values: [requests.map(({ orderId }) => orderId)],
  })
}

const COLUMNS = `idempotency_key AS "idempotencyKey", operation, order_id AS "orderId",
  amount_minor AS "amountMinor", currency, status, authorisation_id AS "authorisationId", reason`

async function readEntries(client: Client, requests: readonly GatewayRequest[]) {
  const entries = await query<LedgerEntry>(client, {
    name: 'gateway-read-entries',
    // A union, and prepared. With OR the plan that is made while the table is all but empty reads all of it, and
    // is kept while it grows: 600 ms at 50,000 rows, where this takes 1 ms.
    text: `SELECT ${COLUMNS} FROM gateway.ledger WHERE idempotency_key = ANY ($1)
           UNION
           SELECT ${COLUMNS} FROM gateway.ledger WHERE order_id = ANY ($2)`,
    values: [requests.map(({ idempotencyKey }) => idempotencyKey), requests.map(({ orderId }) => orderId)],
  })
  const byKey = new Map<string, LedgerEntry>()
  const byOrder = new Map<string, LedgerEntry[]>()
  for (const entry of entries) {
    byKey.set(entry.idempotencyKey, entry)
    byOrder.set(entry.orderId, [...(byOrder.get(entry.orderId) ?? []), entry])
  }
  return { byKey, byOrder }
}

async function insertEntries(client: Client, entries: readonly LedgerEntry[]): Promise<void> {
  await query(client, {
    name: 'gateway-insert-entries',
    text: `INSERT INTO gateway.ledger
             (idempotency_key, operation, order_id, amount_minor, currency, status, authorisation_id, reason)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                                $7::text[], $8::text[])`,
    values: [
      entries.map(({ idempotencyKey }) => idempotencyKey),
      entries.map(({ operation }) => operation),
      entries.map(({ orderId }) => orderId),
      entries.map(({ amountMinor }) => amountMinor),
      entries.map(({ currency }) => currency),
      entries.map(({ status }) => status),
      entries.map(({ authorisationId }) => authorisationId),
      entries.map(({ reason }) => reason),
    ],
  })
}
