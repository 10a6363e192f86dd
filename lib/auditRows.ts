import { addAmount } from './amounts.ts'
import type { AuditBook } from './auditBook.ts'
import { readDecision, readJudge, type SaidFacts } from './auditEvents.ts'
import { OrderFlag } from './auditOrders.ts'
import { Finding, plain } from './auditReport.ts'
import { bitsOf, Kind, Slot, STORED, slotOf, tableOf } from './auditSlots.ts'
import { fingerprintOf, readPositionBytes } from './auditSource.ts'
import { increment } from './auditStage.ts'
import { JUDGE_NAMES } from './judges.ts'

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
const Wanted = { authorise: 1 << 30, settle: 1 << 31 } as const

type ReadEvent = (event: string) => SaidFacts | undefined

const READERS: ReadonlyMap<string, ReadEvent> = new Map<string, ReadEvent>([
  ...JUDGE_NAMES.map((judge) => [tableOf(judge), (event: string) => readJudge(judge, event)] as const),
  [tableOf('fulfilment'), readDecision],
])

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
  #wanted: Uint32Array | undefined

  constructor(book: AuditBook) {
    this.#book = book
  }

  takeOutcome(table: string, row: OutcomeRow): void {
    const { orders, validated } = this.#book
    const order = orders.numberOf(Buffer.from(row.orderId))
    const said = READERS.get(table)!(row.event)
    const bit = said ? 1 << slotOf(said.kind) : 0
    if (this.#wanted && !this.#isWanted(order, bit)) return
    this.taken++
    if (order >= 0 && this.#isOfRequest(row)) {
      orders.flags[order]! |= OrderFlag.request
      return
    }
    this.outcomes.lookedAt++
    if (!said || said.orderId !== row.orderId || order < 0) {
      this.#note(table, row, said ? 'its event is of another order' : 'its event is none of this service')
      return
    }
    const slot = slotOf(said.kind)
    if (row.operation !== STORED[slot]?.operation) {
      this.#note(table, row, `its event is of another operation than '${plain(row.operation)}'`)
    }
    orders.stored[order]! |= bit
    orders.compareBytes(order, slot, fingerprintOf(row.event))
    if (this.#wanted) return
    orders.storedKinds[order]! |= 1 << said.kind
    if (slot !== Slot.stock) return
    const source = readPositionBytes(Buffer.from(row.source))
    const cell = source?.topic === validated.topic ? validated.cellOf(source.partition, source.offset) : -1
    orders.stockCell[order] = cell + 1
  }

  /** Whether it answers a request to one judge alone, which is no order: nothing that is promised is about it. */
  #isOfRequest({ source }: OutcomeRow): boolean {
    const { topics } = this.#book
    const topic = readPositionBytes(Buffer.from(source))?.topic
    return topics.isRouted && JUDGE_NAMES.some((judge) => topics[`${judge}Requests`].name === topic)
  }

  takeLedger(row: LedgerRow): void {
    const { orders, sums } = this.#book
    const { orderId, operation, status, amountMinor, currency, authorisationId } = row
    const order = orders.numberOf(Buffer.from(orderId))
    const wanted = operation === 'authorise' ? Wanted.authorise : Wanted.settle
    if (this.#wanted && !this.#isWanted(order, wanted)) return
    this.taken++
    if (order >= 0 && orders.is(order, OrderFlag.request)) return
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
    } else if (status === 'voided') {
      orders.flags[order]! |= OrderFlag.tombstone
    }
  }

  /**
   * The orders of which an event was seen whose rows are not in the snapshot, which is older than the events. Rows are
   * written before their events are published, so a second look must find them. From here on only what is missing is
   * taken: other rows can be newer than all that was read.
   */
  *findMissing(): Generator<string> {
    const { orders } = this.#book
    const wanted = new Uint32Array(orders.size)
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
    STORED.forEach((rows, slot) => {
      const isSaid = (orders.seen[order]! & bitsOf(slot)) !== 0
      if (rows && isSaid && (orders.stored[order]! & (1 << slot)) === 0) missing |= 1 << slot
    })
    const isUnasked = orders.is(order, OrderFlag.unasked)
    const isSettled = orders.has(order, Kind.captured) || orders.has(order, Kind.voided)
    // The event that says it was authorised can be deleted already.
    const isPaid = isSettled || orders.has(order, Kind.authorised) || orders.has(order, Kind.declined)
    if (isPaid && !isUnasked && orders.authorisations[order] === 0 && orders.declines[order] === 0)
      missing |= Wanted.authorise
    const isInLedger =
      orders.captures[order]! > 0 || orders.voids[order]! > 0 || orders.is(order, OrderFlag.tombstone)
    if ((isSettled || isUnasked) && !isInLedger) missing |= Wanted.settle
    return missing
  }

  #isWanted(order: number, bits: number): boolean {
    return ((this.#wanted?.[order] ?? 0) & bits) !== 0
  }

  #note(table: string, { orderId, operation }: OutcomeRow, what: string): void {
    const seen = [`${table}[${plain(orderId)}, ${plain(operation)}]`]
    this.outcomes.add(() => ({ id: plain(orderId), what, seen }))
  }
}
