/** Something that is looked at now and then, in the background, and shown as it was found last. */
export class Recurring<Found> {
  readonly #everyMs: number
  readonly #patience: number
  readonly #find: () => Promise<Found>
  #underWay: Promise<void> | undefined
  #beganMs = Number.NEGATIVE_INFINITY
  #latest: Found | undefined
  #failures: unknown[] = []

  /** @param patience how often in a row it may fail until what was found last counts no more */
  constructor(everyMs: number, patience: number, find: () => Promise<Found>) {
    this.#everyMs = everyMs
    this.#patience = patience
    this.#find = find
  }

  /** Begins to look, unless that is under way, or not due yet. */
  begin(nowMs = performance.now()): void {
    if (this.#underWay || nowMs - this.#beganMs < this.#everyMs) return
    this.#beganMs = nowMs
    this.#underWay = this.#look()
  }

  /** Undefined when it has not been found yet, or not for some time. */
  get latest(): Found | undefined {
    return this.error === undefined ? this.#latest : undefined
  }

  /** Why it cannot be found at present. */
  get error(): unknown {
    return this.#failures.length >= this.#patience ? this.#failures.at(-1) : undefined
  }

  /** It has been found, or cannot be. */
  get isKnown(): boolean {
    return this.#latest !== undefined || this.error !== undefined
  }

  /** Resolves when nothing is under way. */
  async ended(): Promise<void> {
    await this.#underWay
  }

  async #look(): Promise<void> {
    try {
      this.#latest = await this.#find()
      this.#failures = []
    } catch (error) {
      this.#failures = [...this.#failures, error].slice(-this.#patience)
    } finally {
      this.#underWay = undefined
    }
  }
}
