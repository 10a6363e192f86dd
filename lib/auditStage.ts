import { grown } from './auditOrderIds.ts'
import type { Positions } from './auditPositions.ts'
import type { StageDefinition } from './auditStages.ts'

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

/**
 * What became of the records of one topic with one group, in columns by the cell of the cause. A group that only reads
 * has no columns before its first dead letter: there are many of these, and most have none.
 */
export class Stage {
  readonly definition: StageDefinition
  readonly causes: Positions
  readonly #answers: readonly AnswerTopic[]
  /** Records of the retry topic are deleted, so that nobody knows how often a record was worked on. */
  readonly areRetriesGone: boolean
  results = new Uint8Array(0)
  deadLetters = new Uint8Array(0)
  redrives = new Uint8Array(0)
  drops = new Uint8Array(0)
  /** Dead letters that nobody has settled, of records that can be used. */
  openGood = new Uint8Array(0)
  /** Set when something came after the look at the bounds: that excuses what is missing. */
  late = new Uint8Array(0)
  /** The order of the first result, plus 1. */
  resultOrder = new Int32Array(0)
  firstPlace = new Float64Array(0)
  #isOpen = false
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
    if (definition.answer !== undefined) this.#open()
  }

  /** Whether there is anything in its columns. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  #open(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    const { size } = this.causes
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
    this.#open()
    this.#see(cause, place)
    increment(this.deadLetters, cause.cell)
  }

  addRedrive(cell: number): void {
    this.#open()
    increment(this.redrives, cell)
  }

  /** Something came to it after the look at the bounds. */
  excuse(cell: number): void {
    this.#open()
    this.late[cell] = 1
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
    if (this.definition.mayWait) return false
    const { partition, offset } = this.causes.positionOf(cell)
    return offset < (this.#floors[partition] ?? -1)
  }

  /**
   * Whether the answer to a record can be deleted: in one of the topics that it can be in, nothing that is kept answers
   * a record so old. What waited is answered in any order. What was redriven is, too, and which records were is not known once those of
   * the retry topic are deleted. To be asked when all has been read.
   */
  canBeGone(cell: number): boolean {
    if (this.areRetriesGone) return true
    const { partition, offset } = this.causes.positionOf(cell)
    if (this.definition.mayWait) return this.#answers.some(({ positions }) => positions.isGone(partition, 0))
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
      // Redriven it was answered out of order, and says nothing of the others; also when its letter came late and is not counted.
      const isInOrder = this.redrives[cell] === 0 && this.late[cell] === 0
      const place = isInOrder ? this.firstPlace[cell]! : 0
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
