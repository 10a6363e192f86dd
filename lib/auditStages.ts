/**
 * Who answers whom: one line for each group and topic that it reads. A new service adds its line here, its events to
 * lib/auditEvents.ts, and its topic to `readers` of lib/auditBook.ts.
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
  guarantee: number
  /**
   * `each`: every input has exactly one. `order`: every order has exactly one, so that an order that was validated
   * again has it already. `any`: at most one.
   */
  demand: 'each' | 'order' | 'any'
}

const placed = { input: 'ordersRaw', cause: 'order placed' } as const
const validated = { input: 'ordersValidated', cause: 'validated order' } as const
const rejected = { input: 'ordersRejected', cause: 'rejected order' } as const
const completed = { input: 'ordersCompleted', cause: 'decided order' } as const

export const STAGES: readonly StageDefinition[] = [
  { group: 'validator', ...placed, answer: 'validation', guarantee: 1, demand: 'each' },
  { group: 'inventory', ...validated, answer: 'inventory verdict', guarantee: 2, demand: 'order' },
  { group: 'payment', ...validated, answer: 'payment verdict', guarantee: 2, demand: 'order' },
  { group: 'inventory', ...completed, answer: 'stock settlement', guarantee: 2, demand: 'any' },
  { group: 'payment', ...completed, answer: 'payment settlement', guarantee: 4, demand: 'any' },
  { group: 'analytics', ...validated, guarantee: 1, demand: 'any' },
  { group: 'analytics', ...rejected, guarantee: 1, demand: 'any' },
]

/**
 * Whether every validated order must come to a decision. Not yet: nobody writes orders.completed. What is decided is
 * checked nevertheless.
 */
export const DECISIONS_EXPECTED = false

/** The stage that says something of this kind. */
export function stageOfKind(kind: Kind): { group: GroupName; input: OrderTopic } | undefined {
  if (kind <= Kind.notReserved) return { group: 'inventory', input: 'ordersValidated' }
  if (kind <= Kind.released) return { group: 'inventory', input: 'ordersCompleted' }
  if (kind <= Kind.declined) return { group: 'payment', input: 'ordersValidated' }
  if (kind <= Kind.voided) return { group: 'payment', input: 'ordersCompleted' }
  return undefined
}

const MAX_SIGHTINGS = 1_000

/** Where the cause of something lies. */
export interface Cause {
  partition: number
  offset: number
  cell: number
}

/** What became of the records of one topic with one group, in columns by the cell of the cause. */
export class Stage {
  readonly definition: StageDefinition
  readonly causes: Positions
  readonly results: Uint8Array
  readonly deadLetters: Uint8Array
  readonly redrives: Uint8Array
  readonly drops: Uint8Array
  /** Set when something came after the look at the bounds: that excuses what is missing. */
  readonly late: Uint8Array
  /** The order of the first result, plus 1. */
  readonly resultOrder: Int32Array
  readonly firstPlace: Float64Array
  /** The cell that the first result for an order came from, plus 1. */
  #cellOfOrder = new Int32Array(0)
  /** By partition, the highest offset that was answered: all before it were worked on. */
  readonly #floors: number[] = []
  /** By partition, the lowest. */
  readonly #firsts: number[] = []
  /** Where further answers to the first few causes with several were seen. */
  readonly #sightings = new Map<number, number[]>()
  answers = 0

  constructor(definition: StageDefinition, causes: Positions) {
    this.definition = definition
    this.causes = causes
    const { size } = causes
    this.results = new Uint8Array(size)
    this.deadLetters = new Uint8Array(size)
    this.redrives = new Uint8Array(size)
    this.drops = new Uint8Array(size)
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
    this.answers++
    if (offset > (this.#floors[partition] ?? -1)) this.#floors[partition] = offset
    if (offset < (this.#firsts[partition] ?? Number.POSITIVE_INFINITY)) this.#firsts[partition] = offset
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

  /** Whether no record so old has an answer any more: where history was deleted, its answers may be gone. */
  isBeforeAll(cell: number): boolean {
    const { partition, offset } = this.causes.positionOf(cell)
    return offset < (this.#firsts[partition] ?? Number.POSITIVE_INFINITY)
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
