/**
 * Places orders: the source of everything that happens in the pipeline.
 *
 * Writes `orders.raw` (OrderPlaced, keyed by order id), and before the first order registers the products, stock
 * and customers that it draws from: in PostgreSQL, and the products on `products` as well.
 *
 * Simulates by default: seeded, few products and customers make up most of the orders, and a share of them
 * (BAD_ORDER_RATIO) is faulty or malformed on purpose. The rate is held against the clock whatever Kafka does;
 * a change of ORDERS_PER_SECOND in `.env` takes effect while this runs. With --file it replays an order history.
 * Waits for Kafka and PostgreSQL as long as it takes. Every order is sent at least once.
 *
 *   --seed N     the same orders again, but for their ids and times
 *   --rate R     orders per second instead of ORDERS_PER_SECOND;  --max  as fast as it goes
 *   --orders N   ends after so many
 *   --file F     replays a history in the Online Retail format (CSV, gzip or not), as fast as it goes or at --rate
 *   --speed X    replays it X times as fast as it happened
 *   --json       the totals as one JSON object, the last line on standard output
 */
import { randomBytes } from 'node:crypto'
import { createKafka, ENV_FILE, readRate } from './kafkaConfig.ts'
import { ControlError } from './lib/controls.ts'
import { describe } from './lib/errors.ts'
import { surveyFile } from './lib/onlineRetail.ts'
import { OrderSender } from './lib/orderSender.ts'
import { Pace } from './lib/pace.ts'
import { PlacedCounts, placeHistory, placeSimulated } from './lib/placing.ts'
import { PRODUCER_FLAGS, type ProducerPlan, readPlan } from './lib/producerFlags.ts'
import { addProducerMetrics } from './lib/producerMetrics.ts'
import { formatDuration, Progress } from './lib/progress.ts'
import { type Catalogue, registerAll } from './lib/registration.ts'
import { createSealer } from './lib/sealing.ts'
import { runMain, type Service } from './lib/service.ts'
import { createSimulator } from './lib/simulator.ts'
import { formatCount } from './lib/text.ts'

const RATE_CHECK_MS = 500

interface Run {
  service: Service
  plan: ProducerPlan
  sender: OrderSender
  counts: PlacedCounts
}

await runMain(
  'producer',
  'Places orders: simulated ones at a rate, or a real history from a file.',
  PRODUCER_FLAGS,
  async (service, flags) => {
    const plan = readPlan(flags)
    const { config, log, signal } = service
    const { ordersRaw, products, inbox, isRouted } = config.topics
    const sender = new OrderSender({
      createKafka: () => createKafka(config, 'producer', log),
      brokers: config.kafka.brokers,
      topics: [ordersRaw, products, ...(isRouted ? [inbox] : [])].map(({ name }) => name),
      seal: createSealer({ topics: config.topics, keys: config.keys, sender: 'producer' }),
      log,
      signal,
    })
    service.onClose(() => sender.close())
    const run = { service, plan, sender, counts: new PlacedCounts() }
    const { source } = plan
    const startedMs = source.kind === 'file' ? await replay(run, source) : await simulate(run, source)
    summarise(run, (performance.now() - startedMs) / 1_000)
  },
)

type Source<Kind> = Extract<ProducerPlan['source'], { kind: Kind }>

/** @returns when the first order was placed, by performance.now() */
async function simulate(run: Run, { seed, rate }: Source<'simulator'>): Promise<number> {
  const { service, sender, plan, counts } = run
  const { config, log, signal } = service
  // Unique for every run, and in the order of the runs.
  const runId = Date.now().toString(36) + randomBytes(2).toString('hex')
  const { badRatio, limitMinor, ratePerSecond } = config.orders
  const simulator = createSimulator({ seed, badRatio, limitMinor, runId })
  await register(run, simulator.catalogue)

  const startedMs = performance.now()
  const pace = rate === 'max' ? undefined : new Pace(rate === 'environment' ? ratePerSecond : rate, startedMs)
  if (pace && rate === 'environment') followEnvironment(pace, service)
  await serveHealth(run, pace)
  log.info(`placing orders ord-${runId}-…, seed ${seed}, ${pace ? describeRate(pace) : 'as fast as it goes'}`)
  reportEachSecond(run, pace)
  const topic = config.topics.ordersRaw.name
  await placeSimulated(simulator, pace, { sender, topic, orders: plan.orders, counts, signal })
  return startedMs
}

/** @returns when the first order was placed, by performance.now() */
async function replay(run: Run, { file, tempo }: Source<'file'>): Promise<number> {
  const { service, sender, plan, counts } = run
  const { config, log, signal } = service
  log.info(`reading ${file}`)
  const survey = await surveyFile(file)
  const { products, customers } = survey.catalogue
  log.info(
    `${formatCount(survey.records)} orders in ${formatCount(survey.lines)} lines, ${formatCount(products.length)} products, ${formatCount(customers.length)} customers`,
  )
  await register(run, survey.catalogue)

  const startedMs = performance.now()
  await serveHealth(run, undefined)
  const total = Math.min(survey.records, plan.orders)
  const progress = new Progress({ total, unit: 'orders', output: process.stderr, color: config.log.color })
  let placedAtMs = survey.firstMs
  const leftMs = () =>
    tempo !== 'max' && 'speed' in tempo ? (survey.lastMs - placedAtMs) / tempo.speed : undefined
  const update = () => progress.update(counts.placed, leftMs())
  const ticker = setInterval(update, 1_000)
  service.onClose(() => clearInterval(ticker))
  await placeHistory(survey, {
    ...{ sender, topic: config.topics.ordersRaw.name, orders: plan.orders, counts, signal, tempo },
    report: (lineNumber, problem) =>
      progress.note(`${file} line ${lineNumber} cannot be understood: ${problem}`),
    onPlaced(order) {
      placedAtMs = order.placedAtMs ?? placedAtMs
      update()
    },
  })
  clearInterval(ticker)
  progress.finish(counts.placed)
  return startedMs
}

async function register({ service, sender }: Run, catalogue: Catalogue): Promise<void> {
  const { config, log, signal } = service
  const database = await service.openDatabase(1)
  await sender.open()
  await registerAll({ config, database, sender, log, signal }, catalogue)
}

/** How it does, its figures and, while it simulates at a rate, the rate as a control. */
async function serveHealth({ service, counts }: Run, pace: Pace | undefined): Promise<void> {
  const owed = () => pace?.owed(performance.now()) ?? 0
  addProducerMetrics(service.metrics, {
    placed: () => counts.placed,
    owed,
    ratePerSecond: () => pace?.ratePerSecond ?? 0,
  })
  const report = () => ({
    ready: true,
    placed: counts.placed,
    ...(pace && { owed: owed(), ratePerSecond: pace.ratePerSecond }),
  })
  await service.serveHealth({ report, controls: pace ? { rate: (body) => setRate(pace, body) } : {} })
}

function setRate(pace: Pace, body: unknown): { ratePerSecond: number } {
  const { ratePerSecond } = (body ?? {}) as { ratePerSecond?: unknown }
  if (typeof ratePerSecond !== 'number') throw new ControlError('it takes {"ratePerSecond": 50}')
  try {
    pace.setRate(readRate({ ORDERS_PER_SECOND: String(ratePerSecond) }), performance.now())
  } catch (error) {
    throw new ControlError(describe(error), { cause: error })
  }
  return { ratePerSecond: pace.ratePerSecond }
}

/** The one setting that is read again while a process runs. A value that is none changes nothing, and is told once. */
function followEnvironment(pace: Pace, { log, onClose }: Service): void {
  let complaint = ''
  let rateBefore = pace.ratePerSecond
  const timer = setInterval(() => {
    try {
      const rate = readRate()
      complaint = ''
      // What was set otherwise meanwhile stays until somebody changes it here.
      if (rate === rateBefore) return
      rateBefore = rate
      pace.setRate(rate, performance.now())
      log.info(`ORDERS_PER_SECOND is now ${describeRate(pace)}`)
    } catch (error) {
      if (describe(error) !== complaint)
        log.warn(`${describe(error)} (${ENV_FILE}); the rate stays ${describeRate(pace)}`)
      complaint = describe(error)
    }
  }, RATE_CHECK_MS)
  onClose(() => clearInterval(timer))
}

function reportEachSecond({ service, counts, plan }: Run, pace: Pace | undefined): void {
  const of = Number.isFinite(plan.orders) ? ` of ${formatCount(plan.orders)}` : ''
  let before = 0
  const timer = setInterval(() => {
    if (counts.placed === before) return
    const owed = pace?.owed(performance.now()) ?? 0
    // What a second brings is on its way.
    const behind = pace && owed > pace.ratePerSecond ? `  behind ${formatCount(owed)}` : ''
    service.log.info(
      `placed ${formatCount(counts.placed - before)}/s  total ${formatCount(counts.placed)}${of}${behind}`,
    )
    before = counts.placed
  }, 1_000)
  service.onClose(() => clearInterval(timer))
}

function summarise({ plan, counts, service }: Run, seconds: number): void {
  const { placed, givenUp } = counts
  const bad = Object.fromEntries([...counts.bad].sort())
  if (givenUp > 0) {
    service.log.warn(`${formatCount(givenUp)} more were made, and given up before Kafka acknowledged them`)
  }
  if (plan.json) {
    console.log(JSON.stringify({ placed, bad, seconds: Math.round(seconds * 1_000) / 1_000 }))
    return
  }
  const kinds = Object.entries(bad).map(([kind, count]) => `${kind} ${formatCount(count)}`)
  const listed = kinds.length > 0 ? `, of them bad: ${kinds.join(', ')}` : ''
  console.log(`placed ${formatCount(placed)} orders in ${formatDuration(seconds * 1_000)}${listed}`)
}

function describeRate({ ratePerSecond }: Pace): string {
  return ratePerSecond === 0 ? '0/s (paused)' : `${formatCount(ratePerSecond)}/s`
}
