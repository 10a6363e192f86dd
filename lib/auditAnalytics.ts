import { runScript } from './childProcesses.ts'
import { UnavailableError } from './errors.ts'

/** It reads topics that the audit has just read. */
const DEADLINE_MS = 10 * 60_000

/** Sums in minor units, by currency. */
export interface Revenue {
  bookedMinor: Readonly<Record<string, number>>
  capturedMinor: Readonly<Record<string, number>>
}

/**
 * What analytics reports as revenue when it replays everything: asked of the script itself, as anybody would.
 *
 * @param signal stops it
 * @returns undefined when it was stopped
 * @throws UnavailableError when it does not say
 */
export async function askAnalytics(
  environment: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Revenue | undefined> {
  const said: string[] = []
  const { status, lines } = await runScript({
    script: 'analytics.ts',
    args: ['--from-beginning', '--once', '--json'],
    env: environment,
    print: (line) => said.push(line),
    signal: AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), ...(signal ? [signal] : [])]),
  })
  if (signal?.aborted) return undefined
  const json = lines.at(-1)
  if (status !== 0 || json === undefined) {
    throw new UnavailableError('analytics', new Error(`it ended with ${status}: ${said.slice(-3).join(' ')}`))
  }
  const { bookedRevenueMinor, capturedRevenueMinor } = JSON.parse(json) as Record<
    string,
    Record<string, number> | undefined
  >
  if (!bookedRevenueMinor || !capturedRevenueMinor) {
    throw new UnavailableError('analytics', new Error('it does not say what was booked and captured'))
  }
  return { bookedMinor: bookedRevenueMinor, capturedMinor: capturedRevenueMinor }
}
