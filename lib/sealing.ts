/**
 * How a record of ours leaves its process: as it is, sealed, or sealed and by way of the Command Center. The way back in
 * is `Topic.decode`.
 */
import { seal } from './crypto.ts'
import { UnusableRecordError } from './errors.ts'
import { type LoadKeys, sealedTopics, type Topic, type TopicTable } from './topics.ts'

/** As far as sealing sees a record. */
interface Sealable {
  topic: string
  key: Buffer | string | null
  value: Buffer | string | null
}

/** Makes of a record for a topic what is to be written, and where. Its key, headers and partition stay. */
export type Sealer = <Sent extends Sealable>(record: Sent) => Sent

interface SealingOptions {
  topics: TopicTable
  keys: LoadKeys
  /** Who seals: stands on each envelope, and is authenticated with it. */
  sender: string
}

/**
 * Records of topics that are not sealed are left as they are.
 *
 * @throws ConfigurationError when some are, and there are no keys
 */
export function createSealer({ topics, keys, sender }: SealingOptions): Sealer {
  const { inbox, isRouted } = topics
  const addresses = new Map(sealedTopics(topics).map(({ name, address }) => [name, address]))
  if (addresses.size === 0) return (record) => record
  const ring = keys()
  return (record) => {
    const workerName = addresses.get(record.topic)
    if (workerName === undefined) return record
    const value = record.value ?? ''
    const label = { requestId: record.key?.toString() ?? '', workerName, sender, eventId: eventIdIn(value) }
    return { ...record, topic: isRouted ? inbox.name : record.topic, value: seal(ring, label, value) }
  }
}

/** What cannot be read is sealed, too: that it is no event is for whoever opens it to say. */
function eventIdIn(value: Buffer | string): string {
  try {
    const event = JSON.parse(value.toString()) as { eventId?: unknown } | null
    return typeof event?.eventId === 'string' ? event.eventId : ''
  } catch (error) {
    if (error instanceof SyntaxError) return ''
    throw error
  }
}

/** Opens records that were read from a topic. What cannot be opened stays as it came: its reader finds no event in it. */
export type Opener = <Read extends { value: Buffer | null }>(
  topic: string,
  records: readonly Read[],
) => readonly Read[]

/** For those who read topics without the processor, and take whatever lies there. */
export function createOpener(topics: TopicTable): Opener {
  const sealed = new Map(sealedTopics(topics).map((topic) => [topic.name, topic]))
  return (name, records) => {
    const topic = sealed.get(name)
    if (!topic) return records
    return records.map((record) => ({ ...record, value: record.value && openOrLeave(topic, record.value) }))
  }
}

function openOrLeave({ open }: Pick<Topic<unknown>, 'open'>, value: Buffer): Buffer {
  try {
    return open(value)
  } catch (error) {
    if (error instanceof UnusableRecordError) return value
    throw error
  }
}
