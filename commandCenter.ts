/**
 * Forwards sealed messages to whom they are for, and can read nothing of what is in them.
 *
 *   command-center.inbox -> the topic of the route for the message's worker_name, in the same partition, untouched
 *                        -> command-center.hops   HopsRecorded: what became of each message, for the metadata log
 *
 * Guarantees: each message is forwarded exactly once, in order for each key, or is a dead letter with the reason, to be
 * redriven once its route is there and enabled. Routes are changed with `npm run routes`, and take effect within a second.
 *
 * Flags: --verbose prints a line per message;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */
import { createKafka } from './kafkaConfig.ts'
import type { HopsRecorded } from './lib/events.ts'
import { DeadLetter, type InputRecord, type Outcome, publish } from './lib/record.ts'
import { RouteRegistry } from './lib/routeRegistry.ts'
import { addDefaultRoutes } from './lib/routes.ts'
import { type Direction, directionOf, forward, hopOf, type Message, messagesOf } from './lib/routing.ts'
import { runService } from './lib/service.ts'
import { forwardedTopics } from './lib/topics.ts'

/** What is said about them in one record has to fit into it. */
const MAX_BATCH_RECORDS = 1_000

await runService('command-center', 'Forwards sealed messages by worker_name.', async (service) => {
  const { config, log, signal } = service
  const { inbox, hops } = config.topics
  const database = await service.openDatabase(1)
  if (!signal.aborted) await addDefaultRoutes(database, config.topics)
  const kafka = createKafka(config, 'command-center-routes', log)
  const registry = await RouteRegistry.open({
    ...{ database, kafka, log, signal },
    sourceTopic: inbox.name,
    topics: forwardedTopics(config.topics).map(({ name }) => name),
  })
  service.onClose(() => registry.close())

  return {
    inputs: [messagesOf(inbox)],
    outputs: [hops],
    maxBatchRecords: MAX_BATCH_RECORDS,
    commitIntervalMs: config.commandCenter.commitIntervalMs,
    isPrompt: true,
    createState: () => undefined,
    handle(records: InputRecord<Message>[]): Outcome[] {
      const nowMs = Date.now()
      const directions = records.map((record) => directionOf(record, registry))
      const note = `${records.length} hops`
      // Of no one message's trace: it tells of many.
      const said = { ...publish(hops, recordHops(records, directions, nowMs), note), traceparent: null }
      return records.map((record, index) => {
        const { route, error } = directions[index]!
        // One record for all of them, with the last.
        const also = index === records.length - 1 ? [said] : []
        return error === undefined ? [forward(record, route), ...also] : new DeadLetter(error, also)
      })
    },
    details: () => ({ routes: registry.size }),
  }

  function recordHops(records: InputRecord<Message>[], directions: Direction[], nowMs: number): HopsRecorded {
    return {
      type: 'HopsRecorded',
      eventId: `${records[0]!.source}/HopsRecorded`,
      occurredAt: new Date(nowMs).toISOString(),
      sourceTopic: inbox.name,
      hops: records.map((record, index) => hopOf(record, directions[index]!, nowMs)),
    }
  }
})
