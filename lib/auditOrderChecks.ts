import type { AuditBook } from './auditBook.ts'
import { OrderFlag } from './auditOrders.ts'
import { Finding, type Harm, plain } from './auditReport.ts'
import { bitsOf, Kind, Slot, STORED } from './auditSlots.ts'
import { markUnderWay, type Standing } from './auditStageChecks.ts'
import { formatPosition } from './record.ts'

/** One check of each order by itself. */
export interface OrderCheck {
  finding: Finding
  look(order: number): void
}

/** What order checks stand on. */
export class OrderCheckContext {
  readonly book: AuditBook
  readonly standing: Standing

  constructor(book: AuditBook, standing: Standing) {
    this.book = book
    this.standing = standing
  }

  /** @param look looks at one order, through the finding that it is given */
  check(
    name: string,
    guarantee: number,
    look: (order: number, finding: Finding) => void,
    harm?: Harm,
  ): OrderCheck {
    const finding = new Finding(name, guarantee, harm)
    return { finding, look: (order) => look(order, finding) }
  }

  /** A check that must know all history to tell a stray from what follows from a record that is deleted. */
  checkWhole(...[name, guarantee, look, harm]: Parameters<OrderCheckContext['check']>): OrderCheck {
    if (this.book.isWhole) return this.check(name, guarantee, look, harm)
    const skipped = this.check(name, guarantee, () => undefined, harm)
    skipped.finding.skipped = 'the oldest records are deleted'
    return skipped
  }

  /** @param rows tables with a row of the order that is concerned */
  add(finding: Finding, order: number, what: string, ...rows: string[]): void {
    finding.add(() => {
      const id = plain(this.book.orders.idOf(order))
      return { id, what, seen: [...this.#placesOf(order), ...rows.map((table) => `${table}[${id}]`)] }
    })
  }

  /** What is missing is a failure once the pipeline has drained, and under way before. */
  addMissing(finding: Finding, order: number, what: string, ...rows: string[]): void {
    if (this.standing.isDrained) this.add(finding, order, what, ...rows)
    else markUnderWay(this.book, order, this.standing)
  }

  /** Where it was validated, and where something was said of it. For the few that are named: looks at all. */
  #placesOf(order: number): string[] {
    const { places, orders, validated } = this.book
    const cell = validated.findOrder(order)
    const position = cell < 0 ? undefined : validated.positionOf(cell)
    return [
      ...(position ? [formatPosition(validated.topic, position.partition, position.offset)] : []),
      ...orders.places.flatMap((column) => places.format(column[order]!) ?? []),
    ]
  }
}

export function checksOfEvents(context: OrderCheckContext): OrderCheck[] {
  const { orders } = context.book
  return [
    context.checkWhole('events are of orders placed and validated', 2, (order, finding) => {
      if (orders.seen[order] === 0 && !orders.is(order, OrderFlag.validated)) return
      finding.lookedAt++
      if (!orders.is(order, OrderFlag.placed)) context.add(finding, order, 'it was never placed')
      else if (!orders.isValidated(order)) context.add(finding, order, 'it was never validated')
    }),
    context.check('published events are the stored outcomes', 2, (order, finding) => {
      if (orders.seen[order] === 0 && orders.stored[order] === 0) return
      STORED.forEach((rows, slot) => void (rows && checkOutcome(context, finding, order, slot, rows.table)))
    }),
    context.checkWhole('stock is settled as decided', 3, (order, finding) =>
      checkStockSettled(context, finding, order),
    ),
  ]
}

/** The same bytes in the store and in the topic; a row without its event is under way. */
function checkOutcome(
  context: OrderCheckContext,
  finding: Finding,
  order: number,
  slot: number,
  table: string,
): void {
  const { orders, isWhole } = context.book
  const isSaid = (orders.seen[order]! & bitsOf(slot)) !== 0
  const isKnown = (orders.known[order]! & bitsOf(slot)) !== 0
  const isStored = (orders.stored[order]! & (1 << slot)) !== 0
  if (!isSaid && !isStored) return
  finding.lookedAt++
  if ((orders.differs[order]! & (1 << slot)) !== 0) {
    context.add(finding, order, 'the bytes of event and stored outcome differ', table)
  } else if (!isStored) {
    context.add(finding, order, `an event without a row in ${table}`)
  } else if (!isKnown && isWhole && !isForDeadLetter(context, order, slot)) {
    context.addMissing(finding, order, 'stored, and not published', table)
  }
}

/**
 * Whoever settles an order that was cancelled before its verdict stores the verdict for when the validated order comes:
 * which it does not while that is a dead letter.
 */
function isForDeadLetter({ book: { orders } }: OrderCheckContext, order: number, slot: number): boolean {
  const isRefusal =
    (slot === Slot.stock && orders.hasStored(order, Kind.notReserved)) ||
    (slot === Slot.payment && orders.hasStored(order, Kind.declined))
  return isRefusal && orders.is(order, OrderFlag.deadLetter) && orders.isKnown(order, Kind.cancelled)
}

function checkStockSettled(context: OrderCheckContext, finding: Finding, order: number): void {
  const { orders } = context.book
  const isCommitted = orders.has(order, Kind.committed)
  const isReleased = orders.has(order, Kind.released)
  const isConfirmed = orders.isKnown(order, Kind.confirmed)
  const isCancelled = orders.isKnown(order, Kind.cancelled)
  if (!isCommitted && !isReleased && !isConfirmed && !isCancelled) return
  finding.lookedAt++
  const isReserved = orders.isKnown(order, Kind.reserved)
  if (isTwice(context, order, Slot.stockSettled)) context.add(finding, order, 'settled more than once')
  else if (isCommitted && !isConfirmed) context.add(finding, order, 'committed, and not confirmed')
  else if (isReleased && !isCancelled) context.add(finding, order, 'released, and not cancelled')
  else if ((isCommitted || isReleased) && !isReserved) {
    // The decision can have come before the validated order, which is answered later.
    context.addMissing(finding, order, 'settled, and not reserved')
  } else if (isConfirmed && isReserved && !orders.isKnown(order, Kind.committed)) {
    context.addMissing(finding, order, 'confirmed, and its stock is not committed')
  } else if (isCancelled && isReserved && !orders.isKnown(order, Kind.released)) {
    context.addMissing(finding, order, 'cancelled, and its stock is not released')
  }
}

export function isTwice({ book }: OrderCheckContext, order: number, slot: number): boolean {
  return (book.orders.twice[order]! & (1 << slot)) !== 0
}
