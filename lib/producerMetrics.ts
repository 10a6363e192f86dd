import type { Registry } from 'prom-client'
import { addCounter, addGauge } from './metrics.ts'

/** The figures of the producer, read when they are asked for. */
export function addProducerMetrics(
  registry: Registry,
  read: { placed(): number; owed(): number; ratePerSecond(): number },
): void {
  const describe = (name: string, help: string) => ({ registry, name: `producer_${name}`, help })
  addCounter(describe('orders_placed_total', 'Orders that Kafka has acknowledged'), () => [
    [{}, read.placed()],
  ])
  addGauge(describe('orders_owed', 'Orders that are due and not sent'), () => [[{}, read.owed()]])
  addGauge(describe('rate_per_second', 'Orders that are to be placed in a second; 0 without a rate'), () => [
    [{}, read.ratePerSecond()],
  ])
}
