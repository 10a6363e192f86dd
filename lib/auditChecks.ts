import { type Amounts, toSortedObject } from './amounts.ts'
import { checksOfAmounts } from './auditAmountChecks.ts'
import type { Revenue } from './auditAnalytics.ts'
import type { AuditBook } from './auditBook.ts'
import { checksOfDecisions } from './auditDecisionChecks.ts'
import type { HopRows } from './auditHops.ts'
import { checksOfMoney } from './auditMoneyChecks.ts'
import { checksOfEvents, OrderCheckContext } from './auditOrderChecks.ts'
import { OrderFlag } from './auditOrders.ts'
import { type AuditTotals, type CheckResult, Finding, sumHarm } from './auditReport.ts'
import type { AuditRows } from './auditRows.ts'
import { Kind } from './auditSlots.ts'
import {
  checkOpenLetters,
  checkStages,
  checkWindow,
  type DedupeBounds,
  type Standing,
} from './auditStageChecks.ts'
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
  /** What analytics reports; without it that is not checked. */
  revenue?: Revenue
  /** What the store of the metadata log holds; without it that is not checked. */
  hopRows?: HopRows
}

/** Judges what was taken into the books, when all has been. */
export function judge(book: AuditBook, rows: AuditRows, options: JudgeOptions): Judgement {
  const { isDrained, dedupe, revenue, hopRows } = options
  book.settleDeadLetters()
  const standing: Standing = { isDrained, underWayWithoutOrder: 0, deadLettersOpen: 0 }
  const context = new OrderCheckContext(book, standing)
  const stages = checkStages(book, standing)
  const stock = checkStock(book, rows)
  const orderChecks = [
    ...checksOfEvents(context),
    ...checksOfDecisions(context),
    ...checksOfMoney(context),
    ...checksOfAmounts(context),
  ]
  for (let order = 0; order < book.orders.size; order++) {
    for (const { look } of orderChecks) look(order)
  }
  const findings = [
    ...[book.values, book.keys, book.causes, ...stages, rows.outcomes, rows.ledger],
    ...[checkWindow(book, dedupe), checkOpenLetters(book, standing)],
    ...[...stock, book.lineSums, book.priceParts, ...orderChecks.map(({ finding }) => finding)],
    ...checkSums(book, isDrained, revenue),
    ...(book.hops?.check(book, hopRows) ?? []),
  ]
  const checks = findings.map(({ result }) => result).sort((a, b) => a.guarantee - b.guarantee)
  return { checks, totals: countTotals(book, standing, checks) }
}

/** Sums of all orders; while some are under way they need not agree. */
function checkSums(
  { sums, isWhole }: AuditBook,
  isDrained: boolean,
  revenue: Revenue | undefined,
): Finding[] {
  const captured = compareSums('captured is the sum of confirmed totals', sums.confirmed, sums.captured)
  const booked = compareSums(
    'validated totals are the booked revenue of analytics',
    sums.validated,
    new Map(Object.entries(revenue?.bookedMinor ?? {})),
  )
  const reported = compareSums(
    'captured is the captured revenue of analytics',
    sums.captured,
    new Map(Object.entries(revenue?.capturedMinor ?? {})),
  )
  const onlyDrained = 'only of a drained pipeline (--drained)'
  if (!isDrained) captured.skipped = onlyDrained
  if (!revenue) booked.skipped = reported.skipped = onlyDrained
  // The ledger keeps what the topics have lost.
  if (!isWhole) captured.skipped ??= reported.skipped ??= 'the oldest records are deleted'
  return [captured, booked, reported]
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
  let [wentThrough, confirmed, cancelled] = [0, 0, 0]
  for (let order = 0; order < orders.size; order++) {
    if (orders.is(order, OrderFlag.underWay)) underWay++
    if (orders.has(order, Kind.reserved) && orders.has(order, Kind.authorised)) wentThrough++
    if (orders.has(order, Kind.confirmed)) confirmed++
    else if (orders.has(order, Kind.cancelled)) cancelled++
  }
  return {
    placed: raw.count,
    validated: validated.count,
    rejected: book.rejected.count,
    wentThrough,
    confirmed,
    cancelled,
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
