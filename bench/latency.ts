/**
 * Latency under an open load: orders are due at fixed times whatever becomes of those before, and an order's clock starts
 * when it was due (no coordinated omission). What ends it is that a read-committed consumer, in a process of its own, has
 * the record in hand. Exactly-once is on, and the gateway takes 20 ms.
 *
 * Two pipelines in turn: the validator alone (one hop), and all services.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../lib/async.ts'
import type { TopicTable } from '../lib/topics.ts'
import { judgeTopics } from '../lib/topics.ts'
import type { BenchContext, BenchTable, BenchTarget, CaseResult } from './context.ts'
import { type LatencyReader, type Quantiles, startLatencyReader } from './latencyWindow.ts'
import { type Step, takeStep } from './rateStep.ts'
import { drain, SERVICES, startTrial, type Trial, warmUp } from './trial.ts'

interface Subject {
  name: string
  services: readonly string[]
  /** The groups whose lag says whether a rate is sustained; all, unless told otherwise. */
  groups?: readonly string[]
  topics(table: TopicTable): { name: string }[]
  warmUpRate: number
  rates: readonly number[]
  target: { rate: number; hop: string; belowMs: number }
}

const ONE_HOP: Subject = {
  name: 'one hop',
  services: ['validator'],
  groups: ['validator'],
  topics: ({ ordersValidated }) => [ordersValidated],
  warmUpRate: 1_000,
  rates: [100, 1_000, 5_000],
  target: { rate: 1_000, hop: 'placed to validated', belowMs: 100 },
}
const WHOLE: Subject = {
  name: 'whole pipeline',
  services: SERVICES,
  topics: (table) => [table.ordersValidated, ...judgeTopics(table), table.ordersCompleted],
  warmUpRate: 150,
  rates: [100, 500, 1_000],
  target: { rate: 500, hop: 'placed to decided', belowMs: 600 },
}
const TICK_MS = 5
const DRAIN_MS = 180_000
/** At a rate before its window. */
const SETTLE_SECONDS = 3
const WINDOW_SECONDS = { usual: 12, quick: 5 }
const WARM_UP_SECONDS = { usual: 20, quick: 6 }

interface RateFigures {
  subject: string
  step: Step
  hops: Record<string, Quantiles>
  /** Orders due in the window that are to become valid. */
  expected: number
}

/** Those that never arrived would be the slowest; and how many of the orders are bad is drawn. */
const MAX_MISSING = 0.01

export async function runLatencyCase(context: BenchContext): Promise<CaseResult> {
  const subjects = [ONE_HOP, WHOLE]
  const figures: RateFigures[] = []
  for (const subject of subjects) figures.push(...(await measure(context, subject)))
  return {
    name: 'latency',
    tables: subjects.map(({ name }) =>
      toTable(
        name,
        figures.filter(({ subject }) => subject === name),
      ),
    ),
    targets: subjects.map((subject) => toTarget(subject, figures)),
    raw: figures,
  }
}

async function measure(context: BenchContext, subject: Subject): Promise<RateFigures[]> {
  const { say, signal, isQuick } = context
  const { name, services, groups, warmUpRate, rates } = subject
  const pace = isQuick ? 'quick' : 'usual'
  const dataDir = join(context.dataDir, name.replaceAll(' ', '-'))
  await mkdir(dataDir, { recursive: true })
  const trial = await startTrial({
    ...{ context, dataDir, services, scriptOf: (script) => `${script}.ts`, tickMs: TICK_MS },
    ...(groups && { groups }),
  })
  let reader: LatencyReader | undefined
  try {
    const { environment: env, config } = trial.pipeline
    const topics = subject.topics(config.topics).map((topic) => topic.name)
    reader = await startLatencyReader({ env, topics, print: say })
    await warmUp(trial, { name, ratePerSecond: warmUpRate, seconds: WARM_UP_SECONDS[pace] }, context)
    const figures: RateFigures[] = []
    // A quick look is one at the rate of the target alone.
    for (const rate of isQuick ? [subject.target.rate] : rates) {
      const windowSeconds = WINDOW_SECONDS[pace]
      const result = await takeRate(trial, reader, rate, { windowSeconds, signal })
      const expected = rate * windowSeconds * (1 - config.orders.badRatio)
      figures.push({ subject: name, ...result, expected })
      say(
        `${name} at ${rate}/s: ${formatHop(result.hops[subject.target.hop])}, ${result.step.reason || 'sustained'}`,
      )
      // The higher ones only take longer to be worked off.
      if (!result.step.isSustained) break
    }
    return figures
  } finally {
    await reader?.stop()
    await trial.stop()
  }
}

async function takeRate(
  trial: Trial,
  reader: LatencyReader,
  ratePerSecond: number,
  { windowSeconds, signal }: { windowSeconds: number; signal: AbortSignal },
): Promise<{ step: Step; hops: Record<string, Quantiles> }> {
  const fromMs = Date.now() + SETTLE_SECONDS * 1_000
  reader.tell({ fromMs, toMs: fromMs + windowSeconds * 1_000 })
  const step = await takeStep({ trial, ratePerSecond, settleSeconds: SETTLE_SECONDS, windowSeconds, signal })
  // The last of them are due while the step comes to its end, and have to arrive.
  await sleep(1_000, signal)
  await drain(trial, DRAIN_MS, signal)
  return { step, hops: (await reader.ask()).hops }
}

function toTable(name: string, figures: readonly RateFigures[]): BenchTable {
  return {
    title: `Latency, ${name}, in milliseconds from when an order was due`,
    header: ['orders/s', 'hop', 'orders', 'p50', 'p99', 'p99.9', 'max', 'sustained'],
    rows: figures.flatMap(({ step, hops }) =>
      Object.entries(hops).map(([hop, { count, p50, p99, p999, max }]) => [
        String(step.ratePerSecond),
        hop,
        ...[count, p50, p99, p999, max].map(String),
        step.isSustained ? 'yes' : 'no',
      ]),
    ),
    notes: [
      'An order is due by the schedule, and its clock starts then, also when the load could not place it in time.',
      'It ends when a read-committed consumer has the record. A hop between two records is the time between their arrivals there.',
      ...figures
        .filter(({ step }) => !step.isSustained)
        .map(({ step }) => `${step.ratePerSecond}/s: ${step.reason}.`),
    ],
  }
}

function toTarget({ name, target }: Subject, figures: readonly RateFigures[]): BenchTarget {
  const { rate, hop, belowMs } = target
  const found = figures.find(({ subject, step }) => subject === name && step.ratePerSecond === rate)
  const what = `${name} at ${rate} orders/s, ${hop}, p99`
  const wanted = `under ${belowMs} ms, sustained, all counted`
  if (!found) return { what, wanted, got: 'not reached: a lower rate was not sustained', isMet: false }
  const { count = 0, p99 = Number.POSITIVE_INFINITY } = found.hops[hop] ?? {}
  const { isSustained } = found.step
  const isComplete = Math.abs(count - found.expected) <= MAX_MISSING * found.expected
  const got = [
    count === 0 ? 'nothing arrived' : `${p99} ms`,
    ...(isSustained ? [] : ['not sustained']),
    ...(isComplete ? [] : [`${count} orders counted of about ${Math.round(found.expected)}`]),
  ]
  return { what, wanted, got: got.join(', '), isMet: p99 < belowMs && isSustained && isComplete }
}

function formatHop(hop: Quantiles | undefined): string {
  return hop ? `p50 ${hop.p50} ms, p99 ${hop.p99} ms, max ${hop.max} ms` : 'nothing arrived'
}
