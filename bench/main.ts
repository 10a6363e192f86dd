/**
 * npm run bench: side by side with what people would use instead, in one session, as ratios with their spread.
 *
 * Brings up brokers and databases of its own and takes all processors for minutes: let nothing else run meanwhile. Tables go to
 * standard output, the figures of every run to a file. Exit status 1 when a target is missed.
 *
 *   (no flag)      stage, pipeline and latency, under 12 minutes
 *   --quick        fewer peers and rates, smaller numbers, under 3 minutes: for a look, its ratios scatter
 *   --case NAME    only this one; may be given several times
 *   --growth       backlogs from 10 thousand to 5 million orders
 *   --soak         half an hour at 70 % of the sustained rate
 *   --rounds N     how often the pairs of a target are measured; 5, or 2 with --quick
 *   --orders N     the backlog of stage; 1,000,000, or 150,000 with --quick
 *   --json FILE    where the figures go; .data/bench/<time>.json
 *   --markdown     the tables as Markdown, for docs/BENCHMARKS.md
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigurationError, describe } from '../lib/errors.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { runMain } from '../lib/service.ts'
import type { BenchContext, CaseResult } from './context.ts'
import { runGrowthCase } from './growth.ts'
import { runLatencyCase } from './latency.ts'
import { runPipelineCase } from './pipeline.ts'
import { ProgressLine } from './progressLine.ts'
import { describeMachine, toMarkdown, toText } from './report.ts'
import { runSoakCase } from './soak.ts'
import { runStageCase } from './stage.ts'

const FLAGS = {
  quick: { type: 'boolean' },
  case: { type: 'string', multiple: true },
  growth: { type: 'boolean' },
  soak: { type: 'boolean' },
  rounds: { type: 'string' },
  orders: { type: 'string' },
  json: { type: 'string' },
  markdown: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

const CASES: Readonly<Record<string, (context: BenchContext) => Promise<CaseResult>>> = {
  stage: runStageCase,
  pipeline: runPipelineCase,
  latency: runLatencyCase,
  growth: runGrowthCase,
  soak: runSoakCase,
}
const USUAL = ['stage', 'pipeline', 'latency']
const RESULTS = fileURLToPath(new URL('../.data/bench', import.meta.url))

interface Flags {
  case?: string[] | undefined
  growth?: boolean | undefined
  soak?: boolean | undefined
}

/** @throws ConfigurationError for a case that there is not */
function chooseCases({ case: named = [], growth, soak }: Flags): string[] {
  const unknown = named.filter((name) => !(name in CASES))
  if (unknown.length > 0) {
    throw new ConfigurationError(
      `--case ${unknown.join(', ')} is not usable: it takes ${Object.keys(CASES).join(', ')}`,
    )
  }
  const chosen = new Set([...named, ...(growth ? ['growth'] : []), ...(soak ? ['soak'] : [])])
  return chosen.size > 0 ? [...chosen] : USUAL
}

/** A case that came to no end misses a target, with what it said. */
function toFailure(name: string, error: unknown): CaseResult {
  const failure = describe(error)
  // What its processes said last may follow.
  const got = failure.split('\n')[0]!
  const target = { what: `the case ${name}`, wanted: 'measured', got, isMet: false }
  return { name, tables: [], targets: [target], raw: { failure } }
}

await runMain(
  'bench',
  'Measures side by side with what people would use instead.',
  FLAGS,
  async ({ signal }, flags) => {
    const names = chooseCases(flags)
    const isQuick = flags.quick === true
    const rounds = readNumberFlag('rounds', flags.rounds ?? (isQuick ? '2' : '5'), {
      min: 1,
      max: 100,
      isWhole: true,
    })
    const orders =
      flags.orders === undefined
        ? undefined
        : readNumberFlag('orders', flags.orders, { min: 1_000, max: 100_000_000, isWhole: true })
    const machine = await describeMachine()
    const line = new ProgressLine(process.stderr)
    const startedMs = performance.now()
    const results: CaseResult[] = []
    const file = flags.json ?? join(RESULTS, `${machine.at.replaceAll(':', '-').slice(0, 19)}.json`)
    await mkdir(dirname(file), { recursive: true })
    const secondsSoFar = () => Math.round((performance.now() - startedMs) / 1_000)
    for (const name of names) {
      if (signal.aborted) return
      const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
      const minutes = ((performance.now() - startedMs) / 60_000).toFixed(1)
      line.say(`${name} (${results.length + 1} of ${names.length}, ${minutes} min so far)`)
      try {
        const say = (text: string) => line.say(text)
        const progress = (text: string) => line.progress(`${name}: ${text}`)
        results.push(await CASES[name]!({ say, progress, isQuick, rounds, orders, signal, dataDir }))
      } catch (error) {
        if (signal.aborted) throw error
        line.say(`${name} failed: ${describe(error)}`)
        results.push(toFailure(name, error))
      } finally {
        line.clear()
        await rm(dataDir, { recursive: true, force: true })
      }
      // After each case: what was measured stays, whatever becomes of the next.
      const figures = { machine, isQuick, rounds, seconds: secondsSoFar(), results }
      await writeFile(file, `${JSON.stringify(figures, undefined, 1)}\n`)
    }
    process.stdout.write(flags.markdown ? toMarkdown(machine, results) : toText(machine, results))
    line.say(`took ${(secondsSoFar() / 60).toFixed(1)} min; the figures of every run: ${file}`)
    if (results.some(({ targets }) => targets.some(({ isMet }) => !isMet))) process.exitCode = 1
  },
)
