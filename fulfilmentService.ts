/**
 * Decides each order, once: joins it with the verdicts of all judges (lib/judges.ts), in whatever order they come.
 *
 *   orders.validated, the judges' topics -> orders.completed   OrderConfirmed | OrderCancelled
 *
 * Confirmed when nobody fails it, with the warnings as a mark; else cancelled, with all reasons. An order whose verdicts
 * have not all come DECISION_TIMEOUT_MS after it was validated is cancelled, naming who did not answer; what they say
 * later is undone by themselves. The decision is stored in PostgreSQL before it is published, and published once,
 * whatever is killed.
 *
 * Flags: --verbose prints a line per decision;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */
import { createKafka } from './kafkaConfig.ts'
import { createEndsLook } from './lib/endsLook.ts'
import { createFulfilment, inputWaves } from './lib/fulfilment.ts'
import { runService } from './lib/service.ts'

await runService('fulfilment', 'Joins verdicts and decides orders.', async (service) => {
  const { config, log } = service
  const { topics, decisionTimeoutMs: timeoutMs } = config
  const database = await service.openDatabase(config.partitions)
  const lookAtEnds = createEndsLook(createKafka(config, 'fulfilment-ends', log), inputWaves(topics))
  const work = createFulfilment({ topics, database, timeoutMs, lookAtEnds })
  return { ...work, outputs: [topics.ordersCompleted] }
})
