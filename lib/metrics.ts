import type { Registry } from 'prom-client'
import type { Routes } from './health.ts'

/** Figures of a service for Prometheus, at `/metrics` on its health port. */
export function metricsRoutes(registry: Registry): Routes {
  return {
    '/metrics': async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  }
}
