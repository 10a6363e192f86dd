/**
 * The dead letters of the groups: what lies there and why, and what is to become of it.
 *
 *   npm run dlq -- list | show | redrive | drop
 *
 *   --group, --reason, --order, --since, --until, --position, --limit   say which
 *   --all            list and show: also those that are settled
 *   --max-redrives   redrive: refuses what was redriven so often already (3)
 *   --why            drop: kept with it
 *   --yes            redrive and drop: asks nothing
 *   --json           one line of JSON
 *
 * Reads <group>.dlq and <group>.retry to their ends, outside of any working group. `redrive` writes letters as they
 * are to the retry topic of their group, where that group alone reads them, in the partition that they had; `drop`
 * writes there that they are given up. So the retry topic is the ledger of what became of each letter, and settling
 * one twice, by whomever, has its effect once.
 *
 * Exit status: 0 when done, 1 when something was refused.
 */

import { createInterface } from 'node:readline/promises'
import { createKafka } from '../kafkaConfig.ts'
import { runDlq } from '../lib/dlqCommands.ts'
import { DLQ_COMMANDS, DLQ_FLAGS, readDlqPlan } from '../lib/dlqPlan.ts'
import { runMain } from '../lib/service.ts'
import { formatCount } from '../lib/text.ts'
import { groupsOf } from '../lib/topics.ts'

const PURPOSE = `Works with the dead letters of the groups: npm run dlq -- ${DLQ_COMMANDS.join(' | ')}`

const args = process.argv.slice(2)
const command = args[0]?.startsWith('-') ? undefined : args.shift()

await runMain(
  'dlq',
  PURPOSE,
  DLQ_FLAGS,
  async ({ config, log, signal }, values) => {
    const plan = readDlqPlan(command, values, groupsOf(config.topics))
    // Whoever read what we print has gone: `| head` is no error.
    process.stdout.on('error', () => process.exit())
    const context = { config, kafka: createKafka(config, 'dlq', log), log, signal, onRead: sayHowFar() }
    const isAllDone = await runDlq(context, plan, {
      // Waits until it is out: the end of the process does not.
      print: (text) => new Promise((resolve) => process.stdout.write(text, () => resolve())),
      notes: process.stderr,
      columns: process.stdout.columns,
      ask: process.stdin.isTTY && process.stderr.isTTY ? (question) => ask(question, signal) : undefined,
    })
    if (!isAllDone) process.exitCode = 1
  },
  args,
)

async function ask(question: string, signal: AbortSignal): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `, { signal })).trim())
  } catch (error) {
    // Ctrl-C, Ctrl-D and a signal are no yes.
    if ((error as Error).name === 'AbortError') return false
    throw error
  } finally {
    terminal.close()
  }
}

/** Says how far the reading is, when it takes long. */
function sayHowFar(): (records: number) => void {
  let read = 0
  let saidMs = performance.now()
  return (records) => {
    read += records
    if (performance.now() - saidMs < 2_000) return
    saidMs = performance.now()
    console.error(`read ${formatCount(read)} records`)
  }
}
