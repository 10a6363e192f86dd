import type { AuditBook } from './auditBook.ts'
import type { OrderCheck, OrderCheckContext } from './auditOrderChecks.ts'
import type { OrderTable } from './auditOrders.ts'
import { type Finding, plain } from './auditReport.ts'
import { Kind } from './auditSlots.ts'
import { formatPosition } from './record.ts'

const LEDGER = 'gateway.ledger'

/** The same amounts, to the minor unit, from the placed order to the capture. */
export function checksOfAmounts(context: OrderCheckContext): OrderCheck[] {
  const { book } = context
  const { orders } = book
  const payment = book.stageOf('payment', 'ordersValidated')
  const fulfilment = book.stageOf('fulfilment', 'ordersValidated')
  const check = context.check('amounts are the same all the way', 4, (order, finding) => {
    const differ = (what: string) => context.add(finding, order, what, LEDGER)
    const paid = payment.cellOfOrder(order)
    const decided = fulfilment.cellOfOrder(order)
    if (paid >= 0 || decided >= 0) finding.lookedAt++
    if (paid >= 0) compareAuthorised(book, order, paid, differ)
    if (decided >= 0) compareDecided(book, order, decided, differ)
    if (orders.captures[order]! > 0 || orders.voids[order]! > 0) compareSettled(orders, order, differ)
  })
  checkValidatedTotals(context, check.finding)
  checkPricedTotals(context, check.finding)
  return [check]
}

type Differ = (what: string) => void

/** @param cell of the validated order that was authorised */
function compareAuthorised(book: AuditBook, order: number, cell: number, differ: Differ): void {
  const { authorisations, saidPaid, ledgerAuthorised } = book.orders
  const [total, currency] = [book.total[cell]!, book.currency[cell]!]
  if (!saidPaid.isSame(order, total, currency)) differ('the payment event has another amount than the order')
  if (authorisations[order]! > 0 && !ledgerAuthorised.isSame(order, total, currency)) {
    differ('the ledger authorised another amount than the order has')
  }
}

/** @param cell of the validated order that was decided */
function compareDecided(book: AuditBook, order: number, cell: number, differ: Differ): void {
  const { orders, verdicts, total, currency } = book
  if (orders.has(order, Kind.confirmed)) {
    if (verdicts.currency[cell] === 0) return
    if (!orders.decided.isSame(order, verdicts.total[cell]!, verdicts.currency[cell]!)) {
      differ('confirmed with another amount than it was priced at')
    }
  } else if (
    orders.has(order, Kind.cancelled) &&
    !orders.decided.isSame(order, total[cell]!, currency[cell]!)
  ) {
    differ('cancelled with another amount than the order has')
  }
}

function compareSettled(orders: OrderTable, order: number, differ: Differ): void {
  const { ledgerAuthorised, ledgerSettled, saidSettled, decided } = orders
  const [minor, currency] = [ledgerSettled.minor[order]!, ledgerSettled.currency[order]!]
  if (orders.voids[order]! > 0) {
    if (!ledgerAuthorised.isSame(order, minor, currency))
      differ('the ledger voided another amount than it authorised')
  } else {
    if (currency !== ledgerAuthorised.currency[order] || minor > ledgerAuthorised.minor[order]!) {
      differ('the ledger captured more than it authorised')
    }
    if (orders.has(order, Kind.confirmed) && !decided.isSame(order, minor, currency)) {
      differ('the ledger captured another amount than was confirmed')
    }
  }
  const saysSettled = orders.has(order, Kind.captured) || orders.has(order, Kind.voided)
  if (saysSettled && !saidSettled.isSame(order, minor, currency)) {
    differ('the event settles another amount than the ledger')
  }
}

/** What an order is priced from is what it was placed and authorised with. */
function checkPricedTotals(context: OrderCheckContext, finding: Finding): void {
  const { validated, verdicts, total, currency, orders } = context.book
  for (let cell = 0; cell < validated.size; cell++) {
    if (verdicts.currency[cell] === 0 || !validated.isThere(cell)) continue
    finding.lookedAt++
    if (verdicts.subtotal[cell] === total[cell] && verdicts.currency[cell] === currency[cell]) continue
    const order = validated.orderAt(cell)
    finding.add(() => {
      const { partition, offset } = validated.positionOf(cell)
      const position = formatPosition(validated.topic, partition, offset)
      return {
        id: order < 0 ? position : plain(orders.idOf(order)),
        what: `priced from ${verdicts.subtotal[cell]}, validated with ${total[cell]}`,
        seen: [position],
      }
    })
  }
}

/** A validated order has the total and the lines of the record that it came from. */
function checkValidatedTotals({ book }: OrderCheckContext, finding: Finding): void {
  const { validated, rawCell, total, currency, rawTotal, rawCurrency, orders } = book
  const { linesFingerprint, rawLines } = book
  for (let cell = 0; cell < validated.size; cell++) {
    const source = rawCell[cell]! - 1
    if (source < 0 || !validated.isThere(cell)) continue
    finding.lookedAt++
    const isSameAmount = total[cell] === rawTotal[source] && currency[cell] === rawCurrency[source]
    if (isSameAmount && linesFingerprint[cell] === rawLines[source]) continue
    const order = validated.orderAt(cell)
    finding.add(() => {
      const own = validated.positionOf(cell)
      const placed = book.raw.positionOf(source)
      const position = formatPosition(validated.topic, own.partition, own.offset)
      return {
        id: order < 0 ? position : plain(orders.idOf(order)),
        what: isSameAmount
          ? 'validated with other lines than it was placed with'
          : `validated with ${total[cell]}, placed with ${rawTotal[source]}`,
        seen: [position, formatPosition(book.raw.topic, placed.partition, placed.offset)],
      }
    })
  }
}
