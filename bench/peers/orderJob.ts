/** The validator's job for the peers that are in TypeScript: with the rules, schema and window of the real one. */
import type { Config } from '../../kafkaConfig.ts'
import { toDeadLetter } from '../../lib/deadLetters.ts'
import { DedupeWindow } from '../../lib/dedupeWindow.ts'
import { UnusableRecordError } from '../../lib/errors.ts'
import { eventIdOf, type OrderPlaced, type OrderRejected, type OrderValidated } from '../../lib/events.ts'
import { findReasons, type KnownCustomer } from '../../lib/orderRules.ts'
import { formatPosition, SOURCE_HEADER } from '../../lib/record.ts'
import type { TransactionRecord } from '../../lib/transaction.ts'

export interface JobRecord {
  topic: string
  partition: number
  offset: number
  timestampMs: number
  key: Buffer | null
  value: Buffer | null
}

/** What is known when an order is decided. */
export interface JobKnowledge {
  customer: KnownCustomer | undefined
  hasProduct(sku: string): boolean
}

export class OrderJob {
  readonly #config: Config
  readonly #processedBy: string
  readonly #windows = new Map<number, DedupeWindow>()

  constructor(config: Config, name: string) {
    this.#config = config
    this.#processedBy = `${name}-${process.pid}`
  }

  /** The order in a record, or the dead letter that becomes of it. */
  decode(record: JobRecord): { order: OrderPlaced } | { letter: TransactionRecord } {
    try {
      return { order: this.#decode(record) }
    } catch (error) {
      if (!(error instanceof UnusableRecordError)) throw error
      const { topic, partition, offset, timestampMs } = record
      const raw = {
        ...record,
        source: formatPosition(topic, partition, offset),
        headers: {},
        readOffset: offset,
        readTimestampMs: timestampMs,
        isDone: false,
      }
      return { letter: toDeadLetter(this.#config.topics.deadLetters.validator.name, raw, error.message) }
    }
  }

  /**
   * What becomes of an order; once for each record, in their order.
   *
   * @param now as it is written into the event: whoever decides batches takes it once for each
   */
  decide(
    record: JobRecord,
    order: OrderPlaced,
    { customer, hasProduct }: JobKnowledge,
    now = new Date().toISOString(),
  ): TransactionRecord {
    const { topic, partition, offset, timestampMs } = record
    const source = formatPosition(topic, partition, offset)
    const repetition = this.#windowOf(partition).admit(order, source, timestampMs)
    const knowledge = {
      customer: () => customer,
      product: (sku: string) => (hasProduct(sku) ? ('known' as const) : ('unknown' as const)),
    }
    const reasons = findReasons(order, repetition, knowledge, this.#config.orders.limitMinor)
    const { ordersValidated, ordersRejected } = this.#config.topics
    const { orderId, customerId, placedAt, currency, items, total, shippingAddress } = order
    const headers = { [SOURCE_HEADER]: source }
    if (reasons.length > 0) {
      const event: OrderRejected = {
        type: 'OrderRejected',
        eventId: eventIdOf(orderId, 'OrderRejected', repetition === 'first' ? undefined : source),
        occurredAt: now,
        orderId,
        customerId,
        placedAt,
        currency,
        total,
        reasons,
      }
      return { topic: ordersRejected.name, key: orderId, value: ordersRejected.encode(event), headers }
    }
    const event: OrderValidated = {
      type: 'OrderValidated',
      eventId: eventIdOf(orderId, 'OrderValidated'),
      occurredAt: now,
      orderId,
      customerId,
      placedAt,
      currency,
      items,
      total,
      ...(shippingAddress && { shippingAddress }),
      status: 'PENDING',
      validationStatus: 'VALID',
      processedBy: this.#processedBy,
      validatedAt: now,
      customer: customer!.customer,
    }
    return { topic: ordersValidated.name, key: orderId, value: ordersValidated.encode(event), headers }
  }

  /** @throws UnusableRecordError */
  #decode({ key, value }: JobRecord): OrderPlaced {
    if (value === null) throw new UnusableRecordError('no value')
    const order = this.#config.topics.ordersRaw.decode(value)
    if (key === null) throw new UnusableRecordError('no key')
    const text = key.toString()
    if (text !== order.orderId) throw new UnusableRecordError(`key '${text}' is not '${order.orderId}'`)
    return order
  }

  #windowOf(partition: number): DedupeWindow {
    let window = this.#windows.get(partition)
    if (!window) {
      window = new DedupeWindow(this.#config.dedupe)
      this.#windows.set(partition, window)
    }
    return window
  }
}

/** Key and value as they are, with the header alone: what a client costs without a job. */
export function copyOf({ topic, partition, offset, key, value }: JobRecord, to: string): TransactionRecord {
  return { topic: to, key, value, headers: { [SOURCE_HEADER]: formatPosition(topic, partition, offset) } }
}
