/**
 * What the metadata log knows: the way of a request through the Command Center, or figures of all requests.
 *
 *   npm run trail -- ORDER_ID              each hop of it, a line
 *   npm run trail -- --by worker | route   how many hops, how many refused, how long they took
 *
 *   --since   with --by: from then on (1h, 30m, 7d, or a time); else all that is kept
 *   --json    one line of JSON
 *
 * Reads the store that METADATA_STORE names. Exit status: 0 when there was something, 1 when there was nothing.
 */
import { parseArgs } from 'node:util'
import { readTrailPlan, TRAIL_FLAGS } from '../lib/hopQueries.ts'
import { formatSummaries, formatTrail, summariesToJson, trailToJson } from '../lib/hopQueriesDisplay.ts'
import { openHopStore } from '../lib/hopStore.ts'
import { runMain } from '../lib/service.ts'

const PURPOSE =
  'Tells the way of a request through the Command Center: npm run trail -- ORDER_ID | --by worker | --by route'

const args = process.argv.slice(2)
const { tokens } = parseArgs({ args, options: TRAIL_FLAGS, strict: false, tokens: true })
const words = new Map(
  tokens.flatMap((token) => (token.kind === 'positional' ? [[token.index, token.value]] : [])),
)

await runMain(
  'trail',
  PURPOSE,
  TRAIL_FLAGS,
  async ({ config, log, signal, onClose }, values) => {
    const plan = readTrailPlan([...words.values()], values, Date.now())
    // Whoever read what we print has gone: `| head` is no error.
    process.stdout.on('error', () => process.exit())
    const store = await openHopStore(config, log, signal)
    onClose(() => store.close())
    if (signal.aborted) return
    const { columns } = process.stdout
    if ('requestId' in plan) {
      const hops = await store.trail(plan.requestId)
      const text = plan.json ? toLine(trailToJson(plan.requestId, hops)) : formatTrail(hops, columns)
      await say(text, hops.length, `nothing is known of '${plan.requestId}'`, plan.json)
    } else {
      const summaries = await store.summary(plan.by, plan.sinceMs)
      const text = plan.json
        ? toLine(summariesToJson(summaries))
        : formatSummaries(summaries, plan.by, columns)
      await say(text, summaries.length, 'the log has no hops of that time', plan.json)
    }
  },
  args.filter((_, index) => !words.has(index)),
)

function toLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

/** Waits until it is out: the end of the process does not. */
async function say(text: string, found: number, nothing: string, isJson: boolean): Promise<void> {
  if (found === 0) {
    console.error(`trail: ${nothing}; rows are kept for a week, and written by metadataLog.ts`)
    process.exitCode = 1
  }
  if (found > 0 || isJson) await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()))
}
