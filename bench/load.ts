/** The load of a benchmark: a process of its own that places orders on a schedule (bench/loadGenerator.ts). */
import { AskedProcess, type Question } from './askedProcess.ts'

/** From us to the process: the rate from now on (0 pauses). */
export type LoadCommand = { ratePerSecond: number }

export interface LoadReport extends Question {
  /** Sent since it began. */
  placed: number
  /** Of these, not acknowledged by the broker yet. */
  unacknowledged: number
}

export type Load = AskedProcess<LoadCommand, LoadReport>

/** Starts the process, and resolves when catalogue and customers are registered and it can place orders. */
export function startLoad(options: {
  env: NodeJS.ProcessEnv
  tickMs: number
  print(line: string): void
}): Promise<Load> {
  const { env, tickMs, print } = options
  const args = ['--tick-ms', String(tickMs)]
  return AskedProcess.start({ script: 'bench/loadGenerator.ts', args, env, print })
}
