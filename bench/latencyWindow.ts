/** What the reader of latencies is told, and what it answers (bench/latencyReader.ts). */
import { AskedProcess, type Question } from './askedProcess.ts'

/** Orders that are due from one moment to another, in milliseconds since 1970. Telling it clears what was measured. */
export interface LatencyWindow {
  fromMs: number
  toMs: number
}

/** In milliseconds, 1 and more; to three figures, as HDR histograms keep them. */
export interface Quantiles {
  count: number
  p50: number
  p99: number
  p999: number
  max: number
}

export interface LatencyReport extends Question {
  hops: Record<string, Quantiles>
}

export type LatencyReader = AskedProcess<LatencyWindow, LatencyReport>

/** Starts it, and resolves when it reads these topics at their ends. */
export function startLatencyReader(options: {
  env: NodeJS.ProcessEnv
  topics: readonly string[]
  print(line: string): void
}): Promise<LatencyReader> {
  const { env, topics, print } = options
  return AskedProcess.start({
    script: 'bench/latencyReader.ts',
    args: ['--topics', topics.join(',')],
    env,
    print,
  })
}
