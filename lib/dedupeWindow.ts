import type { OrderPlaced } from './events.ts'
import type { Repetition } from './orderRules.ts'

const FIRST_CAPACITY = 1_024

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
  /** By order id, its turn: orders are counted as they come, and what is known of one stands at its turn in the ring. */
  readonly #turns = new Map<string, number>()
  /** The turns of the oldest that is still known, and of the next to come. */
  #oldest = 0
  #next = 0
  /** A ring of columns and not of objects: there are many, they live long, and each object costs as much as what it holds. */
  #orderIds: string[] = new Array(FIRST_CAPACITY)
  #sources = new Float64Array(FIRST_CAPACITY)
  #fingerprints = new Float64Array(FIRST_CAPACITY)
  #timesMs = new Float64Array(FIRST_CAPACITY)

  constructor({ maxOrders, maxAgeMs }: { maxOrders: number; maxAgeMs: number }) {
    this.#maxOrders = maxOrders
    this.#maxAgeMs = maxAgeMs
  }

  get size(): number {
    return this.#turns.size
  }

  /**
   * Notes an order and says whether it repeats an earlier one. The same record read again, known by its position,
   * gets the same answer as the first time.
   */
  admit(order: OrderPlaced, source: string, timestampMs: number): Repetition {
    this.#evict(timestampMs)
    const fingerprint = fingerprintOf(order)
    const position = fingerprintOfText(source)
    const turn = this.#turns.get(order.orderId)
    if (turn !== undefined) {
      const place = this.#placeOf(turn)
      if (this.#sources[place] === position) return 'first'
      return this.#fingerprints[place] === fingerprint ? 'duplicate' : 'conflict'
    }
    if (this.size === this.#orderIds.length) this.#grow()
    const place = this.#placeOf(this.#next)
    this.#orderIds[place] = order.orderId
    this.#sources[place] = position
    this.#fingerprints[place] = fingerprint
    this.#timesMs[place] = timestampMs
    this.#turns.set(order.orderId, this.#next++)
    return 'first'
  }

  #evict(nowMs: number): void {
    const oldestMs = nowMs - this.#maxAgeMs
    for (; this.#oldest < this.#next; this.#oldest++) {
      const place = this.#placeOf(this.#oldest)
      if (this.size < this.#maxOrders && this.#timesMs[place]! >= oldestMs) break
      this.#turns.delete(this.#orderIds[place]!)
    }
  }

  #placeOf(turn: number): number {
    return turn % this.#orderIds.length
  }

  #grow(): void {
    const [orderIds, sources, fingerprints, timesMs] = [
      this.#orderIds,
      this.#sources,
      this.#fingerprints,
      this.#timesMs,
    ]
    const capacity = orderIds.length * 2
    this.#orderIds = new Array(capacity)
    this.#sources = new Float64Array(capacity)
    this.#fingerprints = new Float64Array(capacity)
    this.#timesMs = new Float64Array(capacity)
    for (let turn = this.#oldest; turn < this.#next; turn++) {
      const [before, after] = [turn % orderIds.length, turn % capacity]
      this.#orderIds[after] = orderIds[before]!
      this.#sources[after] = sources[before]!
      this.#fingerprints[after] = fingerprints[before]!
      this.#timesMs[after] = timesMs[before]!
    }
  }
}

const FNV_PRIME = 0x01000193
const BETWEEN = 0x1f

/** What makes two orders the same: who wants what for how much, and not when or by which message it was said. */
function fingerprintOf({ customerId, currency, items, total }: OrderPlaced): number {
  begin()
  mixText(customerId)
  mixText(currency)
  mixNumber(total)
  for (const { sku, quantity, unitPrice } of items) {
    mixText(sku)
    mixNumber(quantity)
    mixNumber(unitPrice)
  }
  return fingerprint()
}

function fingerprintOfText(text: string): number {
  begin()
  mixText(text)
  return fingerprint()
}

/*
 * A fingerprint is 53 bits of two FNV-1a hashes (Fowler, Noll, Vo), computed without making a string of what goes in. A
 * collision, one in 10^16, calls a conflict a duplicate, and either is refused; or a repetition the first, which a reader
 * of events knows by its id.
 */
let low = 0
let high = 0

function begin(): void {
  low = 0x811c9dc5
  high = FNV_PRIME
}

function fingerprint(): number {
  return (high & 0x1fffff) * 2 ** 32 + (low >>> 0)
}

function mix(code: number): void {
  low = Math.imul(low ^ code, FNV_PRIME)
  // As 32 bits: a larger number would be allocated for each character.
  high = (Math.imul(high ^ code, FNV_PRIME) + low) | 0
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
