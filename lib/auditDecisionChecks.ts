import type { AuditBook } from './auditBook.ts'
import type { OrderCheck, OrderCheckContext } from './auditOrderChecks.ts'
import { Kind } from './auditSlots.ts'
import { JUDGE_NAMES, type JudgeName } from './judges.ts'

/**
 * Whether decisions follow from what the judges said of the validated order that was decided. All verdicts that a
 * decision rests on were committed before it, so what is missing here will not come any more.
 */
export function checksOfDecisions(context: OrderCheckContext): OrderCheck[] {
  const { book } = context
  const fulfilment = book.stageOf('fulfilment', 'ordersValidated')
  return [
    context.checkWhole('decisions follow from the verdicts', 2, (order, finding) => {
      const isConfirmed = book.orders.has(order, Kind.confirmed)
      if (!isConfirmed && !book.orders.has(order, Kind.cancelled)) return
      const cell = fulfilment.cellOfOrder(order)
      // Of a record that is none: that is said of its cause.
      if (cell < 0) return
      finding.lookedAt++
      const complaint = isConfirmed
        ? againstConfirmed(book, order, cell)
        : againstCancelled(book, order, cell)
      if (complaint !== undefined) context.add(finding, order, complaint)
    }),
  ]
}

/** What speaks against it: confirmed is what no judge fails and none is missing for, with a mark for each warning. */
function againstConfirmed({ orders, verdicts }: AuditBook, order: number, cell: number): string | undefined {
  const reasons = orders.reasons[order]!
  let warnings = 0
  for (const judge of JUDGE_NAMES) {
    const result = verdicts.resultOf(judge, cell)
    if (result === 'none') return `confirmed, and ${judge} has said nothing`
    if (result === 'fail') return `confirmed, though ${judge} failed it`
    if (result !== 'warning') continue
    warnings++
    if (!verdicts.isNamed(judge, cell, reasons)) return `confirmed without the warning of ${judge}`
  }
  return warnings === 0 && reasons !== 0 ? 'confirmed with a warning that nobody gave' : undefined
}

/** Cancelled is what a judge fails or is missing for, with each of them among the reasons. */
function againstCancelled({ orders, verdicts }: AuditBook, order: number, cell: number): string | undefined {
  const reasons = orders.reasons[order]!
  if (reasons === 0) return 'cancelled without a reason'
  const isMissing = (judge: JudgeName) => (orders.missing[order]! & (1 << JUDGE_NAMES.indexOf(judge))) !== 0
  let because = 0
  for (const judge of JUDGE_NAMES) {
    const result = verdicts.resultOf(judge, cell)
    if (isMissing(judge)) because++
    else if (result === 'none') return `cancelled, and ${judge} has said nothing and is not named as missing`
    else if (result === 'fail') {
      because++
      if (!verdicts.isNamed(judge, cell, reasons)) return `cancelled without the reason of ${judge}`
    }
  }
  return because === 0 ? 'cancelled, though no judge failed it and none is missing' : undefined
}
