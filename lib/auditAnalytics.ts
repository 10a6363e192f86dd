import { sleep } from './async.ts'
import { ended, startScript, stopScript } from './childProcesses.ts'
import { UnavailableError } from './errors.ts'

/** It reads two topics that the audit has just read. */
const DEADLINE_MS = 10 * 60_000

/**
 * What analytics reports as booked revenue when it replays everything, in minor units by currency: asked of the
 * script itself, as anybody would.
 *
 * @param signal stops it
 * @returns undefined when it was stopped
 * @throws UnavailableError when it does not say
 */
export async function askAnalytics(
  environment: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Record<string, number> | undefined> {
  const said: string[] = []
  const output: string[] = []
  const child = startScript({
    script: 'analytics.ts',
    args: ['--from-beginning', '--once', '--json'],
    env: environment,
    print: (line) => said.push(line),
    onOutput: (line) => output.push(line),
  })
  const over = new AbortController()
  const givenUp = sleep(DEADLINE_MS, AbortSignal.any([over.signal, ...(signal ? [signal] : [])]))
  await Promise.race([ended(child), givenUp])
  over.abort()
  if (child.exitCode === null && child.signalCode === null) await stopScript(child)
  if (signal?.aborted) return undefined
  const status = await ended(child)
  const json = output.at(-1)
  if (status !== 0 || json === undefined) {
    throw new UnavailableError('analytics', new Error(`it ended with ${status}: ${said.slice(-3).join(' ')}`))
  }
  return (JSON.parse(json) as { bookedRevenueMinor: Record<string, number> }).bookedRevenueMinor
}
