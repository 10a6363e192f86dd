/**
 * The auditor: looks at all that lies in Kafka, in the database and in the gateway's ledger, and says whether what is
 * promised holds. It shares no code with the services' decisions, writes nothing and belongs to no working group.
 *
 * It looks while the pipeline runs, so nothing that it sees is of one moment. Two rules keep it from false alarms:
 *
 *   1. What follows is looked at before what it follows from. First a snapshot of the database; then the ends of the topics,
 *      answers before their causes, in the order of `WAVES`. So for whatever is seen, its cause is seen too: the event
 *      of a stored outcome's order, the validated record of a verdict, the decision of a capture.
 *   2. What came later may excuse and never accuses. All that lies before those ends is read, and then, once, what has
 *      come since. An answer that was seen in the first reading belongs to a transaction that is committed, and so are
 *      the answers to all records before its cause: they are at the latest found in the second. And rows are written
 *      before their events are published, so a row that the snapshot lacks is looked up once more by its order.
 *
 * What is missing even then, and is not passed by a later record of its partition, is under way.
 */
import type { Kafka } from 'kafkajs'
import { type Config, createKafka } from '../kafkaConfig.ts'
import { askAnalytics } from './auditAnalytics.ts'
import { AuditBook, auditedTopics } from './auditBook.ts'
import { judge } from './auditChecks.ts'
import { DatabaseSnapshot } from './auditDatabase.ts'
import type { HopRows } from './auditHops.ts'
import { AuditIntake } from './auditIntake.ts'
import type { AuditReport } from './auditReport.ts'
import { AuditRows } from './auditRows.ts'
import { eventsOf } from './auditStages.ts'
import { ConfigurationError, PipelineError, UnavailableError } from './errors.ts'
import { openHopStore } from './hopStore.ts'
import { JUDGE_NAMES } from './judges.ts'
import type { Logger } from './log.ts'
import {
  type Bounds,
  type BoundsByPartition,
  fetchBounds,
  missingTopicsError,
  type OffsetsByPartition,
} from './topicBounds.ts'
import { readTopics } from './topicReader.ts'
import { groupsOf, requestTopics, type TopicTable } from './topics.ts'

export interface AuditOptions {
  /** Nothing is under way any more: what is missing is lost, and analytics is asked for its sums. */
  isDrained: boolean
  log: Logger
  /** What analytics is started with; the environment of this process unless told otherwise. */
  environment?: NodeJS.ProcessEnv
  /** Called often: records and rows looked at, and about how many there are. */
  onProgress?: (done: number, total: number) => void
  signal?: AbortSignal
}

/** Somebody asked it to end. */
export class InterruptedError extends PipelineError {
  readonly code = 'INTERRUPTED'
  readonly canRetry = true
}

/** Nothing came for so long, with more to come: Kafka is away, and that is no finding. */
const STALL_MS = 60_000

/** In which order the ends of topics are looked at: answers before causes, and redrives after both. */
export const WAVES: ((topics: TopicTable) => { name: string }[])[] = [
  (topics) => groupsOf(topics).map((group) => topics.deadLetters[group]),
  (topics) => JUDGE_NAMES.map((judge) => topics[eventsOf(judge)]),
  ({ ordersCompleted }) => [ordersCompleted],
  ({ ordersValidated, ordersRejected }) => [ordersValidated, ordersRejected],
  ({ retries, ...topics }) =>
    groupsOf({ retries, ...topics })
      .filter((group) => group !== 'command-center')
      .map((group) => retries[group]),
  ({ ordersRaw, products }) => [ordersRaw, products],
  // What is forwarded follows from what lies here.
  (topics) => (topics.isRouted ? [...requestTopics(topics), topics.hops] : []),
  ({ inbox, retries, isRouted }) => (isRouted ? [retries['command-center'], inbox] : []),
]

/**
 * Audits a pipeline.
 *
 * @throws UnavailableError, ConfigurationError when it could not look, InterruptedError when it was told to end
 */
export async function audit(config: Config, options: AuditOptions): Promise<AuditReport> {
  const startedMs = Date.now()
  const { isDrained, environment = process.env, signal } = options
  const goOn = () => {
    if (signal?.aborted) throw new InterruptedError('interrupted before all was looked at')
  }
  const snapshot = await DatabaseSnapshot.open(config.databaseUrl)
  try {
    goOn()
    const bounds = await fetchAllBounds(config, options.log)
    const book = new AuditBook(config.topics, bounds)
    const rows = new AuditRows(book)
    const progress = countProgress(bounds, snapshot.rows, options)
    const onRows = (count: number) => {
      goOn()
      progress(count)
    }
    await snapshot.readInto(book, rows, onRows)
    const positions = await readInto(book, config, options, 'beginning', progress)
    goOn()
    if (!isDrained) await readInto(book, config, options, { offsets: positions }, () => undefined)
    goOn()
    await snapshot.lookAgain(rows, goOn)
    const revenue = isDrained ? await askAnalytics(environment, signal) : undefined
    const hopRows = isDrained && config.topics.isRouted ? await countHopRows(config, options) : undefined
    goOn()
    const { checks, totals } = judge(book, rows, {
      isDrained,
      dedupe: config.dedupe,
      ...(revenue && { revenue }),
      ...(hopRows && { hopRows }),
    })
    return {
      ok: checks.every(({ ok }) => ok),
      drained: isDrained,
      startedAt: new Date(startedMs).toISOString(),
      seconds: (Date.now() - startedMs) / 1_000,
      records: Object.fromEntries(auditedTopics(config.topics).map((name) => [name, book.countOf(name)])),
      rows: rows.taken + book.stock.products.size,
      totals,
      checks,
    }
  } finally {
    await snapshot.close()
  }
}

async function countHopRows(config: Config, { log, signal }: AuditOptions): Promise<HopRows> {
  const store = await openHopStore(config, log, signal)
  try {
    return await store.count()
  } finally {
    await store.close()
  }
}

async function fetchAllBounds(config: Config, log: Logger): Promise<BoundsByPartition> {
  const kafka = createKafka(config, 'audit', log)
  if (!config.topics.isRouted) await refuseRouted(kafka, config.topics)
  const all = new Map<string, ReadonlyMap<number, Bounds>>()
  for (const wave of WAVES) {
    const names = wave(config.topics).map(({ name }) => name)
    if (names.length === 0) continue
    try {
      const { bounds } = await fetchBounds(kafka, names)
      for (const [topic, partitions] of bounds) all.set(topic, partitions)
    } catch (error) {
      throw missingTopicsError(error, names) ?? new UnavailableError('Kafka', error)
    }
  }
  return all
}

/** A pipeline of the other wiring would look as if nothing in it were any good. */
async function refuseRouted(kafka: Kafka, { inbox }: TopicTable): Promise<void> {
  const admin = kafka.admin()
  try {
    await admin.connect()
    if (!(await admin.listTopics()).includes(inbox.name)) return
    const offsets = await admin.fetchTopicOffsets(inbox.name)
    if (offsets.every(({ low, high }) => low === high)) return
  } catch (error) {
    throw new UnavailableError('Kafka', error)
  } finally {
    await admin.disconnect()
  }
  throw new ConfigurationError(
    `there are messages in ${inbox.name}: set ROUTING=command-center, as for the services, or nothing here can be read`,
  )
}

function countProgress(bounds: BoundsByPartition, rows: number, { onProgress }: AuditOptions) {
  let total = rows
  for (const partitions of bounds.values()) {
    for (const { low, high } of partitions.values()) total += high - low
  }
  let done = 0
  return (count: number) => {
    done += count
    onProgress?.(Math.min(done, total), total)
  }
}

/** Reads all topics to their ends as they are now. */
async function readInto(
  book: AuditBook,
  config: Config,
  { log, signal }: AuditOptions,
  from: 'beginning' | { offsets: OffsetsByPartition },
  onRecords: (count: number) => void,
): Promise<OffsetsByPartition> {
  const intake = new AuditIntake(book)
  const stalled = new AbortController()
  let heardMs = Date.now()
  const watch = setInterval(() => {
    if (Date.now() - heardMs > STALL_MS) stalled.abort()
  }, 1_000)
  try {
    const positions = await readTopics({
      kafka: createKafka(config, 'audit-reader', log),
      topics: auditedTopics(config.topics),
      from,
      until: 'end',
      onRecords(topic, partition, records) {
        heardMs = Date.now()
        intake.take(topic, partition, records)
        onRecords(records.length)
      },
      signal: AbortSignal.any([stalled.signal, ...(signal ? [signal] : [])]),
      log,
      groupPrefix: `${config.topicPrefix}audit`,
    })
    if (stalled.signal.aborted) {
      throw new UnavailableError('Kafka', new Error(`no record came for ${STALL_MS / 1_000} s`))
    }
    return positions
  } catch (error) {
    throw error instanceof PipelineError ? error : new UnavailableError('Kafka', error)
  } finally {
    clearInterval(watch)
  }
}
