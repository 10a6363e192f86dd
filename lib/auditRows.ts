import { addAmount } from './amounts.ts'
import type { AuditBook } from './auditBook.ts'
import { plain } from './auditBook.ts'
import { Kind, readInventory, readPayment, type SaidFacts, Slot, slotOf } from './auditEvents.ts'
import { OrderFlag } from './auditOrders.ts'
import { Finding } from './auditReport.ts'
import { fingerprintOf, readPositionBytes } from './auditSource.ts'
import { increment } from './auditStages.ts'
import type { OutcomeTable as AnyOutcomeTable } from './outcomes.ts'

export type OutcomeTable = Extract<AnyOutcomeTable, 'inventory_outcomes' | 'payment_outcomes'>

export interface OutcomeRow {
  orderId: string
  operation: string
  source: string
  event: string
}

export interface LedgerRow {
  idempotencyKey: string
  operation: string
  orderId: string
  amountMinor: number
  currency: string
  status: string
  authorisationId: string | null
}

/** Rows of the ledger that an event demands, as bits above those of the slots with an outcome. */
const Wanted = { authorise: 1 << 4, settle: 1 << 5 } as const

const READERS: Record<OutcomeTable, (event: string) => SaidFacts | undefined> = {
  inventory_outcomes: readInventory,
  payment_outcomes: readPayment,
}

/** The operation whose outcome is a verdict; the other one settles. */
const VERDICTS: Record<OutcomeTable, string> = {
  inventory_outcomes: 'reserve',
  payment_outcomes: 'authorise',
}

/**
 * What the database and the ledger say, taken row by row into the columns of the book: first the snapshot, before
 * any record of a topic, and at the end what was missing.
 */
export class AuditRows {
  readonly #book: AuditBook
  readonly outcomes = new Finding('stored outcomes are events of their order', 2)
  readonly ledger = new Finding('rows of the ledger are of orders', 4)
  taken = 0
  /** What is missing, by order, once it was asked for. */
  #wanted: Uint8Array | undefined

  constructor(book: AuditBook) {
    this.#book = book
  }

  takeOutcome(table: OutcomeTable, row: OutcomeRow): void {
    const { orders, validated } = this.#book
    const order = orders.numberOf(Buffer.from(row.orderId))
    const said = READERS[table](row.event)
    const bit = said ? 1 << slotOf(said.kind) : 0
    if (this.#wanted && !this.#isWanted(order, bit)) return
    this.taken++
    this.outcomes.lookedAt++
    if (!said || said.orderId !== row.orderId || order < 0) {
      this.#note(table, row, said ? 'its event is of another order' : 'its event is none of this service')
      return
    }
    const slot = slotOf(said.kind)
    const isVerdict = slot === Slot.stock || slot === Slot.payment
    if ((row.operation === VERDICTS[table]) !== isVerdict) {
      this.#note(table, row, `its event is of another operation than '${plain(row.operation)}'`)
    }
    orders.stored[order]! |= bit
    const fingerprint = fingerprintOf(row.event)
    const known = orders.fingerprints[slot]!
    if (known[order] === 0) known[order] = fingerprint
    else if (known[order] !== fingerprint) orders.differs[order]! |= bit
    if (this.#wanted) return
    orders.storedKinds[order]! |= 1 << said.kind
    if (slot !== Slot.stock) return
    const source = readPositionBytes(Buffer.from(row.source))
    const cell = source?.topic === validated.topic ? validated.cellOf(source.partition, source.offset) : -1
    orders.stockCell[order] = cell + 1
  }

  takeLedger(row: LedgerRow): void {
    const { orders, sums } = this.#book
    const { orderId, operation, status, amountMinor, currency, authorisationId } = row
    const order = orders.numberOf(Buffer.from(orderId))
    const wanted = operation === 'authorise' ? Wanted.authorise : Wanted.settle
    if (this.#wanted && !this.#isWanted(order, wanted)) return
    this.taken++
    this.ledger.lookedAt++
    if (order < 0) {
      const seen = [`gateway.ledger[${plain(row.idempotencyKey)}]`]
      this.ledger.add(() => ({ id: plain(orderId), what: 'its order id can be none', seen }))
      return
    }
    orders.flags[order]! |= OrderFlag.charged
    const money = orders.currencyNumber(currency)
    if (status === 'authorised') addAmount(sums.authorised, currency, amountMinor)
    if (status === 'captured') addAmount(sums.captured, currency, amountMinor)
    if (status === 'authorised') {
      if (orders.authorisations[order] === 0) {
        orders.ledgerAuthorised.set(order, amountMinor, money)
        orders.ledgerAuthorisation[order] = fingerprintOf(authorisationId ?? '') >>> 0
      }
      increment(orders.authorisations, order)
    } else if (status === 'declined') {
      increment(orders.declines, order)
    } else if (status === 'captured' || (status === 'voided' && authorisationId !== null)) {
      const counts = status === 'captured' ? orders.captures : orders.voids
      if (counts[order] === 0) orders.ledgerSettled.set(order, amountMinor, money)
      increment(counts, order)
    }
  }

  /**
   * The orders of which an event was seen whose rows are not in the snapshot, which is older than the events. Rows are
   * written before their events are published, so a second look must find them. From here on only what is missing is
   * taken: other rows can be newer than all that was read.
   */
  *findMissing(): Generator<string> {
    const { orders } = this.#book
    const wanted = new Uint8Array(orders.size)
    for (let order = 0; order < orders.size; order++) {
      wanted[order] = this.#missingOf(order)
    }
    this.#wanted = wanted
    for (let order = 0; order < wanted.length; order++) if (wanted[order]! > 0) yield orders.idOf(order)
  }

  #missingOf(order: number): number {
    const { orders } = this.#book
    if (orders.seen[order] === 0) return 0
    let missing = 0
    for (let slot = 0; slot < Slot.decision; slot++) {
      const isSaid = (orders.seen[order]! & (0b11 << (slot * 2))) !== 0
      if (isSaid && (orders.stored[order]! & (1 << slot)) === 0) missing |= 1 << slot
    }
    const isSettled = orders.has(order, Kind.captured) || orders.has(order, Kind.voided)
    // The event that says it was authorised can be deleted already.
    const isPaid = isSettled || orders.has(order, Kind.authorised) || orders.has(order, Kind.declined)
    if (isPaid && orders.authorisations[order] === 0 && orders.declines[order] === 0)
      missing |= Wanted.authorise
    if (isSettled && orders.captures[order] === 0 && orders.voids[order] === 0) missing |= Wanted.settle
    return missing
  }

  #isWanted(order: number, bits: number): boolean {
    return ((this.#wanted?.[order] ?? 0) & bits) !== 0
  }

  #note(table: OutcomeTable, { orderId, operation }: OutcomeRow, what: string): void {
    const seen = [`${table}[${plain(orderId)}, ${plain(operation)}]`]
    this.outcomes.add(() => ({ id: plain(orderId), what, seen }))
  }
}
