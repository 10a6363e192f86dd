import type { Logger } from './log.ts'

const REPEAT_MS = 10_000

/** A warning of something that goes on: said once for each new thing, then every ten seconds. Not a flood. */
export class RepeatedWarning {
  readonly #log: Logger
  #last = { message: '', atMs: 0 }

  constructor(log: Logger) {
    this.#log = log
  }

  say(message: string): void {
    const nowMs = Date.now()
    if (message === this.#last.message && nowMs - this.#last.atMs < REPEAT_MS) return
    this.#last = { message, atMs: nowMs }
    this.#log.warn(message)
  }

  /** It is over: should the same come again, it is new. */
  over(): void {
    this.#last = { message: '', atMs: 0 }
  }
}
