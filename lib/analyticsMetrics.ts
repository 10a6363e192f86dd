import type { Registry } from 'prom-client'
import { addGauge } from './metrics.ts'
import type { OrderStatistics } from './orderStatistics.ts'

/**
 * What became of orders, for Prometheus. A gauge, since it falls when a partition goes to another instance.
 *
 * @param read the statistics of the partitions that are held at present
 */
export function addAnalyticsMetrics(registry: Registry, read: () => readonly OrderStatistics[]): void {
  const help = 'Orders that came to each end, in the partitions and the time that this process shows'
  addGauge({ registry, name: 'analytics_orders', help, labelNames: ['end'] }, () => {
    const sum = (count: (statistics: OrderStatistics) => number) =>
      read().reduce((total, statistics) => total + count(statistics), 0)
    return [
      [{ end: 'confirmed' }, sum(({ confirmed }) => confirmed)],
      [{ end: 'cancelled' }, sum(({ cancelled }) => cancelled.orders)],
      [{ end: 'rejected' }, sum(({ rejected }) => rejected.orders)],
    ]
  })
}
