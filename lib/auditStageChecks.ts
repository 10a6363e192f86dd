import type { AuditBook } from './auditBook.ts'
import { OrderFlag } from './auditOrders.ts'
import { Finding, type Offender, plain } from './auditReport.ts'
import type { Stage } from './auditStage.ts'
import { formatPosition } from './record.ts'

/** How many orders, and for how long, the validator remembers in each partition. */
export interface DedupeBounds {
  maxOrders: number
  maxAgeMs: number
}

/** The share of the window of duplicates in which it must know an order again. */
const WELL_WITHIN = 0.5

/** What is so far known of the orders as a whole while they are checked. */
export interface Standing {
  isDrained: boolean
  /** Records under way that are of no order. */
  underWayWithoutOrder: number
  deadLettersOpen: number
}

/** Looks at all stages. Groups that only read share a check. */
export function checkStages(book: AuditBook, standing: Standing): Finding[] {
  const ofReaders = new Map<string, Finding>()
  const answered = book.stages.flatMap((stage) => {
    const { group, cause, answer, guarantee, demand } = stage.definition
    if (answer === undefined) {
      const excess =
        ofReaders.get(group) ??
        new Finding(`no record has a second dead letter of ${group}`, guarantee, 'duplicated')
      ofReaders.set(group, excess)
      if (stage.isOpen) checkStage(book, stage, standing, { excess })
      else excess.lookedAt += stage.causes.count
      return []
    }
    const excess = new Finding(`no ${cause} has a second ${answer}`, guarantee, 'duplicated')
    const missing =
      demand === 'any' ? undefined : new Finding(`every ${cause} has its ${answer}`, guarantee, 'lost')
    checkStage(book, stage, standing, { excess, missing })
    return missing ? [missing, excess] : [excess]
  })
  return [...answered, ...ofReaders.values()]
}

/**
 * Whether each cause has its answers: none is lost, none is answered twice.
 *
 * A record that was redriven is worked on again under the position that it had at first. So a cause is worked on once,
 * and once more for each redrive; each time ends in a result or a dead letter, and there is at most one result.
 *
 * Without an answer a record is under way, unless the pipeline has drained, or a later record of its partition has
 * one: groups work in order, and what they answer to earlier records is committed before or with it. All but fulfilment,
 * where an order waits for its verdicts.
 */
function checkStage(
  book: AuditBook,
  stage: Stage,
  standing: Standing,
  { excess, missing }: { excess: Finding; missing?: Finding | undefined },
): void {
  const { answer, demand } = stage.definition
  let repeated = 0
  for (let cell = 0; cell < stage.causes.size; cell++) {
    if (!stage.causes.isThere(cell)) {
      if (stage.firstPlace[cell] !== 0)
        book.causes.add(() => describe(book, stage, cell, 'its cause is not there'))
      continue
    }
    excess.lookedAt++
    const results = stage.results[cell]!
    const letters = stage.deadLetters[cell]!
    const attempts = 1 + stage.redrives[cell]!
    if (results === 0) standing.deadLettersOpen += Math.max(0, letters - (attempts - 1) - stage.drops[cell]!)
    if (results > 0) checkOrder(book, stage, cell)
    else if (letters > 0 && demand === 'order') markDeadLetter(book, stage.causes.orderAt(cell))
    const isExcess = results + letters > attempts && !stage.areRetriesGone
    if (results > 1 || isExcess || isSecondOfOrder(stage, cell)) {
      excess.add(() => describe(book, stage, cell, `${results} results, ${letters} dead letters`))
    }
    if (!missing || (!book.isWhole && results === 0 && letters < attempts && stage.canBeGone(cell))) continue
    missing.lookedAt++
    if (results > 0 || letters >= attempts || stage.late[cell] === 1) continue
    if (demand === 'order' && hasVerdictElsewhere(stage, cell, attempts > 1)) repeated++
    else if (standing.isDrained || (letters === 0 && stage.isPassed(cell))) {
      missing.add(() => describe(book, stage, cell, `no ${answer}`))
    } else {
      markUnderWay(book, stage.causes.orderAt(cell), standing)
    }
  }
  if (missing && repeated > 0) {
    missing.note = `${repeated} came again beyond the window of duplicates and get no second ${answer}`
  }
}

/** An outage or a bug must not put aside what can be used. Once it is redriven or dropped, somebody has decided. */
export function checkOpenLetters(book: AuditBook, { isDrained }: Standing): Finding {
  const { stages } = book
  const finding = new Finding('no good record is left in the dead letters', 7)
  if (!isDrained) finding.skipped = 'only of a drained pipeline (--drained)'
  else if (stages.some(({ areRetriesGone }) => areRetriesGone)) {
    finding.skipped = 'the oldest records are deleted'
  }
  if (finding.skipped !== undefined) return finding
  for (const stage of stages) {
    if (!stage.isOpen) continue
    for (let cell = 0; cell < stage.causes.size; cell++) {
      if (stage.deadLetters[cell] === 0) continue
      finding.lookedAt++
      if (stage.openGood[cell] === 0 || stage.results[cell]! > 0) continue
      const { group } = stage.definition
      finding.add(() => describe(book, stage, cell, `can be used, and is an open dead letter of ${group}`))
    }
  }
  return finding
}

/**
 * No order is validated again where the window of duplicates must still hold it: well within its bounds, since what is
 * redriven takes room in it too.
 */
export function checkWindow(book: AuditBook, { maxOrders, maxAgeMs }: DedupeBounds): Finding {
  const { orders, raw, rawCell, validated, placedAtMs } = book
  const finding = new Finding('no order is validated twice within the window of duplicates', 1, 'duplicated')
  const stage = book.stages.find(({ causes }) => causes === raw)!
  if (stage.areRetriesGone) {
    finding.skipped = 'the oldest records are deleted'
    return finding
  }
  /** The cell of orders.raw that an order was validated from last, plus 1. */
  const lastCell = new Int32Array(orders.size)
  const isForgotten = (first: number, again: number) => {
    const [one, other] = [raw.positionOf(first), raw.positionOf(again)]
    if (one.partition !== other.partition || again - first > maxOrders * WELL_WITHIN) return true
    // The window forgets by the newest record that it has seen.
    const newestMs = placedAtMs.subarray(first, again + 1).reduce((newest, ms) => Math.max(newest, ms), 0)
    return newestMs - placedAtMs[first]! > maxAgeMs * WELL_WITHIN
  }
  for (let cell = 0; cell < validated.size; cell++) {
    const source = rawCell[cell]! - 1
    const order = validated.orderAt(cell)
    if (order < 0 || source < 0 || stage.redrives[source]! > 0) continue
    finding.lookedAt++
    const before = lastCell[order]! - 1
    lastCell[order] = source + 1
    if (before < 0 || before === source || isForgotten(Math.min(before, source), Math.max(before, source)))
      continue
    finding.add(() => describe(book, stage, source, 'validated again, though it was placed shortly before'))
  }
  return finding
}

export function markUnderWay(book: AuditBook, order: number, standing: Standing): void {
  if (order < 0) standing.underWayWithoutOrder++
  else book.orders.flags[order]! |= OrderFlag.underWay
}

/** A verdict that is a dead letter comes late or never. */
function markDeadLetter(book: AuditBook, order: number): void {
  if (order >= 0) book.orders.flags[order]! |= OrderFlag.deadLetter
}

/** An answer is of the same order as its cause. */
function checkOrder(book: AuditBook, stage: Stage, cell: number): void {
  if (stage.resultOrder[cell]! - 1 === stage.causes.orderAt(cell)) return
  book.causes.add(() => {
    const other = stage.resultOrder[cell]! - 1
    const name = other < 0 ? 'no order' : plain(book.orders.idOf(other))
    return describe(book, stage, cell, `its answer is of ${name}`)
  })
}

function isSecondOfOrder(stage: Stage, cell: number): boolean {
  if (stage.definition.demand !== 'order' || stage.results[cell] === 0) return false
  const order = stage.resultOrder[cell]! - 1
  return order >= 0 && stage.cellOfOrder(order) !== cell
}

/**
 * Whether the order has its verdict by another record: an earlier one, or one of another partition. What was redriven
 * is worked on late, so that a later one can have come first.
 */
function hasVerdictElsewhere(stage: Stage, cell: number, isRedriven: boolean): boolean {
  const order = stage.causes.orderAt(cell)
  const other = order < 0 ? -1 : stage.cellOfOrder(order)
  if (other < 0) return false
  return (
    isRedriven ||
    other < cell ||
    stage.causes.positionOf(other).partition !== stage.causes.positionOf(cell).partition
  )
}

function describe(book: AuditBook, stage: Stage, cell: number, what: string): Offender {
  const own = stage.causes.orderAt(cell)
  const order = own < 0 ? stage.resultOrder[cell]! - 1 : own
  const { partition, offset } = stage.causes.positionOf(cell)
  const position = formatPosition(stage.causes.topic, partition, offset)
  const answers = stage.placesOf(cell).map((place) => book.places.format(place)!)
  return {
    id: order < 0 ? position : plain(book.orders.idOf(order)),
    what,
    seen: [position, ...answers],
  }
}
