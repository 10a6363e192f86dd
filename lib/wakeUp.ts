const FIRST_BACKOFF_MS = 50
/** A dependency that is back is noticed within this; asking it once a second while it is away costs nothing. */
const MAX_BACKOFF_MS = 1_000

/** Lets one loop wait for time to pass, or for somebody who wakes it. */
export class WakeUp {
  #wake: () => void = () => undefined

  /** Ends the present wait, if there is one. */
  wake(): void {
    this.#wake()
  }

  /** Waits until woken, or until the time is up; for infinity, until woken. One wait at a time. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /**
   * Waits after so many failures in a row: exponential, with full jitter above the first wait. Being woken does not
   * cut it short, but for the signal: whoever aborts it wakes the loop too.
   */
  async backOff(failures: number, signal: AbortSignal): Promise<void> {
    const ceilingMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures)
    const untilMs = Date.now() + FIRST_BACKOFF_MS + Math.random() * (ceilingMs - FIRST_BACKOFF_MS)
    while (!signal.aborted && Date.now() < untilMs) await this.wait(untilMs - Date.now())
  }
}
