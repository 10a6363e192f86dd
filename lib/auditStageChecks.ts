import type { AuditBook } from './auditBook.ts'
import { plain } from './auditBook.ts'
import { OrderFlag } from './auditOrders.ts'
import { Finding, type Offender } from './auditReport.ts'
import type { Stage } from './auditStages.ts'
import { formatPosition } from './record.ts'

/** What is so far known of the orders as a whole while they are checked. */
export interface Standing {
  isDrained: boolean
  /** Records under way that are of no order. */
  underWayWithoutOrder: number
  deadLettersOpen: number
}

/**
 * Whether each cause has its answers: none is lost, none is answered twice.
 *
 * A record that was redriven is worked on again under the position that it had at first. So a cause is worked on once,
 * and once more for each redrive; each time ends in a result or a dead letter, and there is at most one result.
 *
 * Without an answer a record is under way, unless the pipeline has drained, or a later record of its partition has
 * one: groups work in order, and what they answer to earlier records is committed before or with it.
 */
export function checkStage(book: AuditBook, stage: Stage, standing: Standing): Finding[] {
  const { group, cause, answer, guarantee, demand } = stage.definition
  const what = answer ?? `dead letter of ${group}`
  const missing = new Finding(`every ${cause} has its ${what}`, guarantee, 'lost')
  const excess = new Finding(`no ${cause} has a second ${what}`, guarantee, 'duplicated')
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
    else if (letters > 0) markDeadLetter(book, stage.causes.orderAt(cell))
    if (results > 1 || results + letters > attempts || isSecondOfOrder(stage, cell)) {
      excess.add(() => describe(book, stage, cell, `${results} results, ${letters} dead letters`))
    }
    if (!book.isWhole && results + letters === 0 && stage.isBeforeAll(cell)) continue
    missing.lookedAt++
    if (demand === 'any' || results > 0 || letters >= attempts || stage.late[cell] === 1) continue
    if (demand === 'order' && hasVerdictBefore(stage, cell)) repeated++
    else if (standing.isDrained || (letters === 0 && stage.isPassed(cell))) {
      missing.add(() => describe(book, stage, cell, `no ${what}`))
    } else {
      markUnderWay(book, stage.causes.orderAt(cell), standing)
    }
  }
  if (repeated > 0) {
    missing.note = `${repeated} came again beyond the window of duplicates and get no second ${what}`
  }
  return demand === 'any' ? [excess] : [missing, excess]
}

export function markUnderWay(book: AuditBook, order: number, standing: Standing): void {
  if (order < 0) standing.underWayWithoutOrder++
  else book.orders.flags[order]! |= OrderFlag.underWay
}

/** Where a verdict is a dead letter, no decision can be expected. */
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

/** Whether the order has its verdict, by an earlier record or one of another partition. */
function hasVerdictBefore(stage: Stage, cell: number): boolean {
  const order = stage.causes.orderAt(cell)
  const other = order < 0 ? -1 : stage.cellOfOrder(order)
  if (other < 0) return false
  return other < cell || stage.causes.positionOf(other).partition !== stage.causes.positionOf(cell).partition
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
