/**
 * Reads what the pipeline writes, as any read-committed consumer can, and takes the time at which each record could be
 * read: a process of its own, started and asked by bench/latency.ts.
 *
 * An order's clock starts when it was due (`placedAt`). Orders that were due within the window count, and of these the
 * valid ones: a repetition carries the time of the order that it repeats.
 *
 *   --topics A,B   what to read
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { createKafka } from '../kafkaConfig.ts'
import type { OrderCompleted, OrderValidated } from '../lib/events.ts'
import { JUDGE_NAMES, JUDGES, type JudgeName } from '../lib/judges.ts'
import { runMain } from '../lib/service.ts'
import type { Question } from './askedProcess.ts'
import type { LatencyReport, LatencyWindow, Quantiles } from './latencyWindow.ts'

const FLAGS = { topics: { type: 'string' } } as const
const HIGHEST_MS = 600_000

interface Seen {
  validatedMs: number | undefined
  /** By judge, when its verdict could be read. */
  verdictMs: Partial<Record<JudgeName, number>>
}

await runMain('latency', 'Takes the time at which records can be read.', FLAGS, async (service, flags) => {
  const { config, log, signal, onClose } = service
  const judgeOf = new Map(JUDGE_NAMES.map((name) => [config.topics[`${name}Events`].name, name]))
  const { ordersValidated, ordersCompleted } = config.topics
  let window: LatencyWindow = { fromMs: 0, toMs: 0 }
  let histograms = new Map<string, RecordableHistogram>()
  let open = new Map<string, Seen>()

  process.on('message', (message: LatencyWindow | Question) => {
    if ('asked' in message) {
      process.send!(report(message.asked))
      return
    }
    window = message
    histograms = new Map()
    open = new Map()
  })

  const consumer = createKafka(config, 'latency', log).consumer({
    groupId: `latency-${process.pid}`,
    maxWaitTimeInMs: 100,
    sessionTimeout: config.kafka.sessionTimeoutMs,
  })
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    throw payload.error
  })
  await consumer.connect()
  onClose(() => consumer.disconnect())
  await consumer.subscribe({ topics: flags.topics!.split(','), fromBeginning: false })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { topic, messages } }) => {
      const nowMs = Date.now()
      for (const { value } of messages) take(topic, JSON.parse(value!.toString()), nowMs)
    },
  })
  await joined
  process.send!(report(0))
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))

  function take(topic: string, event: OrderValidated | OrderCompleted, nowMs: number): void {
    const judge = judgeOf.get(topic)
    if (judge !== undefined) takeVerdict(judge, event, nowMs)
    else if (topic === ordersValidated.name && isInWindow(event)) takeValidated(event, nowMs)
    else if (topic === ordersCompleted.name) takeDecided(event, nowMs)
  }

  function isInWindow({ placedAt }: { placedAt: string }): boolean {
    const placedMs = Date.parse(placedAt)
    return placedMs >= window.fromMs && placedMs < window.toMs
  }

  function takeValidated({ orderId, placedAt }: { orderId: string; placedAt: string }, nowMs: number): void {
    record('placed to validated', nowMs - Date.parse(placedAt))
    const seen = seenOf(orderId)
    seen.validatedMs = nowMs
    for (const [judge, verdictMs] of Object.entries(seen.verdictMs)) recordVerdict(judge, verdictMs, nowMs)
  }

  /** A topic may be read before another that it follows from: then the hop took no time that could be seen. */
  function takeVerdict(judge: JudgeName, event: { orderId: string }, nowMs: number): void {
    if (!JUDGES[judge].read(event as never)) return
    const seen = seenOf(event.orderId)
    seen.verdictMs[judge] = nowMs
    if (seen.validatedMs !== undefined) recordVerdict(judge, nowMs, seen.validatedMs)
  }

  function recordVerdict(judge: string, verdictMs: number, validatedMs: number): void {
    record(`validated to ${judge}`, verdictMs - validatedMs)
  }

  function takeDecided(decision: { orderId: string; placedAt: string }, nowMs: number): void {
    const { orderId, placedAt } = decision
    const verdicts = Object.values(open.get(orderId)?.verdictMs ?? {})
    open.delete(orderId)
    if (!isInWindow(decision)) return
    record('placed to decided', nowMs - Date.parse(placedAt))
    if (verdicts.length === JUDGE_NAMES.length)
      record('last verdict to decided', nowMs - Math.max(...verdicts))
  }

  function seenOf(orderId: string): Seen {
    let seen = open.get(orderId)
    if (!seen) {
      seen = { validatedMs: undefined, verdictMs: {} }
      open.set(orderId, seen)
    }
    return seen
  }

  function record(hop: string, ms: number): void {
    let histogram = histograms.get(hop)
    if (!histogram) {
      histogram = createHistogram({ lowest: 1, highest: HIGHEST_MS, figures: 3 })
      histograms.set(hop, histogram)
    }
    histogram.record(Math.min(Math.max(1, Math.round(ms)), HIGHEST_MS))
  }

  function report(asked: number): LatencyReport {
    return {
      asked,
      hops: Object.fromEntries([...histograms].map(([hop, histogram]) => [hop, quantiles(histogram)])),
    }
  }
})

function quantiles(histogram: RecordableHistogram): Quantiles {
  const at = (percentile: number) => histogram.percentile(percentile)
  return { count: histogram.count, p50: at(50), p99: at(99), p999: at(99.9), max: histogram.max }
}
