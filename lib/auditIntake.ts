import { addAmount } from './amounts.ts'
import type { AuditBook } from './auditBook.ts'
import {
  MISSING_CODE,
  type ReasonFacts,
  readDecision,
  readJudge,
  readOrder,
  readRejected,
  type SaidFacts,
} from './auditEvents.ts'
import { excuseHeld, isHeld } from './auditHops.ts'
import { OrderFlag } from './auditOrders.ts'
import { type Positions, placeOf } from './auditPositions.ts'
import { type Finding, plain } from './auditReport.ts'
import { Kind, slotOf } from './auditSlots.ts'
import { fingerprintOf, linesFingerprintOf, type Position, readPosition } from './auditSource.ts'
import type { Cause, Stage } from './auditStage.ts'
import { eventsOf, inputOfKind, type OrderTopic } from './auditStages.ts'
import { ReasonCodes } from './auditVerdicts.ts'
import { UnusableRecordError } from './errors.ts'
import { JUDGE_NAMES, type JudgeName } from './judges.ts'
import { formatPosition, HOP_HEADER, SOURCE_HEADER } from './record.ts'
import { createOpener, type Opener } from './sealing.ts'
import type { TopicRecord } from './topicReader.ts'
import { forwardedTopics, type GroupName, groupsOf, requestTopics } from './topics.ts'

/** A record on its way into the books. */
interface Incoming extends TopicRecord {
  partition: number
  place: number
  /** It came after the look at the bounds: it may excuse what is missing, and never accuses. */
  isLate: boolean
}

type Take = (record: Incoming) => void

/**
 * Enters the records of the topics in the book. Nothing is judged here but what can be seen on one record alone.
 *
 * The order in which topics are taken does not matter. Rows of the database come first (lib/auditRows.ts).
 */
export class AuditIntake {
  readonly #book: AuditBook
  readonly #open: Opener
  /** The topics that the Command Center writes to. */
  readonly #forwardedTopics: ReadonlySet<string>
  readonly #takers: ReadonlyMap<string, { number: number; bounds: Positions; take: Take }>

  constructor(book: AuditBook) {
    const { topics } = book
    this.#book = book
    this.#open = createOpener(topics)
    const forwarded = topics.isRouted ? forwardedTopics(topics) : []
    this.#forwardedTopics = new Set(forwarded.map(({ name }) => name))
    const takers = Object.entries(this.#readers()).map(([name, take]) => {
      return [name, { number: book.numberOf(name), bounds: book.positionsOf(name), take }] as const
    })
    this.#takers = new Map(takers)
  }

  /** Takes records of one partition, in their order. */
  take(topic: string, partition: number, records: readonly TopicRecord[]): void {
    const { number, bounds, take } = this.#takers.get(topic)!
    let counted = 0
    for (const record of this.#open(topic, records)) {
      const isLate = bounds.isLate(partition, record.offset)
      if (!isLate) counted++
      const { offset, key, value, headers, timestampMs } = record
      // Written out: a spread would cost as much as reading most events.
      const place = placeOf(number, partition, offset)
      const incoming = { offset, key, value, headers, timestampMs, partition, place, isLate }
      take(incoming)
      if (this.#forwardedTopics.has(topic)) this.#takeForwarded(incoming)
    }
    this.#book.recordsByTopic.set(topic, this.#book.countOf(topic) + counted)
  }

  /** Who reads what. */
  #readers(): Record<string, Take> {
    const { topics } = this.#book
    const { products, ordersRaw, ordersValidated, ordersRejected, ordersCompleted, deadLetters, retries } =
      topics
    const judges = JUDGE_NAMES.map((judge) => {
      const { name } = topics[eventsOf(judge)]
      const events = this.#book.positionsOf(name)
      return [name, (record: Incoming) => this.#takeJudge(record, events, judge)]
    })
    const decided = this.#book.positionsOf(ordersCompleted.name)
    const routed = topics.isRouted ? this.#routingReaders() : {}
    return {
      ...routed,
      // What it says is compacted away again; it is read to be counted.
      [products.name]: () => undefined,
      [ordersRaw.name]: (record) => this.#takePlaced(record),
      [ordersValidated.name]: (record) => this.#takeValidated(record),
      [ordersRejected.name]: (record) => this.#takeRejected(record),
      ...Object.fromEntries(judges),
      [ordersCompleted.name]: (record) => this.#takeDecision(record, decided),
      ...Object.fromEntries(
        groupsOf(topics).flatMap((group) => [
          [deadLetters[group].name, (record: Incoming) => this.#takeDeadLetter(record, group)],
          [retries[group].name, (record: Incoming) => this.#takeRetry(record, group)],
        ]),
      ),
    }
  }

  /** What there is more where orders go through the Command Center. */
  #routingReaders(): Record<string, Take> {
    const { inbox, hops } = this.#book.topics
    const messages = this.#book.positionsOf(inbox.name)
    const requests = requestTopics(this.#book.topics).map(({ name }) => [name, () => undefined] as const)
    return {
      ...Object.fromEntries(requests),
      [inbox.name]: (record) => enter(record, messages, this.#book.orders.numberOf(record.key)),
      [hops.name]: (record) => this.#takeHops(record),
    }
  }

  /** What was forwarded names the message that it was: the Command Center's answer to it. */
  #takeForwarded(record: Incoming): void {
    // Written by a pipeline that was not routed, before this one.
    if (record.headers[HOP_HEADER] === undefined) return
    const stage = this.#book.stageOf('command-center', 'inbox')
    this.#answer(record, stage, this.#book.orders.numberOf(record.key))
  }

  #takeHops(record: Incoming): void {
    const { hops } = this.#book.topics
    try {
      const event = hops.decode(record.value ?? Buffer.alloc(0))
      this.#book.hops!.take(event, record.partition, record.place, record.isLate)
    } catch (error) {
      if (!(error instanceof UnusableRecordError)) throw error
      this.#note(this.#book.values, record, 'its value is no event of this topic')
    }
  }

  /** Anything can lie in orders.raw. What is no order must end as a dead letter, which is seen by its position. */
  #takePlaced({ key, value, partition, offset, timestampMs }: Incoming): void {
    const { orders, raw, placedAtMs, rawTotal, rawCurrency, rawLines } = this.#book
    const order = orders.numberOf(key)
    if (order >= 0) orders.flags[order]! |= OrderFlag.placed
    const cell = raw.cellOf(partition, offset)
    if (cell < 0) return
    raw.put(cell, order)
    placedAtMs[cell] = timestampMs
    const placed = readOrder(value, 'OrderPlaced')
    rawTotal[cell] = placed?.totalMinor ?? Number.NaN
    if (!placed) return
    rawCurrency[cell] = orders.currencyNumber(placed.currency)
    rawLines[cell] = linesFingerprintOf(placed.items)
  }

  #takeValidated(record: Incoming): void {
    const book = this.#book
    const facts = readOrder(record.value, 'OrderValidated')
    const order = this.#orderOf(record, facts)
    const flag = record.isLate ? OrderFlag.validatedLate : OrderFlag.validated
    if (order >= 0) book.orders.flags[order]! |= flag
    const isByHand = this.#isByHand(record)
    // As good as placed: it was never meant to be validated.
    if (isByHand && order >= 0) book.orders.flags[order]! |= OrderFlag.placed
    const rawCell = isByHand ? -1 : this.#answer(record, book.stageOf('validator', 'ordersRaw'), order)
    const cell = enter(record, book.validated, order)
    if (cell < 0) return
    book.rawCell[cell] = rawCell + 1
    if (!facts) return
    const { totalMinor, currency, items } = facts
    book.total[cell] = totalMinor
    book.currency[cell] = book.orders.currencyNumber(currency)
    book.linesFingerprint[cell] = linesFingerprintOf(items)
    book.lines[cell] = book.stock.keepLines(items)
    addAmount(book.sums.validated, currency, totalMinor)
    const sumMinor = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    book.lineSums.lookedAt++
    if (sumMinor !== totalMinor) {
      this.#note(book.lineSums, record, `total ${totalMinor} is not the sum of its lines, ${sumMinor}`)
    }
  }

  /** Sent to all judges by whoever has the key (npm run send): it has come through the Command Center, and has no cause. */
  #isByHand({ headers }: Incoming): boolean {
    return headers[HOP_HEADER] !== undefined && headers[SOURCE_HEADER] === undefined
  }

  #takeRejected(record: Incoming): void {
    const order = this.#orderOf(record, readRejected(record.value))
    this.#answer(record, this.#book.stageOf('validator', 'ordersRaw'), order)
    enter(record, this.#book.rejected, order)
  }

  /** A verdict, or how it was settled. */
  #takeJudge(record: Incoming, events: Positions, judge: JudgeName): void {
    const said = readJudge(judge, record.value)
    const order = this.#orderOf(record, said)
    const cause = this.#answer(record, this.#book.stageOf(judge, this.#inputOf(record, said)), order)
    enter(record, events, order)
    if (!said) return
    if (cause >= 0 && said.verdict) this.#book.verdicts.put(judge, cause, said.verdict)
    if (said.price) this.#takePrice(record, cause, said)
    if (order < 0) return
    this.#takeSaid(record, order, said)
    if (said.isUnasked && !record.isLate) this.#book.orders.flags[order]! |= OrderFlag.unasked
  }

  /** The topic that must hold the cause: for an event that cannot be read, whichever its header names. */
  #inputOf({ headers }: Incoming, said: SaidFacts | undefined): OrderTopic {
    if (said) return inputOfKind(said.kind)
    const { ordersCompleted } = this.#book.topics
    return readPosition(headers, SOURCE_HEADER)?.topic === ordersCompleted.name
      ? 'ordersCompleted'
      : 'ordersValidated'
  }

  #takePrice(record: Incoming, cell: number, { price, currency }: SaidFacts): void {
    const { verdicts, orders, priceParts } = this.#book
    if (cell >= 0) verdicts.putPrice(cell, price!, orders.currencyNumber(currency!))
    if (record.isLate) return
    priceParts.lookedAt++
    const { subtotalMinor, totalMinor, netMinor, taxMinor, discountsMinor } = price!
    if (netMinor + taxMinor !== totalMinor) {
      this.#note(priceParts, record, `net ${netMinor} and tax ${taxMinor} are not its total, ${totalMinor}`)
    } else if (subtotalMinor - discountsMinor !== totalMinor) {
      const parts = `subtotal ${subtotalMinor} less discounts ${discountsMinor}`
      this.#note(priceParts, record, `${parts} is not its total, ${totalMinor}`)
    } else if (totalMinor > subtotalMinor) {
      this.#note(priceParts, record, `total ${totalMinor} is above its subtotal, ${subtotalMinor}`)
    }
  }

  #takeDecision(record: Incoming, decided: Positions): void {
    const { sums } = this.#book
    const said = readDecision(record.value)
    const order = this.#orderOf(record, said)
    this.#answer(record, this.#book.stageOf('fulfilment', 'ordersValidated'), order)
    enter(record, decided, order)
    if (order < 0 || !said) return
    const isFirst = this.#takeSaid(record, order, said)
    if (record.isLate) return
    if (said.kind === Kind.confirmed) addAmount(sums.confirmed, said.currency!, said.amountMinor!)
    if (isFirst) this.#takeReasons(order, said.reasons!)
  }

  #takeReasons(order: number, reasons: readonly ReasonFacts[]): void {
    const { orders, verdicts } = this.#book
    for (const { code, message } of reasons) {
      orders.reasons[order]! |= ReasonCodes.bitOf(verdicts.reasonCodes.numberOf(code))
      if (code !== MISSING_CODE) continue
      const words = message.split(/[^\w-]+/)
      JUDGE_NAMES.forEach((judge, index) => {
        if (words.includes(judge)) orders.missing[order]! |= 1 << index
      })
    }
  }

  /** What was said about an order. @returns whether it is the first in its slot that counts */
  #takeSaid({ value, place, isLate }: Incoming, order: number, said: SaidFacts): boolean {
    const { orders } = this.#book
    const slot = slotOf(said.kind)
    const isRepeated = orders.say(order, said.kind, isLate)
    if (isLate) return false
    orders.compareBytes(order, slot, fingerprintOf(value!))
    if (isRepeated) return false
    orders.places[slot]![order] = place
    const column = [undefined, undefined, orders.saidPaid, orders.saidSettled, orders.decided][slot]
    column?.set(order, said.amountMinor!, orders.currencyNumber(said.currency!))
    if (said.kind === Kind.authorised) {
      orders.saidAuthorisation[order] = fingerprintOf(said.authorisationId ?? '') >>> 0
    }
    return true
  }

  /** The order that a record is of, by its key; notes a value that is no event, and a key that is of another order. */
  #orderOf(record: Incoming, facts: { orderId: string } | undefined): number {
    const { orders, values, keys } = this.#book
    const { key, isLate } = record
    const order = orders.numberOf(key)
    if (isLate) return order
    values.lookedAt++
    keys.lookedAt++
    if (!facts) this.#note(values, record, 'its value is no event of this topic')
    else if (key === null || key.toString() !== facts.orderId)
      this.#note(keys, record, `its key is '${plain(key?.toString() ?? '')}'`, facts.orderId)
    return order
  }

  /** Enters an answer with its cause. @returns the cell of the cause, or -1 */
  #answer(record: Incoming, stage: Stage, order: number): number {
    const { causeHeader = SOURCE_HEADER } = stage.definition
    const cause = this.#causeOf(record, stage.causes, causeHeader)
    if (!cause) return -1
    if (record.isLate) stage.excuse(cause.cell)
    else stage.addResult(cause, order, record.place)
    return cause.cell
  }

  /**
   * The cause that a record names. One below what is kept cannot be looked at any more. One beyond the bounds cannot
   * be: those of the causes were looked at after those of the answers.
   */
  #causeOf(record: Incoming, causes: Positions, header = SOURCE_HEADER): Cause | undefined {
    const source = readPosition(record.headers, header)
    const cell = source?.topic === causes.topic ? causes.cellOf(source.partition, source.offset) : -1
    if (!record.isLate) this.#book.causes.lookedAt++
    if (source && cell >= 0) {
      if (source.partition !== record.partition)
        this.#note(this.#book.causes, record, 'its cause is of another partition')
      return { cell, partition: source.partition, offset: source.offset }
    }
    const isGone = source?.topic === causes.topic && causes.isGone(source.partition, source.offset)
    if (!isGone && !record.isLate) this.#note(this.#book.causes, record, complaintOf(source, causes.topic))
    return undefined
  }

  #takeDeadLetter(record: Incoming, group: GroupName): void {
    const { partition, offset, headers, isLate, place } = record
    const { orders, causes, topics, deadLetters } = this.#book
    const books = deadLetters.get(group)!
    const letter = books.letters.cellOf(partition, offset)
    if (letter >= 0) books.letters.put(letter, orders.numberOf(record.key))
    const source = readPosition(headers, SOURCE_HEADER)
    // What lay in the retry topic by itself, and is no order of any input.
    if (source?.topic === topics.retries[group].name) return
    const stage = books.stageOf(source?.topic)
    if (!stage) {
      this.#note(causes, record, complaintOf(source, `an input of ${group}`))
      return
    }
    const cause = this.#causeOf(record, stage.causes)
    if (!cause) return
    if (isLate) {
      stage.excuse(cause.cell)
      return
    }
    stage.addDeadLetter(cause, place)
    books.keep(letter, stage, cause.cell, this.#isGood(record, group))
    if (group === 'command-center') excuseHeld(this.#book, record)
  }

  /** Whether a letter could be used. A message that has no route, or is none, could not. */
  #isGood(record: Incoming, group: GroupName): boolean {
    if (group === 'command-center') return isHeld(record.headers)
    return group !== 'validator' || this.#isUsable(record)
  }

  /** Whether a letter holds an order that the validator must take: by the schema of its topic, and under its own id. */
  #isUsable({ key, value }: Incoming): boolean {
    const { ordersRaw } = this.#book.topics
    try {
      return value !== null && key?.toString() === ordersRaw.keyOf(ordersRaw.decode(value))
    } catch (error) {
      if (error instanceof UnusableRecordError) return false
      throw error
    }
  }

  #takeRetry({ partition, headers, isLate }: Incoming, group: GroupName): void {
    if (!isLate) this.#book.deadLetters.get(group)!.takeRetry(partition, headers)
  }

  #note(finding: Finding, record: Incoming, what: string, orderId = record.key?.toString()): void {
    if (record.isLate) return
    const where = this.#book.places.format(record.place)!
    const source = readPosition(record.headers, SOURCE_HEADER)
    const seen = source ? [where, formatPosition(source.topic, source.partition, source.offset)] : [where]
    finding.add(() => ({ id: plain(orderId ?? where), what, seen }))
  }
}

/** Enters a record at its position. @returns its cell, or -1 */
function enter({ partition, offset }: Incoming, positions: Positions, order: number): number {
  const cell = positions.cellOf(partition, offset)
  if (cell >= 0) positions.put(cell, order)
  return cell
}

function complaintOf(source: Position | undefined, wanted: string): string {
  if (!source) return `it names no cause in ${wanted}`
  return `its cause ${formatPosition(source.topic, source.partition, source.offset)} is no record of ${wanted}`
}
