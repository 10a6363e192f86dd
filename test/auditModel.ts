/**
 * A plain model of the pipeline for the tests of the auditor: orders go through services that are a few lines each, on
 * logs and tables that are lists, and every step has a time. So a history can be looked at as it was at any moment, as
 * one would find it while it was made; and it can be spoiled on purpose.
 */
import type { LedgerRow, OutcomeRow, OutcomeTable } from '../lib/auditRows.ts'
import type { StockRow } from '../lib/auditStock.ts'
import { DEAD_LETTER_HEADER, DROPPED_HEADER, formatPosition, REDRIVES_HEADER } from '../lib/record.ts'
import type { BoundsByPartition } from '../lib/topicBounds.ts'
import { type GroupName, listTopics, type TopicTable } from '../lib/topics.ts'

export interface ModelRecord {
  topic: string
  partition: number
  offset: number
  key: string | null
  value: string
  headers: Record<string, string>
  writtenAt: number
  /** When its transaction was committed; never for a record that is to stay unseen. */
  committedAt: number
}

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
  validatedAt?: ModelRecord
}

export interface StoredRow extends OutcomeRow {
  table: OutcomeTable
  at: number
}

type Timed<Row> = Row & { at: number }

const SKUS = ['SKU-1', 'SKU-2', 'SKU-3']
const RECEIVED = 100_000
const OCCURRED_AT = '2026-01-01T12:00:00.000Z'
const NO_ORDER = 'no order'
/** What the schema of an OrderPlaced wants besides. */
export const PLACED = {
  eventId: 'model',
  occurredAt: OCCURRED_AT,
  customerId: 'cust-1',
  placedAt: OCCURRED_AT,
}
/** What the schema of an OrderValidated or an OrderRejected wants besides. */
const ENRICHED = {
  ...PLACED,
  status: 'PENDING',
  validationStatus: 'VALID',
  processedBy: 'model',
  validatedAt: OCCURRED_AT,
  customer: { id: 'cust-1', name: 'Ada', email: 'ada@example.com', tier: 'gold', country: 'France' },
  reasons: [{ code: 'model', message: 'the model said so' }],
}

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
  /** Whether fulfilment decides, and stock and payment are settled. */
  isDecided: boolean
}

export class Model {
  readonly topics: TopicTable
  readonly partitions: number
  readonly isDecided: boolean
  readonly random: () => number
  readonly orders: ModelOrder[] = []
  readonly #byId = new Map<string, ModelOrder>()
  readonly logs = new Map<string, ModelRecord[][]>()
  outcomes: StoredRow[] = []
  ledger: Timed<LedgerRow>[] = []
  readonly stockMoves: Timed<{ sku: string; from: StockColumn; to: StockColumn; quantity: number }>[] = []
  readonly receipts = new Map(SKUS.map((sku) => [sku, RECEIVED]))
  now = 0
  #tasks: Generator<void>[] = []

  constructor({ topics, partitions, seed, orders, isDecided }: ModelOptions) {
    this.topics = topics
    this.partitions = partitions
    this.isDecided = isDecided
    this.random = randomFrom(seed)
    for (const { name } of listTopics(topics)) {
      this.logs.set(
        name,
        Array.from({ length: partitions }, () => []),
      )
    }
    this.#tasks.push(this.#produce(orders))
    for (let partition = 0; partition < partitions; partition++) {
      this.#tasks.push(this.#validate(partition), this.#reserve(partition), this.#authorise(partition))
      for (const group of ['validator', 'inventory', 'payment'] as const) {
        this.#tasks.push(this.#redrive(group, partition))
      }
      if (isDecided) {
        this.#tasks.push(
          this.#decide(partition),
          this.#settleStock(partition),
          this.#settlePayment(partition),
        )
      }
    }
  }

  /** Lets all work until nothing is left to do, in any order. */
  run(): void {
    for (let idle = 0; idle < this.#tasks.length * 20; ) {
      const before = this.now
      this.#tasks[this.#below(this.#tasks.length)]!.next()
      idle = this.now === before ? idle + 1 : 0
    }
  }

  #below(end: number): number {
    return Math.floor(this.random() * end)
  }

  #chance(share: number): boolean {
    return this.random() < share
  }

  records(topic: string): ModelRecord[] {
    return this.logs.get(topic)!.flat()
  }

  orderOf(id: string): ModelOrder | undefined {
    return this.#byId.get(id)
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
      if (this.#chance(0.1)) this.#place({ ...order, fate: 'duplicate' })
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
    const items = Array.from({ length: 1 + this.#below(3) }, () => {
      return {
        sku: SKUS[this.#below(SKUS.length)]!,
        name: 'Thing',
        quantity: 1 + this.#below(3),
        unitPrice: 100 + this.#below(900),
      }
    })
    const groups = ['validator', 'inventory', 'payment'] as const
    return {
      id,
      partition: this.#below(this.partitions),
      items,
      total: items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
      currency: this.#chance(0.5) ? 'EUR' : 'GBP',
      fate: this.#chance(0.8) ? 'valid' : this.#chance(0.7) ? 'rejected' : 'poison',
      stumbles: this.#chance(0.1) ? groups[this.#below(groups.length)] : undefined,
      isInStock: this.#chance(0.85),
      isGood: this.#chance(0.85),
    }
  }

  /**
   * Works a topic off, with what is redriven: effects, then records one by one, then the commit. Anything can be seen
   * in between.
   */
  *#work(
    group: GroupName,
    input: string,
    partition: number,
    handle: (records: ModelRecord[]) => Generator<void, Outgoing[]>,
  ): Generator<void> {
    const positions = [0, 0]
    const logs = [
      this.logs.get(input)![partition]!,
      this.logs.get(this.topics.retries[group].name)![partition]!,
    ]
    for (;;) {
      yield
      const taken = logs.map((log, index) => {
        const batch = log.slice(positions[index], positions[index]! + 1 + this.#below(4))
        const open = batch.findIndex(({ committedAt }) => committedAt > this.now)
        return open < 0 ? batch : batch.slice(0, open)
      })
      const records = taken
        .flat()
        .filter(({ headers, topic }) => topic === input || isRedriveOf(headers, input))
      if (taken.flat().length === 0) continue
      const written: ModelRecord[] = []
      for (const { topic, key, value, headers } of yield* handle(records)) {
        written.push(this.write(topic, partition, key, value, headers, Number.POSITIVE_INFINITY))
        yield
      }
      this.now++
      for (const record of written) record.committedAt = this.now
      taken.forEach((batch, index) => {
        positions[index]! += batch.length
      })
    }
  }

  #validate(partition: number): Generator<void> {
    const { ordersRaw, ordersValidated, ordersRejected } = this.topics
    const model = this
    return this.#work('validator', ordersRaw.name, partition, function* (records) {
      return records.flatMap((record) => {
        const order = model.orderOf(record.key!)!
        const fate = record.headers.fate ?? order.fate
        const headers = { source: sourceOf(record) }
        if (fate === 'poison' || stumbles(record, order, 'validator'))
          return [model.#deadLetter('validator', record)]
        const { id, items, total, currency } = order
        const type = fate === 'valid' ? 'OrderValidated' : 'OrderRejected'
        const topic = fate === 'valid' ? ordersValidated.name : ordersRejected.name
        return [
          { topic, key: id, value: { type, ...ENRICHED, orderId: id, items, total, currency }, headers },
        ]
      })
    })
  }

  #reserve(partition: number): Generator<void> {
    const { ordersValidated, inventoryEvents } = this.topics
    const model = this
    return this.#work('inventory', ordersValidated.name, partition, function* (records) {
      const usable = records.filter((record) => !stumbles(record, model.orderOf(record.key!)!, 'inventory'))
      const letters = records.filter((record) => !usable.includes(record))
      model.now++
      for (const record of usable) {
        const order = model.orderOf(record.key!)!
        const status = order.isInStock ? 'RESERVED' : 'REJECTED'
        model.#store('inventory_outcomes', 'reserve', record, {
          type: 'InventoryUpdated',
          orderId: order.id,
          status,
        })
        if (order.isInStock) model.#move(order, 'available', 'reserved')
      }
      yield
      const events = usable.flatMap((record) =>
        model.#stored('inventory_outcomes', 'reserve', record, inventoryEvents.name),
      )
      return [...events, ...letters.map((record) => model.#deadLetter('inventory', record))]
    })
  }

  #authorise(partition: number): Generator<void> {
    const { ordersValidated, paymentEvents } = this.topics
    const model = this
    return this.#work('payment', ordersValidated.name, partition, function* (records) {
      const usable = records.filter((record) => !stumbles(record, model.orderOf(record.key!)!, 'payment'))
      const letters = records.filter((record) => !usable.includes(record))
      for (const record of usable) {
        const order = model.orderOf(record.key!)!
        model.charge(order, 'authorise', order.isGood ? 'authorised' : 'declined')
        yield
      }
      model.now++
      for (const record of usable) {
        const { id: orderId, isGood, total: amount, currency } = model.orderOf(record.key!)!
        const paid = isGood
          ? { type: 'PaymentProcessed', authorisationId: `auth-${orderId}` }
          : { type: 'PaymentFailed' }
        model.#store('payment_outcomes', 'authorise', record, { ...paid, orderId, amount, currency })
      }
      yield
      const events = usable.flatMap((record) =>
        model.#stored('payment_outcomes', 'authorise', record, paymentEvents.name),
      )
      return [...events, ...letters.map((record) => model.#deadLetter('payment', record))]
    })
  }

  /** Decides whatever has both of its verdicts. */
  *#decide(partition: number): Generator<void> {
    const { ordersCompleted, inventoryEvents, paymentEvents } = this.topics
    const decided = new Set<string>()
    for (;;) {
      yield
      for (const order of this.orders.filter(
        (order) => order.partition === partition && !decided.has(order.id),
      )) {
        const verdicts = [inventoryEvents, paymentEvents].map(({ name }) =>
          this.logs
            .get(name)!
            [partition]!.find(({ key, committedAt }) => key === order.id && committedAt <= this.now),
        )
        if (verdicts.includes(undefined)) continue
        decided.add(order.id)
        const { id: orderId, total, currency } = order
        const decision =
          order.isInStock && order.isGood
            ? { type: 'OrderConfirmed', total, currency }
            : { type: 'OrderCancelled' }
        const headers = { source: positionOf(verdicts[1]!) }
        const record = this.write(
          ordersCompleted.name,
          partition,
          orderId,
          { ...decision, orderId },
          headers,
          Number.POSITIVE_INFINITY,
        )
        yield
        record.committedAt = ++this.now
      }
    }
  }

  #settleStock(partition: number): Generator<void> {
    const { ordersCompleted, inventoryEvents } = this.topics
    const model = this
    return this.#work('inventory', ordersCompleted.name, partition, function* (records) {
      const concerned = records.filter((record) => model.orderOf(record.key!)!.isInStock)
      model.now++
      for (const record of concerned) {
        const order = model.orderOf(record.key!)!
        const status = order.isGood ? 'COMMITTED' : 'RELEASED'
        model.#store('inventory_outcomes', 'settle', record, {
          type: 'InventoryUpdated',
          orderId: order.id,
          status,
        })
        model.#move(order, 'reserved', order.isGood ? 'committed' : 'available')
      }
      yield
      return concerned.flatMap((record) =>
        model.#stored('inventory_outcomes', 'settle', record, inventoryEvents.name),
      )
    })
  }

  #settlePayment(partition: number): Generator<void> {
    const { ordersCompleted, paymentEvents } = this.topics
    const model = this
    return this.#work('payment', ordersCompleted.name, partition, function* (records) {
      const concerned = records.filter((record) => model.orderOf(record.key!)!.isGood)
      for (const record of concerned) {
        const order = model.orderOf(record.key!)!
        if (order.isInStock) model.charge(order, 'capture', 'captured')
        else model.charge(order, 'void', 'voided')
        yield
      }
      model.now++
      for (const record of concerned) {
        const { id: orderId, isInStock, total: amount, currency } = model.orderOf(record.key!)!
        const type = isInStock ? 'PaymentCaptured' : 'PaymentVoided'
        model.#store('payment_outcomes', 'settle', record, {
          type,
          orderId,
          amount,
          currency,
          authorisationId: `auth-${orderId}`,
        })
      }
      yield
      return concerned.flatMap((record) =>
        model.#stored('payment_outcomes', 'settle', record, paymentEvents.name),
      )
    })
  }

  /** Settles dead letters as a person would: most are redriven, some twice, some dropped; what is no order may be left. */
  *#redrive(group: GroupName, partition: number): Generator<void> {
    const letters = this.logs.get(this.topics.deadLetters[group].name)![partition]!
    for (let next = 0; ; ) {
      yield
      const letter = letters[next]
      if (!letter || letter.committedAt > this.now) continue
      next++
      const way = this.random()
      if (way < 0.2 && letter.value === NO_ORDER) continue
      const redrives = String(Number(letter.headers[REDRIVES_HEADER] ?? 0) + 1)
      const dropped = way > 0.2 && way < 0.4 ? { [DROPPED_HEADER]: 'of no use' } : {}
      const headers = {
        ...letter.headers,
        [REDRIVES_HEADER]: redrives,
        ...dropped,
        [DEAD_LETTER_HEADER]: positionOf(letter),
      }
      this.write(this.topics.retries[group].name, partition, letter.key, letter.value, headers)
      // A second time the same: it is to have no effect, and the model's services take the first alone.
      if (way > 0.8)
        this.write(this.topics.retries[group].name, partition, letter.key, letter.value, {
          ...headers,
          repeated: 'yes',
        })
    }
  }

  #deadLetter(group: GroupName, record: ModelRecord): Outgoing {
    const { key, value, headers } = record
    return {
      topic: this.topics.deadLetters[group].name,
      key,
      value,
      headers: { ...headers, source: sourceOf(record) },
    }
  }

  #store(table: OutcomeTable, operation: string, record: ModelRecord, event: Record<string, unknown>): void {
    const row = {
      table,
      operation,
      orderId: record.key!,
      source: sourceOf(record),
      event: JSON.stringify(event),
      at: this.now,
    }
    this.outcomes.push(row)
  }

  #stored(table: OutcomeTable, operation: string, record: ModelRecord, topic: string): Outgoing[] {
    const row = this.outcomes.find(
      (row) => row.table === table && row.operation === operation && row.orderId === record.key,
    )!
    return row.source === sourceOf(record)
      ? [{ topic, key: row.orderId, value: row.event, headers: { source: row.source } }]
      : []
  }

  charge({ id, total, currency }: ModelOrder, operation: string, status: string, key = operation): void {
    this.ledger.push({
      idempotencyKey: `${id}/${key}`,
      operation,
      orderId: id,
      amountMinor: total,
      currency,
      status,
      authorisationId: status === 'declined' ? null : `auth-${id}`,
      at: ++this.now,
    })
  }

  #move({ items }: ModelOrder, from: StockColumn, to: StockColumn): void {
    for (const { sku, quantity } of items) this.stockMoves.push({ sku, from, to, quantity, at: this.now })
  }
}

type StockColumn = 'available' | 'reserved' | 'committed'

interface Outgoing {
  topic: string
  key: string | null
  value: unknown
  headers: Record<string, string>
}

export function positionOf({ topic, partition, offset }: ModelRecord): string {
  return formatPosition(topic, partition, offset)
}

/** The position that a record counts under: its own, or for a redriven one the one that it had at first. */
function sourceOf(record: ModelRecord): string {
  return record.headers[DEAD_LETTER_HEADER] === undefined ? positionOf(record) : record.headers.source!
}

function isRedriveOf(
  { source, [DROPPED_HEADER]: dropped, repeated }: Record<string, string>,
  input: string,
): boolean {
  return dropped === undefined && repeated === undefined && source?.startsWith(`${input}/`) === true
}

/** The first time, and for some of them the second time too. */
function stumbles({ headers }: ModelRecord, { id, stumbles }: ModelOrder, group: GroupName): boolean {
  const redrives = Number(headers[REDRIVES_HEADER] ?? 0)
  return stumbles === group && redrives < (id.endsWith('3') ? 2 : 1)
}
