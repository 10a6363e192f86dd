/**
 * Shows what is ordered, while it is ordered and afterwards.
 *
 * Reads orders.validated (booked revenue: the sum of `total`, by currency), orders.rejected, payment.events (captured
 * revenue: the sum of what was captured) and orders.completed (the ends of orders); writes nothing.
 * Shown are, by arrival, orders/s over the last 10 s and booked and captured revenue over the last minute; totals, top
 * products and what became of orders; and, by event time, a table of the minutes in which orders were placed. A
 * minute takes orders until ANALYTICS_GRACE_SECONDS after its end; later ones are counted as late, in the totals
 * and not in the minutes. A replay of the same records reproduces that table to the byte.
 *
 * Without flags it is a member of the group `analytics`: instances share the partitions, and each says how many it
 * shows. After a start it first reads back ANALYTICS_WINDOW_MINUTES, so that its figures are complete again.
 * Meanwhile it serves the dashboard, a page on DASHBOARD_PORT of this machine that shows the whole pipeline:
 *
 *   --no-dashboard     does without
 *
 * With the flags below it reads all partitions by itself, outside of the group, and leaves no trace:
 *
 *   --from-beginning   from the oldest record that is kept
 *   --from TIME        from the first record that arrived at that time or later (ISO 8601; UTC without a zone)
 *   --once             up to the end as it is now; then prints the whole report and exits
 *   --json             a line of JSON each second, or with --once one object
 */
import { createKafka } from './kafkaConfig.ts'
import { AnalyticsDisplay } from './lib/analyticsDisplay.ts'
import { addAnalyticsMetrics } from './lib/analyticsMetrics.ts'
import { formatReport } from './lib/analyticsReport.ts'
import { type Dashboard, startDashboard } from './lib/dashboard.ts'
import { ConfigurationError } from './lib/errors.ts'
import { parseInstant } from './lib/instant.ts'
import { countedTopics, OrderReplay } from './lib/orderReplay.ts'
import { type OrderEvent, OrderStatistics, summarise } from './lib/orderStatistics.ts'
import { addOrderWayRoutes } from './lib/orderWayRoutes.ts'
import type { ProcessorStatus } from './lib/processor.ts'
import type { InputRecord } from './lib/record.ts'
import { addReplayRoutes } from './lib/replayWatchRoutes.ts'
import { runMain, SERVICE_FLAGS, type Service, serve } from './lib/service.ts'
import { fetchBounds } from './lib/topicBounds.ts'
import type { ReadFrom } from './lib/topicReader.ts'

const PURPOSE =
  'Shows orders/s, booked and captured revenue, top products and a table by minute; with --from-beginning or --from a replay.'
const FLAGS = {
  'from-beginning': { type: 'boolean' },
  from: { type: 'string' },
  once: { type: 'boolean' },
  json: { type: 'boolean' },
  'no-dashboard': { type: 'boolean' },
  ...SERVICE_FLAGS,
} as const

await runMain('analytics', PURPOSE, FLAGS, async (service, flags) => {
  const json = flags.json === true
  // Whoever read our figures has gone: `| head` is no error.
  process.stdout.on('error', () => process.exit())
  if (flags.once || flags['from-beginning'] || flags.from !== undefined) {
    await replay(service, readFrom(flags.from, flags['from-beginning'] === true), flags.once === true, json)
  } else {
    const dashboard = flags['no-dashboard']
      ? undefined
      : await startDashboard(service, [addOrderWayRoutes, addReplayRoutes])
    await showLive(service, dashboard, json, flags.verbose === true)
  }
})

function readFrom(from: string | undefined, fromBeginning: boolean): ReadFrom {
  if (from === undefined) return 'beginning'
  if (fromBeginning) throw new ConfigurationError('--from and --from-beginning exclude one another: use one')
  return { timestampMs: parseInstant('--from', from) }
}

/** As a member of the group. Nothing is written: what becomes of each record is that it has been counted. */
async function showLive(
  service: Service,
  dashboard: Dashboard | undefined,
  json: boolean,
  verbose: boolean,
): Promise<void> {
  const { graceMs, windowMs } = service.config.analytics
  const display = createDisplay(service, json)
  const partitionCount = watchPartitionCount(service)
  let held: readonly OrderStatistics[] = []
  addAnalyticsMetrics(service.metrics, () => held)
  const count = (statistics: OrderStatistics, { event, timestampMs }: InputRecord<OrderEvent>) => {
    statistics.add(event, timestampMs)
    dashboard?.add(event, timestampMs)
  }
  const work = {
    inputs: countedTopics(service.config.topics),
    outputs: [],
    createState: () => new OrderStatistics(graceMs),
    // Some more than is shown: the minutes and the watermark that the first orders shown depend on.
    readBack: { orders: Number.MAX_SAFE_INTEGER, ageMs: windowMs + graceMs },
    remember: count,
    handle: (records: InputRecord<OrderEvent>[], statistics: OrderStatistics) =>
      records.map((record) => {
        count(statistics, record)
        return []
      }),
    report(statistics: OrderStatistics[], { tasks, lag }: ProcessorStatus) {
      held = statistics
      const partitions = { shown: tasks.length, of: partitionCount() }
      display.show(statistics, partitions)
      dashboard?.tick({ statistics, partitions, lag })
    },
  }
  await serve(service, 'analytics', work, verbose)
}

/** Alone, in a group of its own that is deleted at the end. */
async function replay(service: Service, from: ReadFrom, once: boolean, json: boolean): Promise<void> {
  const { config, log, signal } = service
  const { graceMs } = config.analytics
  const orders = new OrderReplay({
    kafka: createKafka(config, 'analytics-replay', log),
    topics: countedTopics(config.topics),
    from,
    until: once ? 'end' : 'forever',
    graceMs,
    groupPrefix: `${config.topicPrefix}analytics-replay`,
    signal,
    log,
  })
  if (!once) {
    const display = createDisplay(service, json)
    const partitionCount = watchPartitionCount(service)
    const ticker = setInterval(() => {
      display.show(orders.statistics, { shown: partitionCount() ?? 0, of: partitionCount() })
    }, 1_000)
    service.onClose(() => clearInterval(ticker))
  }
  await orders.run()
  if (!once || signal.aborted) return
  const summary = summarise(orders.statistics, graceMs)
  const text = json ? `${JSON.stringify(summary)}\n` : formatReport(summary)
  await new Promise((resolve) => process.stdout.write(text, resolve))
}

function createDisplay({ config }: Service, json: boolean): AnalyticsDisplay {
  const { graceMs, windowMs } = config.analytics
  return new AnalyticsDisplay({ json, graceMs, minutes: windowMs / 60_000, output: process.stdout })
}

/** How many partitions there are, once the broker has said so: they may not be there yet, or not as configured. */
function watchPartitionCount({ config, log, onClose }: Service): () => number | undefined {
  let partitions: number | undefined
  const topic = config.topics.ordersValidated.name
  const kafka = createKafka(config, 'analytics-partitions', log)
  const ask = async () => {
    const found = await fetchBounds(kafka, [topic]).catch(() => undefined)
    partitions = found?.bounds.get(topic)?.size
    if (partitions !== undefined) clearInterval(timer)
  }
  const timer = setInterval(ask, 1_000)
  void ask()
  onClose(() => clearInterval(timer))
  return () => partitions
}
