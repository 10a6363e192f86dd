import { Counter, Histogram, type Registry } from 'prom-client'
import type { GatewayClientOptions, GatewayOperation } from './gatewayClient.ts'
import { addGauge } from './metrics.ts'

const BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]

/** Counts what the client asks of the gateway. @param isBreakerOpen asked when the figures are */
export function addGatewayMetrics(
  registry: Registry,
  isBreakerOpen: () => boolean,
): Required<Pick<GatewayClientOptions, 'onRetry' | 'onTry'>> {
  const registers = [registry]
  const tries = new Counter<'operation' | 'result'>({
    name: 'payment_gateway_requests_total',
    help: 'Requests to the gateway, repeated ones included',
    labelNames: ['operation', 'result'],
    registers,
  })
  const durations = new Histogram<'operation'>({
    name: 'payment_gateway_request_duration_seconds',
    help: 'How long one request took',
    labelNames: ['operation'],
    buckets: BUCKETS_SECONDS,
    registers,
  })
  const retries = new Counter({
    name: 'payment_gateway_retries_total',
    help: 'Requests that were going to be repeated',
    registers,
  })
  addGauge(
    {
      registry,
      name: 'payment_gateway_breaker_open',
      help: 'Whether requests are held back because the gateway did not answer (1) or not (0)',
    },
    () => [[{}, isBreakerOpen() ? 1 : 0]],
  )
  return {
    onRetry: () => retries.inc(),
    onTry(operation: GatewayOperation, result, seconds) {
      tries.inc({ operation, result })
      durations.observe({ operation }, seconds)
    },
  }
}
