import { hash } from 'node:crypto'
import type { OrderPlaced } from './events.ts'
import type { Repetition } from './orderRules.ts'

interface Sighting {
  source: string
  fingerprint: string
  timestampMs: number
}

/**
 * The order ids that were placed lately in one partition, bounded by number and by age. Since an order id is the
 * key, all of its repetitions come to the same partition.
 *
 * What it holds depends on the records alone, not on when they are read, so a window that is rebuilt by reading
 * back answers as the one before.
 */
export class DedupeWindow {
  readonly #maxOrders: number
  readonly #maxAgeMs: number
  /** By order id, oldest first: a Map keeps the order of insertion. */
  readonly #sightings = new Map<string, Sighting>()

  constructor({ maxOrders, maxAgeMs }: { maxOrders: number; maxAgeMs: number }) {
    this.#maxOrders = maxOrders
    this.#maxAgeMs = maxAgeMs
  }

  get size(): number {
    return this.#sightings.size
  }

  /**
   * Notes an order and says whether it repeats an earlier one. The same record read again, known by its position,
   * gets the same answer as the first time.
   */
  admit(order: OrderPlaced, source: string, timestampMs: number): Repetition {
    this.#evict(timestampMs)
    const fingerprint = fingerprintOf(order)
    const seen = this.#sightings.get(order.orderId)
    if (seen) {
      if (seen.source === source) return 'first'
      return seen.fingerprint === fingerprint ? 'duplicate' : 'conflict'
    }
    this.#sightings.set(order.orderId, { source, fingerprint, timestampMs })
    return 'first'
  }

  #evict(nowMs: number): void {
    for (const [orderId, { timestampMs }] of this.#sightings) {
      if (this.#sightings.size < this.#maxOrders && timestampMs >= nowMs - this.#maxAgeMs) return
      this.#sightings.delete(orderId)
    }
  }
}

/** What makes two orders the same: who wants what for how much, and not when or by which message it was said. */
function fingerprintOf({ customerId, currency, items, total }: OrderPlaced): string {
  let content = `${customerId}|${currency}|${total}`
  for (const { sku, quantity, unitPrice } of items) content += `|${sku}|${quantity}|${unitPrice}`
  return hash('sha1', content, 'base64')
}
