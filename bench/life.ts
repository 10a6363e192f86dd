/**
 * The whole life of orders under a steady load: every service once, Kafka, PostgreSQL and a gateway of 20 ms beside them.
 *
 *   npm run bench:life -- [--rate 1000] [--seconds 60] [--json]
 *
 * After a warm-up it lets the load go on for so many seconds and says: how many orders a second were decided and settled,
 * the most that was left to do at any moment, the time from `placedAt` to the decision's record in Kafka, and the CPU that
 * each process took. Exit status 1 when the pipeline did not keep up.
 */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createKafka } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import type { OrderCompleted } from '../lib/events.ts'
import { fetchPositions, workingGroups } from '../lib/groupLag.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { runMain } from '../lib/service.ts'
import { formatCount } from '../lib/text.ts'
import { readTopics } from '../lib/topicReader.ts'
import { TrialPipeline } from '../lib/trialPipeline.ts'

const FLAGS = {
  rate: { type: 'string' },
  seconds: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const
/** Until twelve processes have compiled what they run. */
const WARM_UP_MS = 90_000
const DRAIN_MS = 60_000
/** So much of a second's orders may wait at any moment. */
const MAX_LAG_SECONDS = 3
const SERVICES = [
  'validator',
  ...JUDGE_NAMES.map((name) => `${name}Service`),
  'fulfilmentService',
  'mailService',
  'analytics',
  'orderView',
]

interface Result {
  ratePerSecond: number
  seconds: number
  decidedPerSecond: number
  settledPerSecond: number
  maxLag: Record<string, number>
  placedToDecidedMs: { p50: number; p99: number; max: number }
  cpuShares: Record<string, number>
  memoryMiB: Record<string, number>
  keptUp: boolean
}

await runMain('bench', 'Measures the whole life of orders.', FLAGS, async ({ signal, log }, flags) => {
  const rate = readNumberFlag('rate', flags.rate ?? '1000', { min: 1, max: 100_000, isWhole: false })
  const seconds = readNumberFlag('seconds', flags.seconds ?? '60', { min: 5, max: 3_600, isWhole: true })
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
  const say = (line: string) => console.error(line)
  const pipeline = await TrialPipeline.start({
    dataDir,
    brokers: 1,
    ratePerSecond: rate,
    scriptOf: (name) => `${name}.ts`,
    settings: {
      ORDERS_PER_SECOND: String(rate),
      GATEWAY_LATENCY_MS: '20',
      OUTBOX_DIR: join(dataDir, 'outbox'),
    },
    say,
  })
  try {
    for (const name of SERVICES) pipeline.startMember(`${name}-1`)
    pipeline.startMember('producer-1')
    say(`warming up for ${WARM_UP_MS / 1_000} s`)
    await sleep(WARM_UP_MS, signal)
    const measured = await measure(pipeline, seconds)
    await pipeline.stopMember('producer-1')
    await drain(pipeline)
    const result = { ratePerSecond: rate, seconds, ...measured, ...(await readDecisions(pipeline, measured)) }
    print(result, flags.json === true)
    if (!result.keptUp) process.exitCode = 1
  } finally {
    await pipeline.stop()
    await rm(dataDir, { recursive: true, force: true })
  }

  type Measured = Awaited<ReturnType<typeof measure>>

  async function measure(trial: TrialPipeline, forSeconds: number) {
    const kafka = createKafka(trial.config, 'bench', log)
    const { ordersCompleted, ordersValidated, inventoryEvents } = trial.config.topics
    const groups = [
      ...workingGroups('', trial.config.topics),
      { group: 'analytics', topics: [ordersValidated.name] },
      { group: 'order-view', topics: [ordersValidated.name, inventoryEvents.name, ordersCompleted.name] },
      { group: 'mail', topics: [ordersCompleted.name] },
    ]
    const before = sampleProcesses(trial)
    const fromMs = Date.now()
    const maxLag: Record<string, number> = {}
    while (Date.now() < fromMs + forSeconds * 1_000 && !signal.aborted) {
      await sleep(2_000, signal)
      const now: Record<string, number> = {}
      for (const { group, topic, end, committed } of await fetchPositions(kafka, groups)) {
        const key = `${group} ${topic}`
        now[key] = (now[key] ?? 0) + end - committed
      }
      for (const [key, lag] of Object.entries(now)) maxLag[key] = Math.max(maxLag[key] ?? 0, lag)
      const sum = Object.values(now).reduce((total, lag) => total + lag, 0)
      say(`${Math.round((Date.now() - fromMs) / 1_000)} s  to do ${formatCount(sum)}`)
    }
    const toMs = Date.now()
    const after = sampleProcesses(trial)
    const cpuShares: Record<string, number> = {}
    const memoryMiB: Record<string, number> = {}
    for (const [name, { cpuMs, residentMiB }] of Object.entries(after)) {
      cpuShares[name] = Number(((cpuMs - (before[name]?.cpuMs ?? 0)) / (toMs - fromMs)).toFixed(3))
      memoryMiB[name] = residentMiB
    }
    const allowed = rate * MAX_LAG_SECONDS
    const keptUp = Object.values(maxLag).every((lag) => lag <= allowed)
    return { fromMs, toMs, maxLag, cpuShares, memoryMiB, keptUp }
  }

  async function drain(trial: TrialPipeline): Promise<void> {
    const kafka = createKafka(trial.config, 'bench', log)
    const startedMs = Date.now()
    for (;;) {
      const positions = await fetchPositions(kafka, workingGroups('', trial.config.topics))
      const lag = positions.reduce((sum, { end, committed }) => sum + end - committed, 0)
      if (lag === 0) break
      if (Date.now() > startedMs + DRAIN_MS)
        throw new Error(`${lag} records are left after ${DRAIN_MS / 1_000} s`)
      await sleep(500, signal)
    }
    say(`drained in ${((Date.now() - startedMs) / 1_000).toFixed(1)} s`)
  }

  /** By the records' own timestamps: when the decision was sent to Kafka, and when the order was placed. */
  async function readDecisions(trial: TrialPipeline, { fromMs, toMs }: Measured) {
    const { ordersCompleted, paymentEvents } = trial.config.topics
    const delaysMs: number[] = []
    let decided = 0
    let settled = 0
    await readTopics({
      kafka: createKafka(trial.config, 'bench-reader', log),
      topics: [ordersCompleted.name, paymentEvents.name],
      from: { timestampMs: fromMs },
      until: 'end',
      log,
      onRecords(topic, _partition, records) {
        for (const { value, timestampMs } of records) {
          if (timestampMs < fromMs || timestampMs >= toMs) continue
          const event = JSON.parse(value!.toString()) as OrderCompleted | { type: string }
          if (topic === ordersCompleted.name) {
            decided++
            delaysMs.push(timestampMs - Date.parse((event as OrderCompleted).placedAt))
          } else if (event.type === 'PaymentCaptured' || event.type === 'PaymentVoided') {
            settled++
          }
        }
      },
    })
    delaysMs.sort((a, b) => a - b)
    const quantile = (share: number) =>
      delaysMs[Math.min(delaysMs.length - 1, Math.floor(delaysMs.length * share))] ?? 0
    const forSeconds = (toMs - fromMs) / 1_000
    return {
      decidedPerSecond: Math.round(decided / forSeconds),
      settledPerSecond: Math.round(settled / forSeconds),
      placedToDecidedMs: { p50: quantile(0.5), p99: quantile(0.99), max: delaysMs.at(-1) ?? 0 },
    }
  }
})

/** CPU so far and memory of every process of the trial, by its name; those of PostgreSQL's backends together. */
function sampleProcesses(pipeline: TrialPipeline): Record<string, { cpuMs: number; residentMiB: number }> {
  const samples: Record<string, { cpuMs: number; residentMiB: number }> = {}
  for (const [name, pid] of Object.entries(pipeline.pids)) {
    const sample = { cpuMs: 0, residentMiB: 0 }
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
    for (const each of [pid, ...(name === 'postgres' ? children : [])]) {
      const fields = readFileSync(`/proc/${each}/stat`, 'utf8').split(') ')[1]!.split(' ')
      // utime and stime, and of children that were waited for; in hundredths of a second. Resident in pages of 4 KiB.
      sample.cpuMs += 10 * [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0)
      sample.residentMiB += Math.round((Number(fields[21]) * 4_096) / 2 ** 20)
    }
    samples[name] = sample
  }
  return samples
}

function print(result: Result, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(result))
    return
  }
  const { placedToDecidedMs: delay, cpuShares, memoryMiB, maxLag } = result
  console.log(
    `${result.ratePerSecond} orders/s for ${result.seconds} s: ${result.decidedPerSecond}/s decided, ` +
      `${result.settledPerSecond}/s settled, ${result.keptUp ? 'kept up' : 'DID NOT KEEP UP'}`,
  )
  console.log(`placed to decided: p50 ${delay.p50} ms, p99 ${delay.p99} ms, max ${delay.max} ms`)
  const cores = Object.values(cpuShares).reduce((sum, share) => sum + share, 0)
  console.log(`CPU: ${cores.toFixed(2)} cores`)
  for (const [name, share] of Object.entries(cpuShares).sort(([, a], [, b]) => b - a)) {
    console.log(`  ${name.padEnd(20)} ${share.toFixed(2)} cores  ${memoryMiB[name]} MiB`)
  }
  const most = Object.entries(maxLag).sort(([, a], [, b]) => b - a)
  for (const [name, lag] of most.slice(0, 5)) console.log(`  at most to do: ${name} ${formatCount(lag)}`)
}
