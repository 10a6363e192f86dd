import { isTwice, type OrderCheck, type OrderCheckContext } from './auditOrderChecks.ts'
import { OrderFlag } from './auditOrders.ts'
import type { Finding } from './auditReport.ts'
import { Kind, Slot } from './auditSlots.ts'

const LEDGER = 'gateway.ledger'

/** The gateway's ledger against what was said and decided. */
export function checksOfMoney(context: OrderCheckContext): OrderCheck[] {
  const { orders } = context.book
  return [
    context.check(
      'no order is authorised twice',
      4,
      (order, finding) => {
        if (!orders.is(order, OrderFlag.charged)) return
        finding.lookedAt++
        const count = orders.authorisations[order]!
        if (count > 1) context.add(finding, order, `authorised ${count} times`, LEDGER)
      },
      'chargedTwice',
    ),
    context.check(
      'no order is captured twice',
      4,
      (order, finding) => {
        if (orders.captures[order] === 0) return
        finding.lookedAt++
        const count = orders.captures[order]!
        if (count > 1) context.add(finding, order, `captured ${count} times`, LEDGER)
      },
      'chargedTwice',
    ),
    context.checkWhole('the ledger has validated orders alone', 4, (order, finding) => {
      if (!orders.is(order, OrderFlag.charged)) return
      finding.lookedAt++
      if (!orders.isValidated(order)) {
        context.add(finding, order, 'in the ledger, and never validated', LEDGER)
      }
    }),
    context.check('payment events agree with the ledger', 4, (order, finding) =>
      checkPaid(context, finding, order),
    ),
    context.checkWhole('captured if and only if confirmed', 4, (order, finding) =>
      checkCaptured(context, finding, order),
    ),
    context.checkWhole('voided if and only if cancelled and authorised', 4, (order, finding) =>
      checkVoided(context, finding, order),
    ),
  ]
}

function checkPaid(context: OrderCheckContext, finding: Finding, order: number): void {
  const { orders, isWhole } = context.book
  const authorisations = orders.authorisations[order]!
  const declines = orders.declines[order]!
  const saysAuthorised = orders.has(order, Kind.authorised)
  const saysDeclined = orders.has(order, Kind.declined)
  if (authorisations + declines === 0 && !saysAuthorised && !saysDeclined) return
  finding.lookedAt++
  if (saysAuthorised && authorisations === 0) {
    context.add(finding, order, 'PaymentProcessed, and the ledger has no authorisation')
  } else if (saysDeclined && orders.is(order, OrderFlag.unasked)) {
    checkUnasked(context, finding, order)
  } else if (saysDeclined && authorisations > 0) {
    context.add(finding, order, 'PaymentFailed, and the ledger has an authorisation', LEDGER)
  } else if (saysDeclined && declines === 0) {
    context.add(finding, order, 'PaymentFailed, and the ledger has not declined it')
  } else if (
    saysAuthorised &&
    authorisations === 1 &&
    orders.saidAuthorisation[order] !== orders.ledgerAuthorisation[order]
  ) {
    context.add(finding, order, 'PaymentProcessed names another authorisation than the ledger', LEDGER)
  } else if (!saysAuthorised && !saysDeclined && isWhole) {
    const isKnown = orders.isKnown(order, Kind.authorised) || orders.isKnown(order, Kind.declined)
    if (!isKnown) context.addMissing(finding, order, 'in the ledger, and no event says so', LEDGER)
  }
}

/** An order that was cancelled before it was authorised: the gateway was told so, and knows nothing else of it. */
function checkUnasked(context: OrderCheckContext, finding: Finding, order: number): void {
  const { orders, isWhole } = context.book
  if (orders.authorisations[order]! > 0) {
    context.add(finding, order, 'PaymentFailed, and the ledger has an authorisation', LEDGER)
  } else if (!orders.is(order, OrderFlag.tombstone)) {
    context.add(finding, order, 'PaymentFailed for a cancelled order, and the ledger has no void')
  } else if (isWhole && !orders.isKnown(order, Kind.cancelled)) {
    context.add(finding, order, 'PaymentFailed for a cancelled order, which is not cancelled', LEDGER)
  }
}

function checkCaptured(context: OrderCheckContext, finding: Finding, order: number): void {
  const { orders } = context.book
  const captures = orders.captures[order]!
  const isConfirmed = orders.isKnown(order, Kind.confirmed)
  const saysCaptured = orders.has(order, Kind.captured)
  if (captures === 0 && !isConfirmed && !saysCaptured) return
  finding.lookedAt++
  if (captures > 0 && !isConfirmed) {
    const isCancelled = orders.isKnown(order, Kind.cancelled)
    context.add(finding, order, `captured, though ${isCancelled ? 'cancelled' : 'not confirmed'}`, LEDGER)
  } else if (saysCaptured && captures === 0) {
    context.add(finding, order, 'PaymentCaptured, and the ledger has no capture')
  } else if (isConfirmed && captures === 0) {
    context.addMissing(finding, order, 'confirmed, and not captured')
  } else if (captures > 0 && !orders.isKnown(order, Kind.captured)) {
    context.addMissing(finding, order, 'captured, and no event says so', LEDGER)
  }
}

function checkVoided(context: OrderCheckContext, finding: Finding, order: number): void {
  const { orders } = context.book
  const voids = orders.voids[order]!
  const isCancelled = orders.isKnown(order, Kind.cancelled)
  const saysVoided = orders.has(order, Kind.voided)
  const isTombstone = orders.is(order, OrderFlag.tombstone)
  if (voids === 0 && !isTombstone && !isCancelled && !saysVoided) return
  finding.lookedAt++
  if ((voids > 0 || isTombstone) && !isCancelled) {
    const isConfirmed = orders.isKnown(order, Kind.confirmed)
    context.add(finding, order, `voided, though ${isConfirmed ? 'confirmed' : 'not cancelled'}`, LEDGER)
  } else if (voids > 1 || (voids > 0 && orders.captures[order]! > 0)) {
    context.add(finding, order, 'settled more than once', LEDGER)
  } else if (saysVoided && voids === 0) {
    context.add(finding, order, 'PaymentVoided, and the ledger has no void')
  } else if (isTwice(context, order, Slot.paymentSettled)) {
    context.add(finding, order, 'several events settle its payment')
  } else if (isCancelled && orders.authorisations[order]! > 0 && voids === 0) {
    context.addMissing(finding, order, 'cancelled, and its authorisation is not voided', LEDGER)
  } else if (voids > 0 && !orders.isKnown(order, Kind.voided)) {
    context.addMissing(finding, order, 'voided, and no event says so', LEDGER)
  }
}
