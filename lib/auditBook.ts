import { type Amounts, addAmount } from './amounts.ts'
import { DeadLetterBooks } from './auditDeadLetters.ts'
import {
  Kind,
  readDecision,
  readInventory,
  readOrder,
  readPayment,
  readRejected,
  type SaidFacts,
  Slot,
  slotOf,
} from './auditEvents.ts'
import { OrderFlag, OrderTable } from './auditOrders.ts'
import { Places, Positions, placeOf } from './auditPositions.ts'
import { Finding } from './auditReport.ts'
import { fingerprintOf, linesFingerprintOf, type Position, readPosition } from './auditSource.ts'
import {
  type Cause,
  inputOfKind,
  type OrderTopic,
  STAGES,
  Stage,
  type StageDefinition,
} from './auditStages.ts'
import { StockBooks } from './auditStock.ts'
import { UnusableRecordError } from './errors.ts'
import { formatPosition, SOURCE_HEADER } from './record.ts'
import type { BoundsByPartition } from './topicBounds.ts'
import type { TopicRecord } from './topicReader.ts'
import { GROUPS, type GroupName, listTopics, type TopicTable } from './topics.ts'

/** A record on its way into the books. */
interface Incoming extends TopicRecord {
  partition: number
  place: number
  /** It came after the look at the bounds: it may excuse what is missing, and never accuses. */
  isLate: boolean
}

type Take = (record: Incoming) => void

/**
 * What the topics say, taken record by record and kept in columns of numbers, so that millions of records take
 * little memory. Nothing is judged here but what can be seen on one record alone; lib/auditChecks.ts does the rest.
 *
 * The order in which topics are taken does not matter. Rows of the database come first (lib/auditRows.ts).
 */
export class AuditBook {
  readonly orders: OrderTable
  readonly stock = new StockBooks()
  readonly places = new Places()
  readonly stages: readonly Stage[]
  /** Of every topic. */
  readonly positions: ReadonlyMap<string, Positions>
  /** Whether all history is there, from the first record on. */
  readonly isWhole: boolean
  readonly raw: Positions
  readonly validated: Positions
  readonly rejected: Positions
  /** Amounts by cell; NaN for a record of orders.raw that is no order. */
  readonly rawTotal: Float64Array
  readonly rawCurrency: Uint8Array
  readonly rawLines: Uint32Array
  /** When it was sent, by the record's own timestamp. */
  readonly placedAtMs: Float64Array
  readonly total: Float64Array
  readonly currency: Uint8Array
  readonly linesFingerprint: Uint32Array
  /** Where the lines of a validated order stand in `stock`. */
  readonly lines: Uint32Array
  /** The cell of orders.raw that a validated order came from, plus 1. */
  readonly rawCell: Int32Array
  readonly deadLetters: ReadonlyMap<GroupName, DeadLetterBooks>
  readonly #recordsByTopic = new Map<string, number>()
  readonly sums = {
    validated: new Map() as Amounts,
    /** By the ledger. */
    authorised: new Map() as Amounts,
    captured: new Map() as Amounts,
    confirmed: new Map() as Amounts,
  }
  readonly values = new Finding('records hold an event of their topic', 1)
  readonly keys = new Finding('records have their order id as key', 1)
  readonly causes = new Finding('events have a cause, of the same order', 1)
  readonly lineSums = new Finding('totals are the sum of the lines', 4)
  readonly #takers: ReadonlyMap<string, { number: number; bounds: Positions; take: Take }>
  readonly #topics: TopicTable

  /** @param bounds of all topics of {@link auditedTopics}: what lies beyond them counts as late */
  constructor(topics: TopicTable, bounds: BoundsByPartition) {
    this.#topics = topics
    this.positions = new Map(
      auditedTopics(topics).map((name) => {
        const known = bounds.get(name)
        if (!known) throw new Error(`${name} is in none of the WAVES of lib/audit.ts`)
        return [name, new Positions(name, known)]
      }),
    )
    this.isWhole = ![...this.positions.values()].some(({ isTrimmed }) => isTrimmed)
    this.raw = this.#positionsOf(topics.ordersRaw.name)
    this.validated = this.#positionsOf(topics.ordersValidated.name)
    this.rejected = this.#positionsOf(topics.ordersRejected.name)
    this.orders = new OrderTable(Math.max(this.raw.size, this.validated.size))
    this.rawTotal = new Float64Array(this.raw.size)
    this.rawCurrency = new Uint8Array(this.raw.size)
    this.rawLines = new Uint32Array(this.raw.size)
    this.placedAtMs = new Float64Array(this.raw.size)
    this.total = new Float64Array(this.validated.size)
    this.currency = new Uint8Array(this.validated.size)
    this.linesFingerprint = new Uint32Array(this.validated.size)
    this.lines = new Uint32Array(this.validated.size)
    this.rawCell = new Int32Array(this.validated.size)
    const readers = Object.entries(this.#readers()).map(([name, take]) => {
      return [name, { number: this.places.register(name), bounds: this.#positionsOf(name), take }] as const
    })
    this.#takers = new Map(readers)
    this.stages = STAGES.map((definition) => this.#createStage(definition))
    this.deadLetters = new Map(
      GROUPS.map((group) => {
        const stages = this.stages.filter(({ definition }) => definition.group === group)
        return [group, new DeadLetterBooks(this.#positionsOf(topics.deadLetters[group].name), stages)]
      }),
    )
  }

  #createStage(definition: StageDefinition): Stage {
    const { deadLetters, retries } = this.#topics
    const { group, input, outputs } = definition
    const answers = [...outputs.map((output) => this.#topics[output]), deadLetters[group]].map(({ name }) => {
      const { number, bounds: positions } = this.#takers.get(name)!
      return { positions, has: (place: number) => Places.isIn(place, number) }
    })
    const causes = this.#positionsOf(this.#topics[input].name)
    return new Stage(definition, causes, answers, this.#positionsOf(retries[group].name))
  }

  /** How many committed records of a topic were taken. */
  countOf(topic: string): number {
    return this.#recordsByTopic.get(topic) ?? 0
  }

  /** Takes records of one partition, in their order. */
  take(topic: string, partition: number, records: readonly TopicRecord[]): void {
    const { number, bounds, take } = this.#takers.get(topic)!
    let counted = 0
    for (const record of records) {
      const isLate = bounds.isLate(partition, record.offset)
      if (!isLate) counted++
      const { offset, key, value, headers, timestampMs } = record
      // Written out: a spread would cost as much as reading most events.
      const place = placeOf(number, partition, offset)
      take({ offset, key, value, headers, timestampMs, partition, place, isLate })
    }
    this.#recordsByTopic.set(topic, (this.#recordsByTopic.get(topic) ?? 0) + counted)
  }

  #positionsOf(name: string): Positions {
    return this.positions.get(name)!
  }

  /** Who reads what: a new topic adds its line. */
  #readers(): Record<string, Take> {
    const { products, ordersRaw, ordersValidated, ordersRejected, ...others } = this.#topics
    const { inventoryEvents, paymentEvents, ordersCompleted, deadLetters, retries } = others
    return {
      // What it says is compacted away again; it is read to be counted.
      [products.name]: () => undefined,
      [ordersRaw.name]: (record) => this.#takePlaced(record),
      [ordersValidated.name]: (record) => this.#takeValidated(record),
      [ordersRejected.name]: (record) => this.#takeRejected(record),
      [inventoryEvents.name]: (record) => this.#takeSaid(record, 'inventory', readInventory(record.value)),
      [paymentEvents.name]: (record) => this.#takeSaid(record, 'payment', readPayment(record.value)),
      [ordersCompleted.name]: (record) => this.#takeSaid(record, undefined, readDecision(record.value)),
      ...Object.fromEntries(
        GROUPS.flatMap((group) => [
          [deadLetters[group].name, (record: Incoming) => this.#takeDeadLetter(record, group)],
          [retries[group].name, (record: Incoming) => this.#takeRetry(record, group)],
        ]),
      ),
    }
  }

  /** Anything can lie in orders.raw. What is no order must end as a dead letter, which is seen by its position. */
  #takePlaced({ key, value, partition, offset, timestampMs }: Incoming): void {
    const order = this.orders.numberOf(key)
    if (order >= 0) this.orders.flags[order]! |= OrderFlag.placed
    const cell = this.raw.cellOf(partition, offset)
    if (cell < 0) return
    this.raw.put(cell, order)
    this.placedAtMs[cell] = timestampMs
    const placed = readOrder(value, 'OrderPlaced')
    this.rawTotal[cell] = placed?.totalMinor ?? Number.NaN
    if (!placed) return
    this.rawCurrency[cell] = this.orders.currencyNumber(placed.currency)
    this.rawLines[cell] = linesFingerprintOf(placed.items)
  }

  #takeValidated(record: Incoming): void {
    const { partition, offset, value } = record
    const facts = readOrder(value, 'OrderValidated')
    const order = this.#orderOf(record, facts)
    const flag = record.isLate ? OrderFlag.validatedLate : OrderFlag.validated
    if (order >= 0) this.orders.flags[order]! |= flag
    const rawCell = this.#answer(record, 'validator', 'ordersRaw', order)
    const cell = this.validated.cellOf(partition, offset)
    if (cell < 0) return
    this.validated.put(cell, order)
    this.rawCell[cell] = rawCell + 1
    if (!facts) return
    const { totalMinor, currency, items } = facts
    this.total[cell] = totalMinor
    this.currency[cell] = this.orders.currencyNumber(currency)
    this.linesFingerprint[cell] = linesFingerprintOf(items)
    this.lines[cell] = this.stock.keepLines(items)
    addAmount(this.sums.validated, currency, totalMinor)
    const sumMinor = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    this.lineSums.lookedAt++
    if (sumMinor !== totalMinor) {
      this.#note(this.lineSums, record, `total ${totalMinor} is not the sum of its lines, ${sumMinor}`)
    }
  }

  #takeRejected(record: Incoming): void {
    const order = this.#orderOf(record, readRejected(record.value))
    this.#answer(record, 'validator', 'ordersRaw', order)
    const cell = this.rejected.cellOf(record.partition, record.offset)
    if (cell >= 0) this.rejected.put(cell, order)
  }

  /** What a group, or fulfilment, said about an order. */
  #takeSaid(record: Incoming, group: 'inventory' | 'payment' | undefined, said: SaidFacts | undefined): void {
    const order = this.#orderOf(record, said)
    if (group) this.#answer(record, group, this.#inputOf(record, said), order)
    else this.#putDecision(record, order)
    if (order < 0 || !said) return
    const { orders } = this
    const { kind } = said
    const isRepeated = orders.say(order, kind, record.isLate)
    if (record.isLate) return
    const slot = slotOf(kind)
    if (!isRepeated) orders.places[slot]![order] = record.place
    this.#takeMoney(order, said, isRepeated)
    if (slot === Slot.decision) return
    const fingerprint = fingerprintOf(record.value!)
    const stored = orders.fingerprints[slot]!
    if (stored[order] === 0) stored[order] = fingerprint
    else if (stored[order] !== fingerprint) orders.differs[order]! |= 1 << slot
  }

  /** The topic that must hold the cause: for an event that cannot be read, whichever its header names. */
  #inputOf({ headers }: Incoming, said: SaidFacts | undefined): OrderTopic {
    const expected = said && inputOfKind(said.kind)
    if (expected) return expected
    const { ordersCompleted } = this.#topics
    return readPosition(headers, SOURCE_HEADER)?.topic === ordersCompleted.name
      ? 'ordersCompleted'
      : 'ordersValidated'
  }

  #putDecision({ partition, offset }: Incoming, order: number): void {
    const positions = this.#positionsOf(this.#topics.ordersCompleted.name)
    const cell = positions.cellOf(partition, offset)
    if (cell >= 0) positions.put(cell, order)
  }

  #takeMoney(
    order: number,
    { kind, amountMinor, currency, authorisationId }: SaidFacts,
    isRepeated: boolean,
  ) {
    if (amountMinor === undefined || currency === undefined) return
    const { orders, sums } = this
    if (kind === Kind.confirmed) addAmount(sums.confirmed, currency, amountMinor)
    if (isRepeated) return
    const column = [orders.saidPaid, orders.saidSettled, orders.confirmed][slotOf(kind) - Slot.payment]!
    column.set(order, amountMinor, orders.currencyNumber(currency))
    if (kind === Kind.authorised) orders.saidAuthorisation[order] = fingerprintOf(authorisationId ?? '') >>> 0
  }

  /** The order that a record is of, by its key; notes a value that is no event, and a key that is of another order. */
  #orderOf(record: Incoming, facts: { orderId: string } | undefined): number {
    const { key, isLate } = record
    const order = this.orders.numberOf(key)
    if (isLate) return order
    this.values.lookedAt++
    this.keys.lookedAt++
    if (!facts) this.#note(this.values, record, 'its value is no event of this topic')
    else if (key === null || key.toString() !== facts.orderId)
      this.#note(this.keys, record, `its key is '${plain(key?.toString() ?? '')}'`, facts.orderId)
    return order
  }

  /** Enters an answer with its cause. @returns the cell of the cause, or -1 */
  #answer(record: Incoming, group: GroupName, input: OrderTopic, order: number): number {
    const stage = this.#stageOf(group, input)!
    const cause = this.#causeOf(record, stage.causes)
    if (!cause) return -1
    if (record.isLate) stage.late[cause.cell] = 1
    else stage.addResult(cause, order, record.place)
    return cause.cell
  }

  /**
   * The cause that a record names. One below what is kept cannot be looked at any more. One beyond the bounds cannot
   * be: those of the causes were looked at after those of the answers.
   */
  #causeOf(record: Incoming, causes: Positions): Cause | undefined {
    const source = readPosition(record.headers, SOURCE_HEADER)
    const cell = source?.topic === causes.topic ? causes.cellOf(source.partition, source.offset) : -1
    if (!record.isLate) this.causes.lookedAt++
    if (source && cell >= 0) {
      if (source.partition !== record.partition)
        this.#note(this.causes, record, 'its cause is of another partition')
      return { cell, partition: source.partition, offset: source.offset }
    }
    const isGone = source?.topic === causes.topic && causes.isGone(source.partition, source.offset)
    if (!isGone && !record.isLate) this.#note(this.causes, record, complaintOf(source, causes.topic))
    return undefined
  }

  #takeDeadLetter(record: Incoming, group: GroupName): void {
    const { partition, offset, headers, isLate, place } = record
    const books = this.deadLetters.get(group)!
    const letter = books.letters.cellOf(partition, offset)
    if (letter >= 0) books.letters.put(letter, this.orders.numberOf(record.key))
    const source = readPosition(headers, SOURCE_HEADER)
    // What lay in the retry topic by itself, and is no order of any input.
    if (source?.topic === this.#topics.retries[group].name) return
    const stage = books.stageOf(source?.topic)
    if (!stage) {
      this.#note(this.causes, record, complaintOf(source, `an input of ${group}`))
      return
    }
    const cause = this.#causeOf(record, stage.causes)
    if (!cause) return
    if (isLate) {
      stage.late[cause.cell] = 1
      return
    }
    stage.addDeadLetter(cause, place)
    books.keep(letter, stage, cause.cell, group !== 'validator' || this.#isUsable(record))
  }

  /** Whether a letter holds an order that the validator must take: by the schema of its topic, and under its own id. */
  #isUsable({ key, value }: Incoming): boolean {
    const { ordersRaw } = this.#topics
    try {
      return value !== null && key?.toString() === ordersRaw.keyOf(ordersRaw.decode(value))
    } catch (error) {
      if (error instanceof UnusableRecordError) return false
      throw error
    }
  }

  #takeRetry({ partition, headers, isLate }: Incoming, group: GroupName): void {
    if (!isLate) this.deadLetters.get(group)!.takeRetry(partition, headers)
  }

  /** To be called when all has been read. */
  settleDeadLetters(): void {
    for (const books of this.deadLetters.values()) books.settle()
  }

  #stageOf(group: GroupName, input: OrderTopic): Stage | undefined {
    return this.stages.find(({ definition }) => definition.group === group && definition.input === input)
  }

  #note(finding: Finding, record: Incoming, what: string, orderId = record.key?.toString()): void {
    if (record.isLate) return
    const where = this.places.format(record.place)!
    const source = readPosition(record.headers, SOURCE_HEADER)
    const seen = source ? [where, formatPosition(source.topic, source.partition, source.offset)] : [where]
    finding.add(() => ({ id: plain(orderId ?? where), what, seen }))
  }
}

function complaintOf(source: Position | undefined, wanted: string): string {
  if (!source) return `it names no cause in ${wanted}`
  return `its cause ${formatPosition(source.topic, source.partition, source.offset)} is no record of ${wanted}`
}

/** What comes from outside and may steer a terminal is not for it to say. */
export function plain(text: string): string {
  return text.replace(/\p{C}/gu, ' ').slice(0, 64)
}

/** The topics that an audit reads: all. */
export function auditedTopics(topics: TopicTable): string[] {
  return listTopics(topics).map(({ name }) => name)
}
