import type { OrderPlaced } from './events.ts'
import type { Repetition } from './orderRules.ts'

interface Sighting {
  source: string
  fingerprint: number
}

/**
 * The order ids that were placed lately in one partition, bounded by number and by age. Since an order id is the
 * key, all of its repetitions come to the same partition.
 *
 * What it holds depends on the records alone, not on when they are read, so a window that is rebuilt by reading
 * back answers as the one before, as far as it was read back.
 */
export class DedupeWindow {
  readonly #maxOrders: number
  readonly #maxAgeMs: number
  readonly #sightings = new Map<string, Sighting>()
  /**
   * The same by age, oldest at `#head`. A Map keeps the order too, but to find its first entry it walks over all
   * those that were deleted before it.
   */
  #byAge: { orderId: string; timestampMs: number }[] = []
  #head = 0

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
    this.#sightings.set(order.orderId, { source, fingerprint })
    this.#byAge.push({ orderId: order.orderId, timestampMs })
    return 'first'
  }

  #evict(nowMs: number): void {
    const oldestMs = nowMs - this.#maxAgeMs
    for (; this.#head < this.#byAge.length; this.#head++) {
      const { orderId, timestampMs } = this.#byAge[this.#head]!
      if (this.#sightings.size < this.#maxOrders && timestampMs >= oldestMs) break
      this.#sightings.delete(orderId)
    }
    if (this.#head > this.#maxOrders) {
      this.#byAge = this.#byAge.slice(this.#head)
      this.#head = 0
    }
  }
}

const FNV_PRIME = 0x01000193
const BETWEEN = 0x1f

/**
 * What makes two orders the same: who wants what for how much, and not when or by which message it was said. As 53
 * bits of two FNV-1a hashes (Fowler, Noll, Vo), computed without making a string of it. A collision, one in 10^16,
 * calls a conflict a duplicate: either is refused.
 */
function fingerprintOf({ customerId, currency, items, total }: OrderPlaced): number {
  low = 0x811c9dc5
  high = FNV_PRIME
  mixText(customerId)
  mixText(currency)
  mixNumber(total)
  for (const { sku, quantity, unitPrice } of items) {
    mixText(sku)
    mixNumber(quantity)
    mixNumber(unitPrice)
  }
  return (high & 0x1fffff) * 2 ** 32 + (low >>> 0)
}

let low = 0
let high = 0

function mix(code: number): void {
  low = Math.imul(low ^ code, FNV_PRIME)
  high = Math.imul(high ^ code, FNV_PRIME) + low
}

function mixText(text: string): void {
  for (let index = 0; index < text.length; index++) mix(text.charCodeAt(index))
  mix(BETWEEN)
}

/** A whole number up to 2^53, in two halves. */
function mixNumber(value: number): void {
  mix(value | 0)
  mix(Math.floor(value / 2 ** 32))
}
