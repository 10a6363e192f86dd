import { type Kind, slotOf } from './auditEvents.ts'
import { grown, OrderIds } from './auditOrderIds.ts'

/** What is known of an order apart from what was said about it, as bits. */
export const OrderFlag = {
  placed: 1,
  validated: 2,
  validatedLate: 4,
  underWay: 8,
  charged: 16,
  deadLetter: 32,
} as const

/** Ids of orders are at most 64 characters of ASCII; what is longer is none. */
const MAX_ID_BYTES = 64

/** Sums of money, one for each order: minor units and currency. */
class AmountColumn {
  minor: Float64Array
  currency: Uint8Array

  constructor(length: number) {
    this.minor = new Float64Array(length)
    this.currency = new Uint8Array(length)
  }

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
 * All that is known of each order, in columns of numbers: some 150 bytes an order, whatever its id.
 *
 * What was said about an order is kept by kind, as bits: in `seen` what lies before the look at the bounds, in
 * `known` also what came later, which may excuse and never accuses.
 */
export class OrderTable {
  readonly #ids: OrderIds
  #capacity: number
  flags: Uint8Array
  seen: Uint16Array
  known: Uint16Array
  /** Slots in which something was said more than once. */
  twice: Uint8Array
  /** Slots whose stored outcome was found in the database, and those whose bytes are not what was published. */
  stored: Uint8Array
  differs: Uint8Array
  /** Kinds that the stored outcomes of the snapshot say. */
  storedKinds: Uint16Array
  /** The cell of orders.validated that caused the stored outcome of the stock, plus 1. */
  stockCell: Int32Array
  /** Rows of the ledger, by what they say. */
  authorisations: Uint8Array
  captures: Uint8Array
  voids: Uint8Array
  declines: Uint8Array
  /** Fingerprints of the authorisation that the ledger has, and of the one that the event names. */
  ledgerAuthorisation: Uint32Array
  saidAuthorisation: Uint32Array
  /** For each slot with a stored outcome: a fingerprint of its bytes, from whichever of row and event came first. */
  readonly fingerprints: Float64Array[]
  /** For each slot but the verdicts, which stages know: where it was first seen. */
  readonly places: Float64Array[]
  readonly saidPaid: AmountColumn
  readonly saidSettled: AmountColumn
  readonly confirmed: AmountColumn
  readonly ledgerAuthorised: AmountColumn
  readonly ledgerSettled: AmountColumn
  readonly #currencies = new Map<string, number>()

  /** @param expected how many orders there may be */
  constructor(expected: number) {
    const length = Math.max(1_024, expected)
    this.#capacity = length
    this.#ids = new OrderIds(length)
    this.flags = new Uint8Array(length)
    this.seen = new Uint16Array(length)
    this.known = new Uint16Array(length)
    this.twice = new Uint8Array(length)
    this.stored = new Uint8Array(length)
    this.differs = new Uint8Array(length)
    this.storedKinds = new Uint16Array(length)
    this.stockCell = new Int32Array(length)
    this.authorisations = new Uint8Array(length)
    this.captures = new Uint8Array(length)
    this.voids = new Uint8Array(length)
    this.declines = new Uint8Array(length)
    this.ledgerAuthorisation = new Uint32Array(length)
    this.saidAuthorisation = new Uint32Array(length)
    this.fingerprints = [0, 1, 2, 3].map(() => new Float64Array(length))
    this.places = [0, 1, 2, 3, 4].map(() => new Float64Array(length))
    this.saidPaid = new AmountColumn(length)
    this.saidSettled = new AmountColumn(length)
    this.confirmed = new AmountColumn(length)
    this.ledgerAuthorised = new AmountColumn(length)
    this.ledgerSettled = new AmountColumn(length)
  }

  get size(): number {
    return this.#ids.size
  }

  get capacity(): number {
    return this.#capacity
  }

  /** The number of an order, or -1 when these bytes can be no order id. */
  numberOf(id: Uint8Array | null): number {
    if (id === null || id.length === 0 || id.length > MAX_ID_BYTES) return -1
    const order = this.#ids.numberOf(id)
    if (order >= this.#capacity) this.#grow()
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
    const isRepeated = (this.seen[order]! & (0b11 << (slotOf(kind) * 2))) !== 0
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

  #grow(): void {
    const length = Math.ceil(this.#capacity * 1.5)
    this.#capacity = length
    this.flags = grown(this.flags, length)
    this.seen = grown(this.seen, length)
    this.known = grown(this.known, length)
    this.twice = grown(this.twice, length)
    this.stored = grown(this.stored, length)
    this.differs = grown(this.differs, length)
    this.storedKinds = grown(this.storedKinds, length)
    this.stockCell = grown(this.stockCell, length)
    this.authorisations = grown(this.authorisations, length)
    this.captures = grown(this.captures, length)
    this.voids = grown(this.voids, length)
    this.declines = grown(this.declines, length)
    this.ledgerAuthorisation = grown(this.ledgerAuthorisation, length)
    this.saidAuthorisation = grown(this.saidAuthorisation, length)
    for (const columns of [this.fingerprints, this.places]) {
      columns.forEach((column, index) => {
        columns[index] = grown(column, length)
      })
    }
    const { saidPaid, saidSettled, confirmed, ledgerAuthorised, ledgerSettled } = this
    for (const amounts of [saidPaid, saidSettled, confirmed, ledgerAuthorised, ledgerSettled])
      amounts.grow(length)
  }
}
