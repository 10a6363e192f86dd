import type { IHeaders } from 'kafkajs'
import type { Positions } from './auditPositions.ts'
import { readPosition } from './auditSource.ts'
import { increment, type Stage } from './auditStage.ts'
import { DEAD_LETTER_HEADER, DROPPED_HEADER, SOURCE_HEADER } from './record.ts'

/** How a dead letter was settled. */
const Settled = { not: 0, redriven: 1, dropped: 2 } as const

/** The dead letters of one group by their own positions, and what became of each. */
export class DeadLetterBooks {
  readonly letters: Positions
  /** Of this group alone. */
  readonly #stages: readonly Stage[]
  readonly #stageOf: Uint8Array
  /** The cell of what could not be used, plus 1; 0 for what is no order of any input. */
  readonly #causeOf: Int32Array
  readonly #settled: Uint8Array
  readonly #isGood: Uint8Array

  constructor(letters: Positions, stages: readonly Stage[]) {
    this.letters = letters
    this.#stages = stages
    this.#stageOf = new Uint8Array(letters.size)
    this.#causeOf = new Int32Array(letters.size)
    this.#settled = new Uint8Array(letters.size)
    this.#isGood = new Uint8Array(letters.size)
  }

  /** The stage in which records of this topic are worked on. */
  stageOf(input: string | undefined): Stage | undefined {
    return this.#stages.find(({ causes }) => causes.topic === input)
  }

  /** @param isGood what the letter holds can be used */
  keep(letter: number, stage: Stage, cause: number, isGood: boolean): void {
    this.#stageOf[letter] = this.#stages.indexOf(stage)
    this.#causeOf[letter] = cause + 1
    this.#isGood[letter] = Number(isGood)
  }

  /**
   * A record of the retry topic settles the dead letter of its own partition that it names, once: the first counts. Any
   * other is no redrive: the group does not know it, and makes a dead letter of it under its own position.
   */
  takeRetry(partition: number, headers: IHeaders): void {
    const letter = readPosition(headers, DEAD_LETTER_HEADER)
    if (letter?.topic !== this.letters.topic || letter.partition !== partition) return
    if (this.letters.isGone(partition, letter.offset)) {
      this.#takeRetryOfGone(headers)
      return
    }
    // One beyond the bounds came later than they were looked at: it counts as open, as of then.
    const cell = this.letters.cellOf(partition, letter.offset)
    if (cell < 0 || this.#settled[cell] !== Settled.not) return
    this.#settled[cell] = headers[DROPPED_HEADER] === undefined ? Settled.redriven : Settled.dropped
  }

  /** A letter that is deleted has left its source with what settles it. */
  #takeRetryOfGone(headers: IHeaders): void {
    const source = readPosition(headers, SOURCE_HEADER)
    const stage = this.stageOf(source?.topic)
    const cell = source && stage ? stage.causes.cellOf(source.partition, source.offset) : -1
    if (stage && cell >= 0 && headers[DROPPED_HEADER] === undefined) stage.addRedrive(cell)
  }

  /** Enters what was settled with its causes. A dead letter and what settles it are read in any order: so at the end. */
  settle(): void {
    for (let cell = 0; cell < this.#settled.length; cell++) {
      const cause = this.#causeOf[cell]! - 1
      if (cause < 0) continue
      const { redrives, drops, openGood } = this.#stages[this.#stageOf[cell]!]!
      if (this.#settled[cell] === Settled.redriven) increment(redrives, cause)
      else if (this.#settled[cell] === Settled.dropped) increment(drops, cause)
      else if (this.#isGood[cell] === 1) increment(openGood, cause)
    }
  }
}
