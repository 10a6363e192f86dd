/**
 * How many records of its retry topic a task reads back when it begins, to know which dead letters they settle.
 * `npm run dlq` itself looks at all of them: this is for two who redrive the same at the same time.
 */
export const LEDGER_READ_BACK = 100_000

/**
 * The dead letters of one partition that were settled, by their offsets: each is settled once, by the first record
 * of the retry topic that names it. Bounded: it holds at least the last {@link LEDGER_READ_BACK}, at most twice that.
 */
export class SettledLetters {
  readonly #generation: number
  #recent = new Set<number>()
  #older = new Set<number>()

  constructor(generation = LEDGER_READ_BACK) {
    this.#generation = generation
  }

  /** @returns whether this settles it: false when something before did */
  settle(offset: number): boolean {
    if (this.#recent.has(offset) || this.#older.has(offset)) return false
    this.#recent.add(offset)
    if (this.#recent.size >= this.#generation) {
      this.#older = this.#recent
      this.#recent = new Set()
    }
    return true
  }
}
