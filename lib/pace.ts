/**
 * An open-loop rate: orders are due by an absolute schedule, whatever became of those before. A slow send delays
 * what is due and never cancels it, and small lateness does not add up. What is owed is a number, not a queue.
 *
 * Times are milliseconds of a monotonic clock.
 */
export class Pace {
  #ratePerSecond: number
  #sinceMs: number
  /** What was due when the rate last changed, with its fraction. */
  #dueBefore = 0
  #taken = 0

  constructor(ratePerSecond: number, nowMs: number) {
    this.#ratePerSecond = ratePerSecond
    this.#sinceMs = nowMs
  }

  get ratePerSecond(): number {
    return this.#ratePerSecond
  }

  /** From now on at this rate (0 pauses). What is owed stays owed. */
  setRate(ratePerSecond: number, nowMs: number): void {
    this.#dueBefore = this.#dueBy(nowMs)
    this.#sinceMs = nowMs
    this.#ratePerSecond = ratePerSecond
  }

  /** How many are due and not yet taken. */
  owed(nowMs: number): number {
    // Each in the middle of its slot: at 1/s the first after 0.5 s, so that ten seconds hold ten, with half a slot
    // of room on both sides.
    return Math.max(0, Math.floor(this.#dueBy(nowMs) + 0.5) - this.#taken)
  }

  take(count: number): void {
    this.#taken += count
  }

  /** Until the next one is due: 0 when one is, Infinity while paused. */
  waitMs(nowMs: number): number {
    if (this.owed(nowMs) > 0) return 0
    if (this.#ratePerSecond === 0) return Number.POSITIVE_INFINITY
    return ((this.#taken + 0.5 - this.#dueBy(nowMs)) / this.#ratePerSecond) * 1_000
  }

  #dueBy(nowMs: number): number {
    return this.#dueBefore + ((nowMs - this.#sinceMs) / 1_000) * this.#ratePerSecond
  }
}
