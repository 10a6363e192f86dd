/**
 * Which orders the API has taken, and under which idempotency keys, with the semantics of
 * draft-ietf-httpapi-idempotency-key-header: rows in PostgreSQL, written before the order is sent.
 */
import { type Database, query } from './database.ts'

const KEPT_FOR_HOURS = 24
/**
 * After that long a batch that is under way counts as one that nobody knows of: its process was killed. Whoever has one
 * in hand for that long must not send it any more.
 */
export const UNDER_WAY_MS = 20_000
const BATCHES_PER_CLEANUP = 500

const STATE = { underWay: 0, acknowledged: 1, unknown: 2 } as const

/** A request to place an order. */
export interface Claim {
  /** The id that it gets unless it repeats another one. */
  orderId: string
  acceptedAtMs: number
  /** Who asks; keys of two callers have nothing to do with each other. */
  caller: string
  key: string | undefined
  /** Of the request; the same for the same body. */
  fingerprint: string | undefined
}

export interface AcceptedOrder {
  orderId: string
  acceptedAtMs: number
}

/**
 * What is known of a request:
 *
 *   - new: it is ours to send, in this batch
 *   - repeated: it was acknowledged before, as this order
 *   - mismatched: the key was used for another request
 *   - underWay: the first request with this key has no answer yet
 *   - doubtful: it was sent, perhaps, by somebody who does not know or is gone
 */
export type Finding =
  | { kind: 'new' }
  | { kind: 'mismatched' }
  | { kind: 'underWay' }
  | ({ kind: 'repeated' } & AcceptedOrder)
  | ({ kind: 'doubtful'; batchId: number } & AcceptedOrder)

interface KnownRow {
  orderId: string
  acceptedAtMs: number
  caller: string
  key: string
  fingerprint: string
  batchId: number
  state: number
  isGone: boolean
}

export class IdempotencyStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * Writes down those that are new, in one statement: of two with the same key, in whichever process, one is new.
   *
   * @returns a finding for each, in the same order
   * @throws UnavailableError
   */
  async claim(claims: readonly Claim[]): Promise<{ batchId: number; findings: Finding[] }> {
    const [batch] = await query<{ batchId: number; orderIds: string[] }>(this.#database, {
      name: 'claim-orders',
      text: `WITH batch AS (
               INSERT INTO api_batches DEFAULT VALUES RETURNING id
             ), inserted AS (
               INSERT INTO api_orders (order_id, batch_id, accepted_at_ms, caller, idempotency_key, fingerprint)
               SELECT order_id, batch.id, accepted_at_ms, caller, idempotency_key, fingerprint
               FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
                 AS claim (order_id, accepted_at_ms, caller, idempotency_key, fingerprint), batch
               -- So that two that have the same keys do not deadlock.
               ORDER BY caller, idempotency_key
               ON CONFLICT (caller, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
               RETURNING order_id
             )
             SELECT batch.id AS "batchId", ARRAY(SELECT order_id FROM inserted) AS "orderIds" FROM batch`,
      values: [
        claims.map(({ orderId }) => orderId),
        claims.map(({ acceptedAtMs }) => acceptedAtMs),
        claims.map(({ caller }) => caller),
        claims.map(({ key }) => key ?? null),
        claims.map(({ fingerprint }) => fingerprint ?? null),
      ],
    })
    const { batchId, orderIds } = batch!
    if (orderIds.length === claims.length) return { batchId, findings: claims.map(() => ({ kind: 'new' })) }
    const inserted = new Set(orderIds)
    const known = await this.#findKnown(claims.filter(({ orderId }) => !inserted.has(orderId)))
    const findings = claims.map((claim): Finding => {
      if (inserted.has(claim.orderId)) return { kind: 'new' }
      return judge(claim, known.get(nameOf(claim)))
    })
    return { batchId, findings }
  }

  async #findKnown(claims: readonly Claim[]): Promise<Map<string, KnownRow>> {
    const rows = await query<KnownRow>(this.#database, {
      name: 'find-claimed-orders',
      text: `SELECT order_id AS "orderId", accepted_at_ms AS "acceptedAtMs", api_orders.caller, fingerprint,
                    idempotency_key AS key, batch_id AS "batchId", state,
                    begun_at < now() - $3 * interval '1 ms' AS "isGone"
             FROM unnest($1::text[], $2::text[]) AS wanted (caller, key)
             JOIN api_orders ON api_orders.caller = wanted.caller AND idempotency_key = wanted.key
             JOIN api_batches ON api_batches.id = batch_id`,
      values: [claims.map(({ caller }) => caller), claims.map(({ key }) => key), UNDER_WAY_MS],
    })
    return new Map(rows.map((row) => [nameOf(row), row]))
  }

  /**
   * Makes a doubtful order ours, in a batch of its own.
   *
   * @returns the batch, or undefined when somebody else was faster
   * @throws UnavailableError
   */
  async takeOver({ orderId, batchId }: { orderId: string; batchId: number }): Promise<number | undefined> {
    const rows = await query<{ batchId: number }>(this.#database, {
      text: `WITH batch AS (INSERT INTO api_batches DEFAULT VALUES RETURNING id)
             UPDATE api_orders SET batch_id = batch.id FROM batch
             WHERE order_id = $1 AND batch_id = $2 RETURNING batch_id AS "batchId"`,
      values: [orderId, batchId],
    })
    return rows[0]?.batchId
  }

  /** Writes down what became of a batch. @throws UnavailableError */
  async settle(batchId: number, state: 'acknowledged' | 'unknown'): Promise<void> {
    await query(this.#database, {
      name: 'settle-batch',
      // Not waited for the disk: were it lost, it would be found out again.
      text: `UPDATE api_batches SET state = $2
             WHERE id = $1 AND set_config('synchronous_commit', 'off', true) IS NOT NULL`,
      values: [batchId, STATE[state]],
    })
  }

  /**
   * An order that was accepted in the last hours. One that is under way counts too: whoever knows its id was told that it
   * is accepted, and that could not be written down.
   *
   * @throws UnavailableError
   */
  async findAccepted(orderId: string): Promise<AcceptedOrder | undefined> {
    const rows = await query<AcceptedOrder>(this.#database, {
      name: 'find-accepted-order',
      text: `SELECT order_id AS "orderId", accepted_at_ms AS "acceptedAtMs"
             FROM api_orders JOIN api_batches ON api_batches.id = batch_id
             WHERE order_id = $1 AND state <> $2`,
      values: [orderId, STATE.unknown],
    })
    return rows[0]
  }

  /** Removes what is past its time, a bounded number at once. @returns whether there may be more */
  async removeOld(keptForHours = KEPT_FOR_HOURS): Promise<boolean> {
    const [row] = await query<{ removed: number }>(this.#database, {
      text: `WITH old AS (
               SELECT id FROM (SELECT id, begun_at FROM api_batches ORDER BY id LIMIT $2) AS oldest
               WHERE begun_at < now() - $1 * interval '1 hour'
             ), orders AS (
               DELETE FROM api_orders WHERE batch_id = ANY (ARRAY(SELECT id FROM old))
             ), batches AS (
               DELETE FROM api_batches USING old WHERE api_batches.id = old.id
             )
             SELECT count(*) AS removed FROM old`,
      values: [keptForHours, BATCHES_PER_CLEANUP],
    })
    return row!.removed === BATCHES_PER_CLEANUP
  }
}

function judge(claim: Claim, known: KnownRow | undefined): Finding {
  // Removed between the two looks: whoever asks again finds it free.
  if (!known) return { kind: 'underWay' }
  const { orderId, acceptedAtMs, fingerprint, batchId, state, isGone } = known
  if (fingerprint !== claim.fingerprint) return { kind: 'mismatched' }
  if (state === STATE.acknowledged) return { kind: 'repeated', orderId, acceptedAtMs }
  if (state === STATE.unknown || isGone) return { kind: 'doubtful', orderId, acceptedAtMs, batchId }
  return { kind: 'underWay' }
}

function nameOf({ caller, key }: { caller: string; key: string | undefined }): string {
  return JSON.stringify([caller, key])
}
