/**
 * A plain model of the pipeline for the tests of the auditor: orders go through services that are a few lines each, on
 * logs and tables that are lists, and every step has a time. So a history can be looked at as it was at any moment, as
 * one would find it while it was made; and it can be spoiled on purpose.
 */
import type { LedgerRow, OutcomeRow } from '../lib/auditRows.ts'
import type { StockRow } from '../lib/auditStock.ts'
import type { BoundsByPartition } from '../lib/topicBounds.ts'
import { type GroupName, listTopics, type TopicTable } from '../lib/topics.ts'
import { type ModelRecord, NO_ORDER, PLACED } from './auditModelRecords.ts'
import { startServices } from './auditModelServices.ts'
import { STUMBLING } from './auditModelWork.ts'

export interface ModelOrder {
  id: string
  partition: number
  items: { sku: string; name: string; quantity: number; unitPrice: number }[]
  total: number
  currency: string
  fate: 'valid' | 'rejected' | 'poison' | 'duplicate'
  /** Where it cannot be worked on at first. */
  stumbles: GroupName | undefined
  isInStock: boolean
  isGood: boolean
  risk: 'pass' | 'warning' | 'fail'
  discountMinor: number
  /** Fulfilment waits for nobody. */
  isHasty: boolean
}

export interface StoredRow extends OutcomeRow {
  table: string
  at: number
}

type Timed<Row> = Row & { at: number }

const SKUS = ['SKU-1', 'SKU-2', 'SKU-3']
const RECEIVED = 100_000

/** Numbers that a seed determines: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface ModelOptions {
  topics: TopicTable
  partitions: number
  seed: number
  orders: number
  /** Groups that do not run. */
  without?: readonly GroupName[]
}

export class Model {
  readonly topics: TopicTable
  readonly partitions: number
  readonly random: () => number
  readonly orders: ModelOrder[] = []
  readonly #byId = new Map<string, ModelOrder>()
  readonly logs = new Map<string, ModelRecord[][]>()
  /** Records by the position that they name as their cause. */
  readonly #bySource = new Map<string, ModelRecord[]>()
  outcomes: StoredRow[] = []
  ledger: Timed<LedgerRow>[] = []
  readonly stockMoves: Timed<{ sku: string; from: StockColumn; to: StockColumn; quantity: number }>[] = []
  readonly receipts = new Map(SKUS.map((sku) => [sku, RECEIVED]))
  now = 0
  #tasks: Generator<void>[] = []

  constructor({ topics, partitions, seed, orders, without = [] }: ModelOptions) {
    this.topics = topics
    this.partitions = partitions
    this.random = randomFrom(seed)
    for (const { name } of listTopics(topics)) {
      this.logs.set(
        name,
        Array.from({ length: partitions }, () => []),
      )
    }
    this.#tasks.push(this.#produce(orders))
    for (let partition = 0; partition < partitions; partition++) {
      this.#tasks.push(...startServices(this, partition, without))
    }
  }

  /** Lets all work until nothing is left to do, in any order. */
  run(): void {
    for (let idle = 0; idle < this.#tasks.length * 60; ) {
      const before = this.now
      this.#tasks[this.below(this.#tasks.length)]!.next()
      idle = this.now === before ? idle + 1 : 0
    }
  }

  below(end: number): number {
    return Math.floor(this.random() * end)
  }

  chance(share: number): boolean {
    return this.random() < share
  }

  records(topic: string): ModelRecord[] {
    return this.logs.get(topic)!.flat()
  }

  orderOf(record: ModelRecord): ModelOrder {
    return this.#byId.get(record.key!)!
  }

  /** What can be seen of the records that name this position as their cause. */
  answersTo(source: string): ModelRecord[] {
    return (this.#bySource.get(source) ?? []).filter(({ committedAt }) => committedAt <= this.now)
  }

  /** A record at the end of its partition, seen by everybody unless told otherwise. */
  write(
    topic: string,
    partition: number,
    key: string | null,
    value: unknown,
    headers: Record<string, string> = {},
    committedAt = this.now + 1,
  ): ModelRecord {
    const log = this.logs.get(topic)![partition]!
    this.now++
    const record = {
      topic,
      partition,
      offset: log.length,
      key,
      value: typeof value === 'string' ? value : JSON.stringify(value),
      headers,
      writtenAt: this.now,
      committedAt,
    }
    log.push(record)
    const answers = this.#bySource.get(headers.source ?? '')
    if (answers) answers.push(record)
    else this.#bySource.set(headers.source ?? '', [record])
    return record
  }

  /** How the logs ended at a moment. */
  boundsAt(
    at: number,
    topics: readonly string[],
    deletedUntil: (topic: string) => number = () => 0,
  ): BoundsByPartition {
    const bounds = topics.map((topic) => {
      const partitions = this.logs.get(topic)!.map((log, partition) => {
        const high = log.filter(({ writtenAt }) => writtenAt <= at).length
        const low = log.filter(({ writtenAt }) => writtenAt <= deletedUntil(topic)).length
        return [partition, { low, high }] as const
      })
      return [topic, new Map(partitions)] as const
    })
    return new Map(bounds)
  }

  /** The stock as it was at a moment. */
  stockAt(at: number): StockRow[] {
    return SKUS.map((sku) => {
      const row = { sku, received: RECEIVED, available: RECEIVED, reserved: 0, committed: 0 }
      for (const move of this.stockMoves) {
        if (move.sku !== sku || move.at > at) continue
        row[move.from] -= move.quantity
        row[move.to] += move.quantity
      }
      return row
    })
  }

  *#produce(count: number): Generator<void> {
    for (let index = 0; index < count; index++) {
      const order = this.#makeOrder(`ord-${index}`)
      this.orders.push(order)
      this.#byId.set(order.id, order)
      this.#place(order)
      // The same order once more: to be refused.
      if (this.chance(0.1)) this.#place({ ...order, fate: 'duplicate' })
      yield
    }
    for (;;) yield
  }

  #place({ id, partition, items, total, currency, fate }: ModelOrder): void {
    const order = { type: 'OrderPlaced', ...PLACED, orderId: id, items, total, currency }
    this.write(this.topics.ordersRaw.name, partition, id, fate === 'poison' ? NO_ORDER : order, {
      fate,
    })
  }

  #makeOrder(id: string): ModelOrder {
    const items = Array.from({ length: 1 + this.below(3) }, () => {
      return {
        sku: SKUS[this.below(SKUS.length)]!,
        name: 'Thing',
        quantity: 1 + this.below(3),
        unitPrice: 100 + this.below(900),
      }
    })
    return {
      id,
      partition: this.below(this.partitions),
      items,
      total: items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
      currency: this.chance(0.5) ? 'EUR' : 'GBP',
      fate: this.chance(0.8) ? 'valid' : this.chance(0.7) ? 'rejected' : 'poison',
      stumbles: this.chance(0.15) ? STUMBLING[this.below(STUMBLING.length)] : undefined,
      isInStock: this.chance(0.8),
      isGood: this.chance(0.8),
      risk: this.chance(0.7) ? 'pass' : this.chance(0.5) ? 'warning' : 'fail',
      discountMinor: this.chance(0.5) ? 0 : this.below(90),
      isHasty: this.chance(0.2),
    }
  }

  /** Stores an outcome, once: there is no row of this order and operation yet. */
  store(table: string, operation: string, orderId: string, source: string, event: object): void {
    this.outcomes.push({ table, operation, orderId, source, event: JSON.stringify(event), at: this.now })
  }

  stored(table: string, operation: string, orderId: string): StoredRow | undefined {
    return this.outcomes.find(
      (row) => row.table === table && row.operation === operation && row.orderId === orderId,
    )
  }

  /** A row of the ledger, with the amount of the order unless told otherwise. */
  charge(
    { id, total, currency }: Pick<ModelOrder, 'id' | 'total' | 'currency'>,
    operation: string,
    status: string,
    key = operation,
    authorisationId = status === 'declined' ? null : `auth-${id}`,
  ): void {
    this.ledger.push({
      idempotencyKey: `${id}/${key}`,
      operation,
      orderId: id,
      amountMinor: total,
      currency,
      status,
      authorisationId,
      at: ++this.now,
    })
  }

  inLedger(orderId: string, status: string): Timed<LedgerRow> | undefined {
    return this.ledger.find((row) => row.orderId === orderId && row.status === status)
  }

  move({ items }: ModelOrder, from: StockColumn, to: StockColumn): void {
    for (const { sku, quantity } of items) this.stockMoves.push({ sku, from, to, quantity, at: this.now })
  }
}

type StockColumn = 'available' | 'reserved' | 'committed'
