/**
 * The simulated payment gateway as a process of its own, on GATEWAY_PORT. `paymentService.ts` brings one up by
 * itself; this is for several services that share one, and for looking at it alone:
 *
 *   npx tsx paymentGateway.ts
 *   GATEWAY_URL=http://127.0.0.1:4010 npx tsx paymentService.ts
 *   curl -X PUT 127.0.0.1:4010/faults -H 'content-type: application/json' -d '{"dropRatio": 0.2}'
 *
 * Keeps its books in PostgreSQL (schema `gateway`) and binds to 127.0.0.1; --host says otherwise.
 */
import { once } from 'node:events'
import { startGateway } from './lib/gatewayServer.ts'
import { runMain } from './lib/service.ts'

const flags = { host: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const

await runMain('gateway', 'The simulated payment gateway.', flags, async (service, { host = '127.0.0.1' }) => {
  const { config, log, signal } = service
  const database = await service.openDatabase()
  if (signal.aborted) return
  const { port, ...settings } = config.gateway
  const gateway = await startGateway({ database, settings, port, host, metrics: service.metrics, log })
  service.onClose(() => gateway.close())
  const report = () => ({ ready: true, in: gateway.countAnswered(), faults: gateway.settings })
  await service.serveHealth({ report, controls: gateway.controls })
  log.info(`payment gateway at ${gateway.url}, faults at ${gateway.url}/faults`)
  await once(signal, 'abort')
})
