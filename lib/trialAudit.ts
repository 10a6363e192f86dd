import { once } from 'node:events'
import type { AuditReport } from './auditReport.ts'
import { startScript } from './childProcesses.ts'
import type { TrialPipeline } from './trialPipeline.ts'

/**
 * Has tools/verify.ts look at a pipeline that has drained: as a process of its own, by the same command that anybody
 * can give.
 *
 * @throws Error with what it said when it could not look
 */
export async function auditTrial(
  pipeline: TrialPipeline,
  print: (line: string) => void,
): Promise<AuditReport> {
  const said: string[] = []
  const output: string[] = []
  const child = startScript({
    script: 'tools/verify.ts',
    args: ['--drained', '--json'],
    env: pipeline.environment,
    print: (line) => {
      said.push(line)
      print(line)
    },
    onOutput: (line) => output.push(line),
  })
  // Not 'exit', which can come before the last of what it has written.
  const [status] = await once(child, 'close')
  if (status === 0 || status === 1) return JSON.parse(output.join('\n')) as AuditReport
  throw new Error(`the audit could not look (${status}): ${said.slice(-3).join(' ')}`)
}
