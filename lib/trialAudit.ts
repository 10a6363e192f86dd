import type { AuditReport } from './auditReport.ts'
import { runScript } from './childProcesses.ts'
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
  const { status, lines } = await runScript({
    script: 'tools/verify.ts',
    args: ['--drained', '--json'],
    env: pipeline.environment,
    print: (line) => {
      said.push(line)
      print(line)
    },
  })
  if (status === 0 || status === 1) return JSON.parse(lines.join('\n')) as AuditReport
  throw new Error(`the audit could not look (${status}): ${said.slice(-3).join(' ')}`)
}
