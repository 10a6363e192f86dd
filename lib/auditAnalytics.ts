import { ended, startScript } from './childProcesses.ts'
import { UnavailableError } from './errors.ts'

/**
 * What analytics reports as booked revenue when it replays everything, in minor units by currency: asked of the
 * script itself, as anybody would.
 *
 * @throws UnavailableError when it does not say
 */
export async function askAnalytics(environment: NodeJS.ProcessEnv): Promise<Record<string, number>> {
  const said: string[] = []
  const output: string[] = []
  const child = startScript({
    script: 'analytics.ts',
    args: ['--from-beginning', '--once', '--json'],
    env: environment,
    print: (line) => said.push(line),
    onOutput: (line) => output.push(line),
  })
  const status = await ended(child)
  const json = output.at(-1)
  if (status !== 0 || json === undefined) {
    throw new UnavailableError('analytics', new Error(`it ended with ${status}: ${said.slice(-3).join(' ')}`))
  }
  return (JSON.parse(json) as { bookedRevenueMinor: Record<string, number> }).bookedRevenueMinor
}
