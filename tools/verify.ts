/**
 * npm run verify: the auditor. Reads every topic as a read-committed reader, the database and the gateway's ledger,
 * and checks every guarantee; changes nothing, and may look while the pipeline runs. lib/audit.ts says how it looks.
 *
 *   --drained   nothing may be under way any more: what is missing is lost. Also asks analytics for its sums
 *   --json      one line of JSON (lib/auditReport.ts) in place of the table
 *
 * Exit status: 0 all holds; 1 something does not, and the table names it; 2 it could not look.
 */
import { audit } from '../lib/audit.ts'
import { formatAudit } from '../lib/auditText.ts'
import { Progress } from '../lib/progress.ts'
import { runMain } from '../lib/service.ts'
import { wantsColor } from '../lib/terminal.ts'

const FLAGS = {
  drained: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

const COULD_NOT_LOOK = 2

// Until it has looked. What ends it outside of runMain, which is none of its findings, would end with 1.
process.exitCode = COULD_NOT_LOOK
process.on('uncaughtException', (error) => {
  console.error(error)
  process.exit(COULD_NOT_LOOK)
})
await runMain(
  'verify',
  'Checks every guarantee against Kafka, the database and the ledger. Status 0: all holds, 1: not, 2: could not look.',
  FLAGS,
  async ({ config, log, signal }, { drained = false, json = false }) => {
    let progress: Progress | undefined
    let total = 0
    const report = await audit(config, {
      isDrained: drained,
      log,
      signal,
      onProgress(done, all) {
        total = all
        progress ??= new Progress({
          total,
          unit: 'records and rows',
          output: process.stderr,
          color: wantsColor(process.stderr),
        })
        progress.update(done)
      },
    })
    progress?.finish(total)
    const text = json ? `${JSON.stringify(report)}\n` : formatAudit(report, wantsColor(process.stdout))
    await new Promise((resolve) => process.stdout.write(text, resolve))
    process.exitCode = report.ok ? 0 : 1
  },
)
