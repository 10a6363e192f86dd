/** Figures of a process for Prometheus, in the registry that is served at `/metrics` on its health port. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, collectDefaultMetrics, Gauge, type Histogram, type Registry } from 'prom-client'
import type { BucketCounts } from './bucketCounts.ts'
import type { Routes } from './health.ts'

export type Labels = Readonly<Record<string, string | number>>
/** What a metric says at present: a value for each set of labels. */
export type Readings<Value = number> = Iterable<readonly [labels: Labels, value: Value]>

/** Gauges that are named like counters, and say of which classes the objects are that keep Node running. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

/** A timer tells how late the event loop is. Every 10 ms, as prom-client has it, it takes 0.3 % of a core in each process. */
const EVENT_LOOP_LOOK_MS = 100
/** Those of prom-client, which have the time between two looks in them: it looks as good as never. */
const UNUSED_LOOK_MS = 3_600_000
const EVENT_LOOP_METRICS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (what) => `nodejs_eventloop_lag_${what}_seconds`,
)

/** What is to be known of any process: CPU, memory, event loop, garbage collection. */
export function addProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: UNUSED_LOOK_MS })
  for (const name of [...MISNAMED, ...EVENT_LOOP_METRICS]) registry.removeSingleMetric(name)
  addEventLoopLag(registry)
}

/** How late the event loop comes to what is due, since the last time it was asked for. */
function addEventLoopLag(registry: Registry): void {
  const delays = monitorEventLoopDelay({ resolution: EVENT_LOOP_LOOK_MS })
  delays.enable()
  // What is measured is from one look to the next; nothing is no number.
  const seconds = (nanoseconds: number) => Math.max(0, (nanoseconds || 0) / 1e6 - EVENT_LOOP_LOOK_MS) / 1_000
  const measures = {
    mean: () => delays.mean,
    p50: () => delays.percentile(50),
    p99: () => delays.percentile(99),
  }
  for (const [what, read] of Object.entries(measures)) {
    const name = `nodejs_eventloop_lag_${what}_seconds`
    addGauge({ registry, name, help: `How late the event loop is, ${what}` }, () => [[{}, seconds(read())]])
  }
  addGauge(
    { registry, name: 'nodejs_eventloop_lag_max_seconds', help: 'How late the event loop is, at most' },
    () => {
      const value = seconds(delays.max)
      // The last of them to be asked.
      delays.reset()
      return [[{}, value]]
    },
  )
}

export function metricsRoutes(registry: Registry): Routes {
  return {
    '/metrics': async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  }
}

interface Description {
  registry: Registry
  name: string
  help: string
  labelNames?: readonly string[]
}

/** A counter that is kept elsewhere, and read when it is asked for. */
export function addCounter(description: Description, read: () => Readings): void {
  const { registry, name, help, labelNames = [] } = description
  new Counter({
    ...{ name, help, labelNames: [...labelNames], registers: [registry] },
    collect() {
      this.reset()
      for (const [labels, value] of read()) this.inc({ ...labels }, value)
    },
  })
}

/** A gauge that is read when it is asked for. */
export function addGauge(description: Description, read: () => Readings): void {
  const { registry, name, help, labelNames = [] } = description
  new Gauge({
    ...{ name, help, labelNames: [...labelNames], registers: [registry] },
    collect() {
      this.reset()
      for (const [labels, value] of read()) this.set({ ...labels }, value)
    },
  })
}

/**
 * A histogram that is kept elsewhere. That of prom-client hashes its labels with each value, which for each record is more
 * than all else that is counted together.
 */
export function addHistogram(
  { registry, name, help }: Description,
  read: () => Readings<BucketCounts>,
): void {
  const metric = {
    ...{ name, help, type: 'histogram', aggregator: 'sum' },
    get: () => ({ name, help, type: 'histogram', values: [...toSamples(name, read())], aggregator: 'sum' }),
    reset: () => undefined,
  }
  // The registry asks no more of a metric than this; its type names the four classes of the library.
  registry.registerMetric(metric as unknown as Histogram)
}

function* toSamples(name: string, readings: Readings<BucketCounts>) {
  for (const [labels, { bounds, counts, sum, count }] of readings) {
    let below = 0
    for (const [bucket, bound] of [...bounds, '+Inf'].entries()) {
      below += counts[bucket]!
      yield { metricName: `${name}_bucket`, labels: { ...labels, le: bound }, value: below }
    }
    yield { metricName: `${name}_sum`, labels, value: sum }
    yield { metricName: `${name}_count`, labels, value: count }
  }
}
