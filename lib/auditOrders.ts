import { type Column, grown, OrderIds } from './auditOrderIds.ts'
import { bitsOf, type Kind, STORED, slotOf } from './auditSlots.ts'

/** What is known of an order apart from what was said about it, as bits. */
export const OrderFlag = {
  placed: 1,
  validated: 2,
  validatedLate: 4,
  underWay: 8,
  charged: 16,
  /** A verdict on it is a dead letter. */
  deadLetter: 32,
  /** Its payment failed without the gateway being asked, by the event. */
  unasked: 64,
  /** The ledger has a void of nothing: nothing can be authorised any more. */
  tombstone: 128,
  /** Asked of one judge alone, by hand: no order of the pipeline. */
  request: 256,
} as const

/** Ids of orders are at most 64 characters of ASCII; what is longer is none. */
const MAX_ID_BYTES = 64

/** Sums of money, one for each order: minor units and currency. */
class AmountColumn {
  minor = new Float64Array(0)
  currency = new Uint8Array(0)

  grow(length: number): void {
    this.minor = grown(this.minor, length)
    this.currency = grown(this.currency, length)
  }

  set(order: number, minor: number, currency: number): void {
    this.minor[order] = minor
    this.currency[order] = currency
  }

  isSame(order: number, minor: number, currency: number): boolean {
    return this.minor[order] === minor && this.currency[order] === currency
  }
}

/**
 * All that is known of each order, in columns of numbers: some 250 bytes an order, whatever its id.
 *
 * What was said about an order is kept by kind, as bits: in `seen` what lies before the look at the bounds, in
 * `known` also what came later, which may excuse and never accuses.
 */
export class OrderTable {
  readonly #ids: OrderIds
  flags = new Uint16Array(0)
  seen = new Uint32Array(0)
  known = new Uint32Array(0)
  /** Slots in which something was said more than once. */
  twice = new Uint16Array(0)
  /** Slots whose stored outcome was found in the database, and those whose bytes are not what was published. */
  stored = new Uint16Array(0)
  differs = new Uint16Array(0)
  /** Kinds that the stored outcomes of the snapshot say. */
  storedKinds = new Uint32Array(0)
  /** The cell of orders.validated that caused the stored outcome of the stock, plus 1. */
  stockCell = new Int32Array(0)
  /** Rows of the ledger, by what they say. */
  authorisations = new Uint8Array(0)
  captures = new Uint8Array(0)
  voids = new Uint8Array(0)
  declines = new Uint8Array(0)
  /** Fingerprints of the authorisation that the ledger has, and of the one that the event names. */
  ledgerAuthorisation = new Uint32Array(0)
  saidAuthorisation = new Uint32Array(0)
  /** For each slot with a stored outcome: a fingerprint of its bytes, from whichever of row and event came first. */
  readonly fingerprints = STORED.map((rows) => rows && new Float64Array(0))
  /** For each slot: where it was first seen. */
  readonly places = STORED.map(() => new Float64Array(0))
  readonly saidPaid = new AmountColumn()
  readonly saidSettled = new AmountColumn()
  readonly decided = new AmountColumn()
  readonly ledgerAuthorised = new AmountColumn()
  readonly ledgerSettled = new AmountColumn()
  /** Of the decision: codes of its reasons, and the judges that it names as missing, as bits. */
  reasons = new Uint32Array(0)
  missing = new Uint16Array(0)
  readonly #currencies = new Map<string, number>()

  /** @param expected how many orders there may be */
  constructor(expected: number) {
    const length = Math.max(1_024, expected)
    this.#ids = new OrderIds(length)
    this.#grow(length)
  }

  get size(): number {
    return this.#ids.size
  }

  /** The number of an order, or -1 when these bytes can be no order id. */
  numberOf(id: Uint8Array | null): number {
    if (id === null || id.length === 0 || id.length > MAX_ID_BYTES) return -1
    const order = this.#ids.numberOf(id)
    if (order >= this.flags.length) this.#grow(Math.ceil(this.flags.length * 1.5))
    return order
  }

  idOf(order: number): string {
    return this.#ids.text(order)
  }

  /** A number for a currency, above 0. Beyond 254 different ones they are all the same one. */
  currencyNumber(currency: string): number {
    const known = this.#currencies.get(currency)
    if (known !== undefined) return known
    const next = Math.min(255, this.#currencies.size + 1)
    if (next < 255) this.#currencies.set(currency, next)
    return next
  }

  /** @returns whether something was said in that slot before */
  say(order: number, kind: Kind, isLate: boolean): boolean {
    this.known[order]! |= 1 << kind
    if (isLate) return false
    const isRepeated = (this.seen[order]! & bitsOf(slotOf(kind))) !== 0
    this.seen[order]! |= 1 << kind
    if (isRepeated) this.twice[order]! |= 1 << slotOf(kind)
    return isRepeated
  }

  has(order: number, kind: Kind): boolean {
    return (this.seen[order]! & (1 << kind)) !== 0
  }

  /** Also when it came after the look at the bounds. */
  isKnown(order: number, kind: Kind): boolean {
    return (this.known[order]! & (1 << kind)) !== 0
  }

  /** Compares the bytes of an event or a row with those of the other, whichever came first. */
  compareBytes(order: number, slot: number, fingerprint: number): void {
    const known = this.fingerprints[slot]
    if (!known) return
    if (known[order] === 0) known[order] = fingerprint
    else if (known[order] !== fingerprint) this.differs[order]! |= 1 << slot
  }

  hasStored(order: number, kind: Kind): boolean {
    return (this.storedKinds[order]! & (1 << kind)) !== 0
  }

  /** Whether it was validated, be it after the look at the bounds. */
  isValidated(order: number): boolean {
    return this.is(order, OrderFlag.validated | OrderFlag.validatedLate)
  }

  /** Whether one of these flags is set. */
  is(order: number, flag: number): boolean {
    return (this.flags[order]! & flag) !== 0
  }

  /** Every column that this table has. */
  #grow(length: number): void {
    for (const [name, column] of Object.entries(this)) {
      if (column instanceof AmountColumn) column.grow(length)
      else if (Array.isArray(column))
        column.forEach((one, index) => {
          column[index] = one && grown(one, length)
        })
      else if (ArrayBuffer.isView(column)) Object.assign(this, { [name]: grown(column as Column, length) })
    }
  }
}
