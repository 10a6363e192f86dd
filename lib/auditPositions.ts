import type { Bounds } from './topicBounds.ts'

/** Nothing visible lies there: a control record, an aborted one, or not read yet. */
const NOTHING = 0
/** Something lies there that is of no order. */
const NO_ORDER = 1
const FIRST_ORDER = 2

/**
 * The records of one topic by position. Each offset between the bounds has a cell, a
 * number from 0 on, so that what is known of millions of them stands in plain columns of numbers.
 */
export class Positions {
  readonly topic: string
  /** How many cells there are. */
  readonly size: number
  readonly partitions: readonly number[]
  readonly #bounds: ReadonlyMap<number, Bounds>
  readonly #bases = new Map<number, number>()
  readonly #orders: Int32Array
  #count = 0

  constructor(topic: string, bounds: ReadonlyMap<number, Bounds>) {
    this.topic = topic
    this.#bounds = bounds
    let size = 0
    for (const [partition, { low, high }] of bounds) {
      this.#bases.set(partition, size)
      size += Math.max(0, high - low)
    }
    this.size = size
    this.partitions = [...bounds.keys()]
    this.#orders = new Int32Array(size)
  }

  /** How many visible records there are. */
  get count(): number {
    return this.#count
  }

  /** Whether the oldest records are gone, so that not every cause can be found. */
  get isTrimmed(): boolean {
    return [...this.#bounds.values()].some(({ low }) => low > 0)
  }

  /** -1 when it is not between the bounds. */
  cellOf(partition: number, offset: number): number {
    const bounds = this.#bounds.get(partition)
    if (!bounds || offset < bounds.low || offset >= bounds.high) return -1
    return this.#bases.get(partition)! + offset - bounds.low
  }

  /** Whether a position was there once: retention has removed it. */
  isGone(partition: number, offset: number): boolean {
    return offset < (this.#bounds.get(partition)?.low ?? 0)
  }

  /** Whether a record came after the look at the bounds. */
  isLate(partition: number, offset: number): boolean {
    return offset >= (this.#bounds.get(partition)?.high ?? 0)
  }

  positionOf(cell: number): { partition: number; offset: number } {
    for (const partition of [...this.partitions].reverse()) {
      const base = this.#bases.get(partition)!
      if (cell >= base) return { partition, offset: cell - base + this.#bounds.get(partition)!.low }
    }
    throw new RangeError(`${this.topic} has no cell ${cell}`)
  }

  /** @param order its number, or -1 when it is of none */
  put(cell: number, order: number): void {
    this.#count++
    this.#orders[cell] = order < 0 ? NO_ORDER : order + FIRST_ORDER
  }

  isThere(cell: number): boolean {
    return this.#orders[cell] !== NOTHING
  }

  /** The first cell with a record of this order, or -1. */
  findOrder(order: number): number {
    return this.#orders.indexOf(order + FIRST_ORDER)
  }

  /** -1 when the record is of no order, or is not there. */
  orderAt(cell: number): number {
    return Math.max(-1, this.#orders[cell]! - FIRST_ORDER)
  }
}

/** Positions of any topic as one number each, for columns that say where something was seen. 0 is nowhere. */
export class Places {
  readonly #topics: string[] = ['']

  /** The number by which a topic is known here. */
  register(topic: string): number {
    return this.#topics.push(topic) - 1
  }

  /** Whether a place is in the topic of this number. */
  static isIn(place: number, topicNumber: number): boolean {
    return Math.floor(place / (OFFSETS * PARTITIONS)) === topicNumber
  }

  /** `topic/partition/offset`, or undefined for 0. */
  format(place: number): string | undefined {
    if (place === 0) return undefined
    const offset = place % OFFSETS
    const rest = (place - offset) / OFFSETS
    return `${this.#topics[Math.floor(rest / PARTITIONS)]}/${rest % PARTITIONS}/${offset}`
  }
}

/** 2^35 offsets, 2^12 partitions and 2^6 topics fit into the 2^53 of an exact number. */
const OFFSETS = 2 ** 35
const PARTITIONS = 2 ** 12

export function placeOf(topicNumber: number, partition: number, offset: number): number {
  return (topicNumber * PARTITIONS + partition) * OFFSETS + offset
}
