import { type Amounts, toSortedObject } from './amounts.ts'
import type { AuditBook } from './auditBook.ts'
import { Kind } from './auditEvents.ts'
import { checksOfAmounts, checksOfMoney } from './auditMoneyChecks.ts'
import { checksOfEvents, OrderCheckContext } from './auditOrderChecks.ts'
import { OrderFlag } from './auditOrders.ts'
import { type AuditTotals, type CheckResult, Finding, sumHarm } from './auditReport.ts'
import type { AuditRows } from './auditRows.ts'
import {
  checkOpenLetters,
  checkStage,
  checkWindow,
  type DedupeBounds,
  type Standing,
} from './auditStageChecks.ts'
import { DECISIONS_EXPECTED, NOT_DECIDED_YET } from './auditStages.ts'
import { checkStock } from './auditStockChecks.ts'

export interface Judgement {
  checks: CheckResult[]
  totals: AuditTotals
}

export interface JudgeOptions {
  /** Nothing is under way any more: what is missing is lost. */
  isDrained: boolean
  /** The validator's window of duplicates, `dedupe` of the configuration. */
  dedupe: DedupeBounds
  /** Whether each validated order must come to a decision; see {@link DECISIONS_EXPECTED}. */
  isDecisionExpected?: boolean
  /** What analytics reports as booked revenue, in minor units by currency; without it that is not checked. */
  bookedMinor?: Readonly<Record<string, number>>
}

/** Judges what was taken into the books, when all has been. */
export function judge(book: AuditBook, rows: AuditRows, options: JudgeOptions): Judgement {
  const { isDrained, dedupe, isDecisionExpected = DECISIONS_EXPECTED, bookedMinor } = options
  book.settleDeadLetters()
  const standing: Standing = { isDrained, underWayWithoutOrder: 0, deadLettersOpen: 0 }
  const context = new OrderCheckContext(book, standing)
  const payment = book.stages.find(({ definition }) => {
    return definition.group === 'payment' && definition.input === 'ordersValidated'
  })!
  const stages = book.stages.flatMap((stage) => checkStage(book, stage, standing))
  const stock = checkStock(book, rows)
  const orderChecks = [
    ...checksOfEvents(context, isDecisionExpected),
    ...checksOfMoney(context),
    ...checksOfAmounts(context, payment),
  ]
  for (let order = 0; order < book.orders.size; order++) {
    for (const { look } of orderChecks) look(order)
  }
  const findings = [
    ...[book.values, book.keys, book.causes, ...stages, rows.outcomes, rows.ledger],
    ...[checkWindow(book, dedupe), checkOpenLetters(book, standing)],
    ...[...stock, book.lineSums, ...orderChecks.map(({ finding }) => finding)],
    ...checkSums(book, isDrained, bookedMinor),
  ]
  const checks = findings.map(({ result }) => result).sort((a, b) => a.guarantee - b.guarantee)
  return { checks, totals: countTotals(book, standing, checks) }
}

/** Sums of all orders; while some are under way they need not agree. */
function checkSums(book: AuditBook, isDrained: boolean, bookedMinor: JudgeOptions['bookedMinor']): Finding[] {
  const { sums, isWhole } = book
  const captured = compareSums('captured is the sum of confirmed totals', sums.confirmed, sums.captured)
  if (!isDrained) captured.skipped = 'only of a drained pipeline (--drained)'
  else if (!isWhole) captured.skipped = 'the oldest records are deleted'
  const name = 'validated totals are the booked revenue of analytics'
  const booked = compareSums(name, sums.validated, new Map(Object.entries(bookedMinor ?? {})))
  if (!bookedMinor) booked.skipped = 'only of a drained pipeline (--drained)'
  const revenue = new Finding('captured is the captured revenue of analytics', 5)
  revenue.skipped = NOT_DECIDED_YET
  return [captured, booked, revenue]
}

function compareSums(name: string, expected: Amounts, found: Amounts): Finding {
  const finding = new Finding(name, 5)
  for (const currency of new Set([...expected.keys(), ...found.keys()])) {
    finding.lookedAt++
    const [wanted, there] = [expected.get(currency) ?? 0, found.get(currency) ?? 0]
    if (wanted === there) continue
    finding.add(() => ({ id: currency, what: `${there} where ${wanted} is expected`, seen: [] }))
  }
  return finding
}

function countTotals(book: AuditBook, standing: Standing, checks: readonly CheckResult[]): AuditTotals {
  const { orders, sums, raw, validated } = book
  let underWay = standing.underWayWithoutOrder
  let wentThrough = 0
  for (let order = 0; order < orders.size; order++) {
    if (orders.is(order, OrderFlag.underWay)) underWay++
    if (orders.has(order, Kind.reserved) && orders.has(order, Kind.authorised)) wentThrough++
  }
  return {
    placed: raw.count,
    validated: validated.count,
    rejected: book.rejected.count,
    wentThrough,
    deadLettersOpen: standing.deadLettersOpen,
    underWay,
    lost: sumHarm(checks, 'lost'),
    duplicated: sumHarm(checks, 'duplicated'),
    chargedTwice: sumHarm(checks, 'chargedTwice'),
    validatedMinor: toSortedObject(sums.validated),
    authorisedMinor: toSortedObject(sums.authorised),
    capturedMinor: toSortedObject(sums.captured),
  }
}
