/**
 * npm run bench:overhead: what it costs to be watched. A simulator, the validator, all judges and analytics run at a rate,
 * with a broker and a database of their own; in turns they are left alone, scraped as Prometheus does it, and looked at by
 * a client of the dashboard's events, and each turn is held against the one of its round in which they were left alone.
 *
 *   --rate N       orders/s, 1,000 by default
 *   --rounds N     6 by default
 *   --seconds N    of each turn, 20 by default
 *   --browser      a turn with the page itself in a real Chromium (CHROME_PATH, or that among the packages), whose own
 *                  CPU is told apart
 *   --quick        2 rounds of 6 s, to see that it runs; says nothing of what it costs
 *   --json         one JSON object on standard output
 *
 * Counted is CPU for each record worked on, of everything: services, simulator, broker, database. So it is right also where
 * the machine does not keep up with the rate. What counting itself costs cannot be turned off, and is measured by itself:
 * an upper bound for each record, and what Node's own figures take of an idle process.
 * Status 1 when the median of the turns is above its bound. Linux alone, whose /proc it reads.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium as playwright } from 'playwright-core'
import { Registry } from 'prom-client'
import { startKafka } from '../infra/kafka.ts'
import { freePort } from '../infra/ports.ts'
import { startPostgres } from '../infra/postgres.ts'
import { ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { sleep } from '../lib/async.ts'
import { startScript, stopScript } from '../lib/childProcesses.ts'
import { ConfigurationError } from '../lib/errors.ts'
import { readInstances } from '../lib/instances.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { addProcessMetrics } from '../lib/metrics.ts'
import { readNumberFlag } from '../lib/numberFlag.ts'
import { ProcessorCounters } from '../lib/processorCounters.ts'
import { cpuSecondsOf, descendantsOf, hasProcessTimes, readProcesses } from '../lib/processTree.ts'
import type { RawRecord } from '../lib/record.ts'
import { runMain } from '../lib/service.ts'
import { formatCount } from '../lib/text.ts'

const FLAGS = {
  rate: { type: 'string' },
  rounds: { type: 'string' },
  seconds: { type: 'string' },
  browser: { type: 'boolean' },
  quick: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const
const SERVICES = ['paymentGateway', 'validator', ...JUDGE_NAMES.map((name) => `${name}Service`), 'analytics']
const SCRAPE_MS = 5_000
/** Until nothing of the turn before is under way. */
const SETTLE_MS = 2_000
const IDLE_LOOKS = 4
const SCRAPES = 20
const START_DEADLINE_MS = 90_000
/** Of the CPU of a run, in percent. */
const BOUNDS = { scraped: 3, page: 5, browser: 5 }

type Turn = 'alone' | keyof typeof BOUNDS

interface Bench {
  /** Of the pipeline, broker and database included. */
  roots: number[]
  instancesDir: string
  dashboardUrl: string
}

interface Measurement {
  turn: Turn
  cpuMicrosecondsPerRecord: number
  recordsPerSecond: number
  /** In processors that are busy. */
  cores: number
  /** Of the browser. */
  browserCores: number
}

const say = (line: string) => console.error(line)

await runMain('bench', 'Measures what it costs to be watched.', FLAGS, async (_, flags) => {
  if (!hasProcessTimes()) throw new ConfigurationError('this bench reads /proc, which only Linux has')
  const whole = (name: 'rate' | 'rounds' | 'seconds', fallback: number, max: number) =>
    readNumberFlag(name, flags[name] ?? String(fallback), { min: 1, max, isWhole: true })
  const rate = whole('rate', 1_000, 100_000)
  const rounds = whole('rounds', flags.quick ? 2 : 6, 100)
  const seconds = whole('seconds', flags.quick ? 6 : 20, 600)
  const turns: Turn[] = ['alone', 'scraped', 'page', ...(flags.browser ? (['browser'] as const) : [])]
  const counting = await measureCounting(flags.quick ? 500 : 2_000)
  const dataDir = await mkdtemp(join(tmpdir(), 'order-pipeline-bench-'))
  const closers: (() => Promise<unknown>)[] = [() => rm(dataDir, { recursive: true, force: true })]
  try {
    const bench = await startPipeline(dataDir, rate, closers)
    say('warming up ...')
    await sleep(flags.quick ? 5_000 : 30_000)
    const measured: Measurement[][] = []
    for (let round = 0; round < rounds; round++) {
      const order = turns.map((_, place) => turns[(place + round) % turns.length]!)
      const results: Measurement[] = []
      for (const turn of order) results.push(await takeTurn(bench, turn, seconds))
      measured.push(results)
      say(`round ${round + 1} of ${rounds}: ${results.map(formatMeasurement).join(', ')}`)
    }
    const scrapeMs = await measureScrape(bench)
    const result = summarise(measured, { ...counting, scrapeMs }, { rate, seconds })
    if (flags.json) console.log(JSON.stringify(result))
    else report(result)
    if (result.overheads.some(({ medianPercent, boundPercent }) => medianPercent > boundPercent)) {
      process.exitCode = 1
    }
  } finally {
    for (const close of closers.reverse()) await close()
  }
})

async function startPipeline(
  dataDir: string,
  rate: number,
  closers: (() => Promise<unknown>)[],
): Promise<Bench> {
  const [kafkaPort, postgresPort] = [await freePort(), await freePort()]
  const [gatewayPort, dashboardPort] = [await freePort(), await freePort()]
  const kafka = await startKafka({ dataDir, port: kafkaPort, onProgress: say })
  closers.push(() => kafka.stop())
  const postgres = await startPostgres({ dataDir, port: postgresPort, onProgress: say })
  closers.push(() => postgres.stop())
  const instancesDir = join(dataDir, 'instances')
  const settings = {
    KAFKA_BROKERS: `127.0.0.1:${kafkaPort}`,
    DATABASE_URL: postgres.url,
    HEALTH_PORT: '0',
    INSTANCES_DIR: instancesDir,
    GATEWAY_PORT: String(gatewayPort),
    GATEWAY_URL: `http://127.0.0.1:${gatewayPort}`,
    DASHBOARD_PORT: String(dashboardPort),
    LOG_LEVEL: 'warn',
    // The settings of whoever runs this must not matter.
    ENV_FILE: join(dataDir, 'no.env'),
  }
  await ensureTopics(parseConfig(settings), () => undefined)
  const start = (script: string, args: string[] = []) => {
    const env = { ...process.env, ...settings }
    const child = startScript({ script, args, env, print: say, onOutput: () => undefined })
    closers.push(() => stopScript(child))
    return child.pid!
  }
  const pids = SERVICES.map((name) => start(`${name}.ts`))
  pids.push(start('producer.ts', ['--rate', String(rate)]))
  const bench = {
    roots: [kafka.pid, postgres.pid, ...pids],
    instancesDir,
    dashboardUrl: `http://127.0.0.1:${dashboardPort}`,
  }
  const endMs = performance.now() + START_DEADLINE_MS
  while ((await readWork(bench)).atWork < JUDGE_NAMES.length + 2) {
    if (performance.now() > endMs) throw new Error('not all services have begun to work in time')
    await sleep(500)
  }
  return bench
}

/** Records that all services together have worked on, and how many services have worked on any. */
async function readWork({ instancesDir }: Bench): Promise<{ records: number; atWork: number }> {
  const done = await Promise.all(
    readInstances(instancesDir).map(async ({ url }) => {
      const health = (await fetch(`${url}/health`).then((response) => response.json())) as { in?: number }
      return health.in ?? 0
    }),
  )
  return {
    records: done.reduce((sum, records) => sum + records, 0),
    atWork: done.filter((records) => records > 0).length,
  }
}

async function takeTurn(bench: Bench, turn: Turn, seconds: number): Promise<Measurement> {
  const watcher = await startWatching(bench, turn)
  await sleep(SETTLE_MS)
  const before = await takeStock(bench)
  await sleep(seconds * 1_000)
  const after = await takeStock(bench)
  await watcher.stop()
  const elapsedSeconds = (after.atMs - before.atMs) / 1_000
  const records = after.records - before.records
  const cpuSeconds = after.cpuSeconds - before.cpuSeconds
  return {
    turn,
    cpuMicrosecondsPerRecord: (cpuSeconds / records) * 1e6,
    recordsPerSecond: records / elapsedSeconds,
    cores: cpuSeconds / elapsedSeconds,
    browserCores: (after.browserSeconds - before.browserSeconds) / elapsedSeconds,
  }
}

async function takeStock(bench: Bench) {
  const { records } = await readWork(bench)
  const processes = readProcesses()
  const pipeline = descendantsOf(bench.roots, processes)
  const others = [...descendantsOf([process.pid], processes)].filter(
    (pid) => pid !== process.pid && !pipeline.has(pid),
  )
  return {
    records,
    atMs: performance.now(),
    cpuSeconds: cpuSecondsOf(pipeline, processes),
    browserSeconds: cpuSecondsOf(others, processes),
  }
}

interface Watcher {
  stop(): Promise<void>
}

async function startWatching(bench: Bench, turn: Turn): Promise<Watcher> {
  switch (turn) {
    case 'alone':
      return { stop: async () => undefined }
    case 'scraped':
      return startScraping(bench)
    case 'page':
      return readEvents(`${bench.dashboardUrl}/events`)
    case 'browser':
      return openPage(bench.dashboardUrl)
  }
}

/** All targets every five seconds, as deploy/ has it for Prometheus. */
function startScraping({ instancesDir }: Bench): Watcher {
  const scrape = async () => {
    await Promise.all(
      readInstances(instancesDir).map(({ url }) =>
        fetch(`${url}/metrics`).then((response) => response.arrayBuffer()),
      ),
    )
  }
  let scraping = scrape()
  const timer = setInterval(() => {
    scraping = scraping.then(scrape)
  }, SCRAPE_MS)
  return {
    async stop() {
      clearInterval(timer)
      await scraping
    },
  }
}

/** How long it takes to ask all targets once, one after the other, while the others work: the least of some tries each. */
async function measureScrape({ instancesDir }: Bench): Promise<number> {
  let sum = 0
  for (const { url } of readInstances(instancesDir)) {
    let least = Number.POSITIVE_INFINITY
    for (let attempt = 0; attempt < SCRAPES; attempt++) {
      const startedMs = performance.now()
      await fetch(`${url}/metrics`).then((response) => response.arrayBuffer())
      least = Math.min(least, performance.now() - startedMs)
    }
    sum += least
  }
  return sum
}

/** What the page reads, and no more. */
async function readEvents(url: string): Promise<Watcher> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, resolve).on('error', reject)
  })
  if (response.statusCode !== 200) throw new Error(`${url} answers ${response.statusCode}`)
  // Ours to end: what that does to it is of no interest.
  response.on('error', () => undefined)
  response.resume()
  return {
    async stop() {
      response.destroy()
    },
  }
}

async function openPage(url: string): Promise<Watcher> {
  const { default: packaged } = await import('@sparticuz/chromium')
  const executablePath = process.env.CHROME_PATH ?? (await packaged.executablePath())
  if (!existsSync(executablePath)) throw new ConfigurationError(`there is no browser at ${executablePath}`)
  const browser = await playwright.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
  const page = await browser.newPage({ locale: 'en-GB' })
  const errors: Error[] = []
  page.on('pageerror', (error) => errors.push(error))
  await page.goto(url)
  return {
    async stop() {
      await browser.close()
      // A page that has given up costs nothing.
      if (errors.length > 0) throw errors[0]
    },
  }
}

interface Counting {
  /** Of all that is counted of a record, also what was before there were metrics. */
  microsecondsPerRecord: number
  /** Of an idle process with Node's own figures, in percent of a core, beyond one without. */
  idlePercent: number
}

/** What of it can be measured by itself. */
interface Parts extends Counting {
  /** Of all targets once, from asked to answered. */
  scrapeMs: number
}

async function measureCounting(idleMs: number): Promise<Counting> {
  say('measuring what counting takes ...')
  const counters = new ProcessorCounters(() => undefined)
  const nowMs = Date.now()
  const topics = ['orders.validated', 'inventory.events', 'orders.completed']
  const records = topics.map((topic): RawRecord => {
    const position = { topic, partition: 0, offset: 1, readOffset: 1, source: `${topic}/0/1` }
    const times = { timestampMs: nowMs - 50, readTimestampMs: nowMs - 50 }
    return { ...position, ...times, isDone: false, key: null, value: null, headers: {} }
  })
  const outcome = [{ topic: 'payment.events', key: 'ord-1', value: '', note: '' }]
  const placedAt = new Date(nowMs - 200).toISOString()
  const count = (times: number) => {
    for (let index = 0; index < times; index++) {
      counters.done(
        topics[index % records.length]!,
        records[index % records.length]!,
        outcome,
        nowMs,
        Date.parse(placedAt),
      )
    }
  }
  count(100_000)
  const times = 1_000_000
  const startedMs = performance.now()
  count(times)
  const microsecondsPerRecord = ((performance.now() - startedMs) * 1_000) / times
  const without = await idleShare(idleMs)
  addProcessMetrics(new Registry())
  return { microsecondsPerRecord, idlePercent: Math.max(0, (await idleShare(idleMs)) - without) * 100 }
}

/** How much of a core this process takes while it does nothing: the least of some looks, the others were disturbed. */
async function idleShare(ms: number): Promise<number> {
  const shares: number[] = []
  while (shares.length < IDLE_LOOKS) {
    const before = process.cpuUsage()
    await sleep(ms)
    const { user, system } = process.cpuUsage(before)
    shares.push((user + system) / 1_000 / ms)
  }
  return Math.min(...shares)
}

interface Overhead {
  turn: keyof typeof BOUNDS
  medianPercent: number
  leastPercent: number
  mostPercent: number
  boundPercent: number
}

interface Result {
  rate: number
  seconds: number
  recordsPerSecond: number
  cores: number
  cpuMicrosecondsPerRecord: number
  browserCores: number
  /** Of all that the pipeline uses. */
  countingPercent: number
  idlePercent: number
  /** At most: from asked to answered. */
  scrapingPercent: number
  overheads: Overhead[]
  machine: { cores: number; node: string }
}

function summarise(
  rounds: readonly Measurement[][],
  parts: Parts,
  { rate, seconds }: { rate: number; seconds: number },
): Result {
  const of = (turn: Turn) => rounds.flat().filter((each) => each.turn === turn)
  const alone = of('alone')
  const cpuMicrosecondsPerRecord = median(alone.map((each) => each.cpuMicrosecondsPerRecord))
  const cores = median(alone.map((each) => each.cores))
  const countingPercent = (parts.microsecondsPerRecord / cpuMicrosecondsPerRecord) * 100
  const idlePercent = (parts.idlePercent * (SERVICES.length + 1)) / cores
  const scrapingPercent = ((parts.scrapeMs / SCRAPE_MS) * 100) / cores
  const watched = (Object.keys(BOUNDS) as (keyof typeof BOUNDS)[]).filter((turn) => of(turn).length > 0)
  const overheads = watched.map((turn) => {
    const percents = rounds.map((round) => {
      const costOf = (wanted: Turn) => round.find((each) => each.turn === wanted)!.cpuMicrosecondsPerRecord
      return (costOf(turn) / costOf('alone') - 1) * 100
    })
    // Whoever is scraped has counted, too.
    const always = turn === 'scraped' ? countingPercent + idlePercent : 0
    return {
      turn,
      medianPercent: median(percents) + always,
      leastPercent: Math.min(...percents) + always,
      mostPercent: Math.max(...percents) + always,
      boundPercent: BOUNDS[turn],
    }
  })
  return {
    ...{
      rate,
      seconds,
      cores,
      cpuMicrosecondsPerRecord,
      countingPercent,
      idlePercent,
      scrapingPercent,
      overheads,
    },
    recordsPerSecond: median(alone.map((each) => each.recordsPerSecond)),
    browserCores: median(of('browser').map((each) => each.browserCores)),
    machine: { cores: cpus().length, node: process.version },
  }
}

/** 0 of none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  if (sorted.length === 0) return 0
  const upper = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[upper]! : (sorted[upper - 1]! + sorted[upper]!) / 2
}

function formatMeasurement({ turn, cpuMicrosecondsPerRecord, recordsPerSecond, cores }: Measurement): string {
  const records = formatCount(Math.round(recordsPerSecond))
  return `${turn} ${cpuMicrosecondsPerRecord.toFixed(1)} µs (${records} records/s, ${cores.toFixed(2)} cores)`
}

function report(result: Result): void {
  const percent = (value: number) => `${value < 0 ? '' : '+'}${value.toFixed(1)} %`
  console.log(
    `alone: ${result.cpuMicrosecondsPerRecord.toFixed(1)} µs of CPU for each record, ` +
      `${formatCount(Math.round(result.recordsPerSecond))} records/s of ${formatCount(result.rate)} orders/s, ` +
      `${result.cores.toFixed(2)} of ${result.machine.cores} cores, Node ${result.machine.node}`,
  )
  for (const { turn, medianPercent, leastPercent, mostPercent, boundPercent } of result.overheads) {
    const spread = `${percent(leastPercent)} to ${percent(mostPercent)}`
    const verdict = medianPercent <= boundPercent ? 'under' : 'ABOVE'
    console.log(
      `${turn.padEnd(8)} ${percent(medianPercent)} of CPU (${spread}), ${verdict} ${boundPercent} %`,
    )
  }
  console.log(
    `parts of scraped, each measured by itself: counting ${percent(result.countingPercent)} at most, ` +
      `Node's own figures ${percent(result.idlePercent)} (both are there at all times, and added to the above), ` +
      `answering ${percent(result.scrapingPercent)} at most`,
  )
  if (result.browserCores > 0) console.log(`the browser itself: ${result.browserCores.toFixed(2)} cores`)
}
