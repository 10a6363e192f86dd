import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Expiry, HopRow } from './hopStore.ts'

/** From a plain hop to one that waited for an outage. */
const BUCKETS_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 1, 5, 30]

/** Figures of the metadata log since this process began, for Prometheus. */
export class HopMetrics {
  readonly #hops: Counter<'worker' | 'route' | 'result'>
  readonly #seconds: Histogram<'worker'>
  readonly #tooOld: Counter
  readonly #expired: Counter
  readonly #expiring: Gauge

  constructor(registry: Registry) {
    const registers = [registry]
    this.#hops = new Counter({
      name: 'command_center_hops_total',
      help: 'Messages that the Command Center forwarded or refused, as the metadata log has them',
      labelNames: ['worker', 'route', 'result'],
      registers,
    })
    this.#seconds = new Histogram({
      name: 'command_center_hop_seconds',
      help: 'Time from the arrival of a message in the inbox until it was forwarded or refused',
      labelNames: ['worker'],
      buckets: BUCKETS_SECONDS,
      registers,
    })
    this.#tooOld = new Counter({
      name: 'command_center_hop_rows_too_old_total',
      help: 'Hops that were read but not written, because they would expire at once',
      registers,
    })
    this.#expired = new Counter({
      name: 'command_center_hop_rows_expired_total',
      help: 'Rows that were dropped after a week',
      registers,
    })
    this.#expiring = new Gauge({
      name: 'command_center_hop_rows_expiring',
      help: 'About how many rows will be dropped within a day',
      registers,
    })
  }

  written(rows: readonly HopRow[]): void {
    for (const { workerName, routeId, success, processingTimeMs } of rows) {
      // Anybody can send any name, and each would be a series: one that has a route is in the registry.
      const worker = routeId === undefined ? 'unknown' : workerName
      const route = routeId === undefined ? 'none' : String(routeId)
      this.#hops.inc({ worker, route, result: success ? 'forwarded' : 'refused' })
      this.#seconds.observe({ worker }, processingTimeMs / 1_000)
    }
  }

  tooOld(rows: number): void {
    this.#tooOld.inc(rows)
  }

  expired({ expired, expiring }: Expiry): void {
    this.#expired.inc(expired)
    this.#expiring.set(expiring)
  }
}
