import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ended, startScript, stopScript } from './childProcesses.ts'
import type { Probe } from './probes.ts'

/** A process of the pipeline. */
interface Member {
  id: string
  child: ChildProcess
  /** What it said, on either stream: the last of it. */
  lines: string[]
  /** It was told to end. */
  isEnding: boolean
}

const MAX_LINES = 2_000
const LAST_WORDS = 4
/** Of one that has crashed: with the error that stands above the stack. */
const LAST_WORDS_OF_DEAD = 12
const KILL_AT_PROBE = fileURLToPath(new URL('../tools/killAtProbe.ts', import.meta.url))

/** The processes of the tour's pipeline. An instance is called `<script>-<number>`. */
export class TourMembers {
  readonly #environment: NodeJS.ProcessEnv
  readonly #prefix: string
  readonly #onFailure: (failure: string) => void
  readonly #members = new Map<string, Member>()
  readonly #numbers = new Map<string, number>()

  /**
   * @param prefix left out of all that they say
   * @param onFailure told of one that ended though nobody had told it to
   */
  constructor(environment: NodeJS.ProcessEnv, prefix: string, onFailure: (failure: string) => void) {
    this.#environment = environment
    this.#prefix = prefix
    this.#onFailure = onFailure
  }

  /** Starts one more instance of a script. @returns what it is called */
  start(script: string, args: string[] = []): string {
    const number = (this.#numbers.get(script) ?? 0) + 1
    this.#numbers.set(script, number)
    const id = `${script}-${number}`
    const lines: string[] = []
    const print = (line: string) => {
      lines.push(line.replaceAll(this.#prefix, ''))
      if (lines.length > MAX_LINES) lines.shift()
    }
    const child = startScript({
      script: `${script}.ts`,
      args,
      preload: [KILL_AT_PROBE],
      env: this.#environment,
      print,
    })
    const member = { id, child, lines, isEnding: false }
    this.#members.set(id, member)
    void ended(child).then((status) => {
      if (member.isEnding) this.#members.delete(id)
      else this.#onFailure(`${id} ended by itself (${status})${lastWords(member, LAST_WORDS_OF_DEAD)}`)
    })
    return id
  }

  /** Whether each has said that it has its place: a service in its group, the gateway at its port. */
  get areReady(): boolean {
    return [...this.#members.values()].every(({ id, lines }) => {
      const sign = id.startsWith('paymentGateway') ? /payment gateway at http/ : /has tasks \d/
      return lines.some((line) => sign.test(line))
    })
  }

  /** The instances of a script that run, oldest first. */
  instancesOf(script: string): string[] {
    return [...this.#members.keys()].filter((id) => id.replace(/-\d+$/, '') === script)
  }

  pidOf(id: string): number {
    return this.#find(id).child.pid!
  }

  /** What an instance has said. */
  linesOf(id: string): readonly string[] {
    return this.#find(id).lines
  }

  /** The last that each of them has said. */
  get lastWords(): string {
    return [...this.#members.values()].map((member) => lastWords(member, LAST_WORDS)).join('')
  }

  /** What Ctrl-C does: it finishes what it has in hand and leaves. */
  async stop(id: string): Promise<void> {
    const member = this.#find(id)
    member.isEnding = true
    await stopScript(member.child)
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#members.keys()].map((id) => this.stop(id)))
  }

  /**
   * Has an instance kill itself, as hard as can be, the how manieth time that it passes a moment of lib/probes.ts.
   *
   * @returns what resolves with the signal that ended it
   */
  killAt(id: string, killAt: Probe, passes: number): Promise<number | string> {
    const member = this.#find(id)
    member.isEnding = true
    member.child.send({ killAt, passes })
    return ended(member.child)
  }

  /** Where an instance has its figures, as Prometheus reads them. */
  metricsUrlOf(id: string): string {
    const said = this.linesOf(id).find((line) => line.includes('health at http')) ?? ''
    const url = /http:\S+/.exec(said)?.[0]
    if (url === undefined) throw new Error(`${id} has not said where its health is`)
    return url.replace(/health$/, 'metrics')
  }

  /** One of its figures: the sum over its labels. @param label only where this is among them */
  async metric(id: string, name: string, label = ''): Promise<number> {
    const text = await (await fetch(this.metricsUrlOf(id))).text()
    const lines = text.split('\n').filter((line) => line.startsWith(name) && line.includes(label))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  #find(id: string): Member {
    const member = this.#members.get(id)
    if (!member) throw new Error(`${id} does not run`)
    return member
  }
}

function lastWords({ id, lines }: Member, count: number): string {
  const said = lines.filter((line) => line.trim() !== '' && !line.startsWith('{')).slice(-count)
  return ['', `${id}:`, ...said.map((line) => `  ${line}`)].join('\n')
}
