/**
 * The metadata log: what became of each message in the Command Center, never what is in it.
 *
 *   command-center.hops -> one row for each hop, in PostgreSQL or, with METADATA_STORE=cassandra, in Apache Cassandra
 *
 * A row is known by the position that says it, so it is there once, whatever is killed or read again: the offsets of
 * this group set back, the log is made anew from the topic. While the store is away, records wait. Rows go after a
 * week, and what is older than that is not written.
 *
 * Flags: --verbose prints dead letters.
 */
import { describe } from './lib/errors.ts'
import type { HopsRecorded } from './lib/events.ts'
import { HopMetrics } from './lib/hopMetrics.ts'
import { isFromFuture, toHopRows } from './lib/hopRows.ts'
import { keptFromMs, openHopStore } from './lib/hopStore.ts'
import { DeadLetter, type InputRecord, type Outcome } from './lib/record.ts'
import { runService } from './lib/service.ts'

/** Each holds up to a thousand hops. */
const MAX_BATCH_RECORDS = 20
const EXPIRE_EVERY_MS = 60 * 60 * 1000

await runService(
  'metadata-log',
  'Keeps what became of each message in the Command Center.',
  async (service) => {
    const { config, log, signal, onClose } = service
    const store = await openHopStore(config, log, signal)
    onClose(() => store.close())
    const metrics = new HopMetrics(service.metrics)

    const expire = async () => {
      try {
        metrics.expired(await store.expire(Date.now()))
      } catch (error) {
        log.warn(`rows that are too old stay for another hour: ${describe(error)}`)
      }
    }
    if (!signal.aborted) void expire()
    const timer = setInterval(expire, EXPIRE_EVERY_MS)
    onClose(() => clearInterval(timer))

    return {
      inputs: [config.topics.hops],
      outputs: [],
      maxBatchRecords: MAX_BATCH_RECORDS,
      createState: () => undefined,
      async handle(records: InputRecord<HopsRecorded>[]): Promise<Outcome[]> {
        const nowMs = Date.now()
        const sound = records.filter((record) => !isFromFuture(record, nowMs))
        const rows = sound.flatMap(toHopRows)
        const kept = rows.filter(({ atMs }) => atMs >= keptFromMs(nowMs))
        await store.write(kept)
        metrics.written(kept)
        metrics.tooOld(rows.length - kept.length)
        return records.map((record) =>
          isFromFuture(record, nowMs)
            ? new DeadLetter(`dated ahead of time: ${record.event.occurredAt}`)
            : [],
        )
      },
    }
  },
)
