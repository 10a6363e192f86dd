/**
 * Who answers whom: one line for each group and topic that it reads. A new service adds:
 *
 *   1. its line to `STAGES`, and what it says to `inputOfKind`;
 *   2. its events to `Kind` and `Slot` of lib/auditEvents.ts, with a function that reads them;
 *   3. its topic to `#readers` of lib/auditBook.ts, and to `WAVES` of lib/audit.ts in its place: before its cause;
 *   4. when it stores outcomes, its table to `READERS` of lib/auditRows.ts and to lib/auditDatabase.ts.
 */
import { Kind } from './auditEvents.ts'
import { grown } from './auditOrderIds.ts'
import type { Positions } from './auditPositions.ts'
import type { GroupName, TopicTable } from './topics.ts'

/** The topics of the table that carry events of orders. */
export type OrderTopic = Exclude<keyof TopicTable, 'products' | 'deadLetters' | 'retries'>

export interface StageDefinition {
  group: GroupName
  input: OrderTopic
  /** What checks call a record of the input, and an answer to it; without one, dead letters alone are written. */
  cause: string
  answer?: string
  /** Where answers are written, besides the dead letters. */
  outputs: readonly OrderTopic[]
  guarantee: number
  /**
   * `each`: every input has exactly one. `order`: every order has exactly one, so that an order that was validated
   * again has it already. `any`: at most one.
   */
  demand: 'each' | 'order' | 'any'
}

const placed = {
  input: 'ordersRaw',
  cause: 'order placed',
  outputs: ['ordersValidated', 'ordersRejected'],
} as const
const stock = { group: 'inventory', outputs: ['inventoryEvents'] } as const
const payment = { group: 'payment', outputs: ['paymentEvents'] } as const
const analytics = { group: 'analytics', outputs: [] } as const
const validated = { input: 'ordersValidated', cause: 'validated order' } as const
const rejected = { input: 'ordersRejected', cause: 'rejected order' } as const
const completed = { input: 'ordersCompleted', cause: 'decided order' } as const

export const STAGES: readonly StageDefinition[] = [
  { group: 'validator', ...placed, answer: 'validation', guarantee: 1, demand: 'each' },
  { ...stock, ...validated, answer: 'inventory verdict', guarantee: 2, demand: 'order' },
  { ...payment, ...validated, answer: 'payment verdict', guarantee: 2, demand: 'order' },
  { ...stock, ...completed, answer: 'stock settlement', guarantee: 2, demand: 'any' },
  { ...payment, ...completed, answer: 'payment settlement', guarantee: 4, demand: 'any' },
  { ...analytics, ...validated, guarantee: 1, demand: 'any' },
  { ...analytics, ...rejected, guarantee: 1, demand: 'any' },
]

/**
 * Whether every validated order must come to a decision. Not yet: nobody writes orders.completed. What is decided is
 * checked nevertheless.
 */
export const DECISIONS_EXPECTED = false
/** Why checks of decisions are not made. */
export const NOT_DECIDED_YET = 'nobody writes orders.completed yet'

/** The topic whose records are answered by something of this kind; none for decisions. */
export function inputOfKind(kind: Kind): OrderTopic | undefined {
  if (kind <= Kind.notReserved) return 'ordersValidated'
  if (kind <= Kind.released) return 'ordersCompleted'
  if (kind <= Kind.declined) return 'ordersValidated'
  if (kind <= Kind.voided) return 'ordersCompleted'
  return undefined
}

const MAX_SIGHTINGS = 1_000

/** Where the cause of something lies. */
export interface Cause {
  partition: number
  offset: number
  cell: number
}

/** A topic in which a stage answers. */
export interface AnswerTopic {
  positions: Positions
  /** Whether the record at this place lies in it. */
  has(place: number): boolean
}

/** What became of the records of one topic with one group, in columns by the cell of the cause. */
export class Stage {
  readonly definition: StageDefinition
  readonly causes: Positions
  readonly #answers: readonly AnswerTopic[]
  /** Records of the retry topic are deleted, so that nobody knows how often a record was worked on. */
  readonly areRetriesGone: boolean
  readonly results: Uint8Array
  readonly deadLetters: Uint8Array
  readonly redrives: Uint8Array
  readonly drops: Uint8Array
  /** Dead letters that nobody has settled, of records that can be used. */
  readonly openGood: Uint8Array
  /** Set when something came after the look at the bounds: that excuses what is missing. */
  readonly late: Uint8Array
  /** The order of the first result, plus 1. */
  readonly resultOrder: Int32Array
  readonly firstPlace: Float64Array
  /** The cell that the first result for an order came from, plus 1. */
  #cellOfOrder = new Int32Array(0)
  /** By partition, the highest offset that was answered: all before it were worked on. */
  readonly #floors: number[] = []
  /** By partition, the offset below which answers may be deleted; see {@link canBeGone}. */
  readonly #gone = new Map<number, number>()
  /** Where further answers to the first few causes with several were seen. */
  readonly #sightings = new Map<number, number[]>()

  constructor(
    definition: StageDefinition,
    causes: Positions,
    answers: readonly AnswerTopic[],
    retries: Positions,
  ) {
    this.definition = definition
    this.causes = causes
    this.#answers = answers
    this.areRetriesGone = retries.isTrimmed
    const { size } = causes
    this.results = new Uint8Array(size)
    this.deadLetters = new Uint8Array(size)
    this.redrives = new Uint8Array(size)
    this.drops = new Uint8Array(size)
    this.openGood = new Uint8Array(size)
    this.late = new Uint8Array(size)
    this.resultOrder = new Int32Array(size)
    this.firstPlace = new Float64Array(size)
  }

  /** @param order -1 when it is of none */
  addResult(cause: Cause, order: number, place: number): void {
    const { cell } = cause
    this.#see(cause, place)
    if (this.results[cell] === 0) this.resultOrder[cell] = order + 1
    increment(this.results, cell)
    if (order < 0) return
    if (order >= this.#cellOfOrder.length) {
      this.#cellOfOrder = grown(this.#cellOfOrder, Math.max(order + 1, this.#cellOfOrder.length * 2, 1_024))
    }
    if (this.#cellOfOrder[order] === 0) this.#cellOfOrder[order] = cell + 1
  }

  addDeadLetter(cause: Cause, place: number): void {
    this.#see(cause, place)
    increment(this.deadLetters, cause.cell)
  }

  #see({ cell, partition, offset }: Cause, place: number): void {
    if (offset > (this.#floors[partition] ?? -1)) this.#floors[partition] = offset
    if (this.firstPlace[cell] === 0) {
      this.firstPlace[cell] = place
      return
    }
    const places = this.#sightings.get(cell)
    if (places) {
      if (places.length < 5) places.push(place)
    } else if (this.#sightings.size < MAX_SIGHTINGS) {
      this.#sightings.set(cell, [place])
    }
  }

  /** The cell that the first result for this order came from, or -1. */
  cellOfOrder(order: number): number {
    return (this.#cellOfOrder[order] ?? 0) - 1
  }

  /** Whether a later record of its partition has an answer, so that this one is not waiting any more. */
  isPassed(cell: number): boolean {
    const { partition, offset } = this.causes.positionOf(cell)
    return offset < (this.#floors[partition] ?? -1)
  }

  /**
   * Whether the answer to a record can be deleted: in one of the topics that it can be in, nothing that is kept answers
   * a record so old. What was redriven is answered out of order, and which records were is not known once those of
   * the retry topic are deleted. To be asked when all has been read.
   */
  canBeGone(cell: number): boolean {
    if (this.areRetriesGone) return true
    const { partition, offset } = this.causes.positionOf(cell)
    let gone = this.#gone.get(partition)
    if (gone === undefined) {
      gone = Math.max(0, ...this.#answers.map((topic) => this.#firstAnswered(topic, partition)))
      this.#gone.set(partition, gone)
    }
    return this.redrives[cell]! > 0 ? gone > 0 : offset < gone
  }

  /** The lowest offset with an answer in this topic: 0 where none is deleted, beyond all where all may be. */
  #firstAnswered({ positions, has }: AnswerTopic, partition: number): number {
    if (!positions.isGone(partition, 0)) return 0
    for (let cell = 0; cell < this.causes.size; cell++) {
      // Out of order, it says nothing of the others.
      const place = this.redrives[cell] === 0 ? this.firstPlace[cell]! : 0
      if (place === 0 || !has(place)) continue
      const cause = this.causes.positionOf(cell)
      if (cause.partition === partition) return cause.offset
    }
    return Number.POSITIVE_INFINITY
  }

  /** Where its answers were seen, the first few. */
  placesOf(cell: number): number[] {
    const first = this.firstPlace[cell]!
    return first === 0 ? [] : [first, ...(this.#sightings.get(cell) ?? [])]
  }
}

/** Counts up to what a byte holds: more is no different from that. */
export function increment(counts: Uint8Array, index: number): void {
  if (counts[index]! < 255) counts[index]!++
}
