/** What lies in the topics of the tour, as a read-committed reader sees it, kept up to date. */
import type { Kafka } from 'kafkajs'
import type { Logger } from './log.ts'
import { formatPosition, headerText, SOURCE_HEADER } from './record.ts'
import { readTopics, type TopicRecord } from './topicReader.ts'

export interface TourRecord extends TopicRecord {
  /** Without the prefix of the tour. */
  topic: string
  partition: number
  /** `topic/partition/offset`. */
  position: string
  /** The position that caused it, by its own header. */
  source: string | undefined
  /** The key as text, which is the order id. */
  orderId: string | undefined
  /** The value as JSON; undefined for what is none. */
  event: TourEvent | undefined
}

/** As far as the tour reads events. */
export interface TourEvent {
  type?: string
  orderId?: string
  total?: number
  items?: { sku: string; quantity: number; unitPrice: number }[]
  processedBy?: string
  reasons?: { code: string; message: string }[]
  authorisationId?: string
  status?: string
}

/** More than the tour ever writes, by far. */
const MAX_RECORDS = 100_000

export class TourRecords {
  readonly #prefix: string
  readonly #byTopic = new Map<string, TourRecord[]>()
  #count = 0

  /** @param prefix of the topics, which is left out wherever it would be shown */
  constructor(prefix: string) {
    this.#prefix = prefix
  }

  /** Reads these topics until the signal. */
  async follow(kafka: Kafka, topics: readonly string[], log: Logger, signal: AbortSignal): Promise<void> {
    await readTopics({
      kafka,
      topics,
      from: 'beginning',
      until: 'forever',
      onRecords: (topic, partition, records) => this.take(topic, partition, records),
      groupPrefix: `${this.#prefix}tour`,
      signal,
      log,
    })
  }

  take(name: string, partition: number, records: readonly TopicRecord[]): void {
    this.#count += records.length
    if (this.#count > MAX_RECORDS) throw new Error(`more than ${MAX_RECORDS} records are not kept`)
    const topic = this.#strip(name)
    const kept = this.#byTopic.get(topic) ?? []
    this.#byTopic.set(topic, kept)
    for (const record of records) {
      const source = headerText(record.headers, SOURCE_HEADER)
      kept.push({
        ...record,
        topic,
        partition,
        position: formatPosition(topic, partition, record.offset),
        source: source === undefined ? undefined : this.#strip(source),
        orderId: record.key?.toString(),
        event: parse(record.value),
      })
    }
  }

  /** In the order in which they were read: within a partition, as they lie. */
  of(topic: string, orderId?: string): TourRecord[] {
    const records = this.#byTopic.get(topic) ?? []
    return records.filter((record) => orderId === undefined || record.orderId === orderId)
  }

  /** How many records of each order a topic has, by order id. */
  countByOrder(topic: string, orderIds: readonly string[]): Map<string, number> {
    const counts = new Map(orderIds.map((orderId) => [orderId, 0]))
    for (const { orderId = '' } of this.of(topic)) {
      const count = counts.get(orderId)
      if (count !== undefined) counts.set(orderId, count + 1)
    }
    return counts
  }

  #strip(text: string): string {
    return text.startsWith(this.#prefix) ? text.slice(this.#prefix.length) : text
  }
}

function parse(value: Buffer | null): TourEvent | undefined {
  try {
    const parsed: unknown = JSON.parse(value?.toString() ?? '')
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Of an event, what says most about it in little room. */
const SHOWN_FIELDS = ['type', 'status', 'total', 'amount', 'currency', 'processedBy', 'authorisationId']

/** A record in two lines: where it lies, its key and what caused it; and some of what it says. */
export function formatRecord({ position, orderId, event, value, source }: TourRecord): string[] {
  const cause = source === undefined ? '' : `  source ${source}`
  const shown = Object.entries(event ?? {}).filter(([name]) => SHOWN_FIELDS.includes(name))
  const text =
    event === undefined ? (value?.toString() ?? '(no value)') : excerptOf(Object.fromEntries(shown))
  return [`${position}  key ${orderId ?? '(none)'}${cause}`, `  ${text}`]
}

function excerptOf(fields: object): string {
  return `${JSON.stringify(fields).slice(0, -1)},…}`
}
