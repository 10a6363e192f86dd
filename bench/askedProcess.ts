/** A script as a process of its own that is told and asked things over its channel. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { ended, type ScriptOptions, startScript, stopScript } from '../lib/childProcesses.ts'

/** What a process is asked; it answers with the same number. */
export interface Question {
  asked: number
}

export class AskedProcess<Command, Report extends Question> {
  readonly #child: ChildProcess
  readonly #over = new AbortController()
  /** Never resolves. */
  readonly #gone: Promise<never>
  #asked = 0

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#gone = ended(child).then((status) => {
      throw new Error(`${child.spawnargs.join(' ')} ended with ${status}`)
    })
    // Told to whoever asks.
    this.#gone.catch(() => this.#over.abort())
  }

  /** Resolves with its first report, by which it says that it is ready. @throws Error when it ends before */
  static async start<Command, Report extends Question>(
    options: ScriptOptions,
  ): Promise<AskedProcess<Command, Report>> {
    const started = new AskedProcess<Command, Report>(startScript(options))
    await started.#nextReport()
    return started
  }

  get pid(): number {
    return this.#child.pid!
  }

  tell(command: Command): void {
    this.#child.send(command as object)
  }

  /** @throws Error when it has ended */
  async ask(): Promise<Report> {
    const asked = ++this.#asked
    this.#child.send({ asked })
    for (;;) {
      const report = await this.#nextReport()
      if (report.asked === asked) return report
    }
  }

  stop(): Promise<void> {
    return stopScript(this.#child)
  }

  async #nextReport(): Promise<Report> {
    const answered = once(this.#child, 'message', this.#over) as Promise<[Report]>
    // When it ends, that is what is thrown.
    answered.catch(() => undefined)
    const [report] = await Promise.race([this.#gone, answered])
    return report
  }
}
