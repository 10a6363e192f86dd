/** `GET /orders/:id/way`: one order's way through the pipeline, as JSON. */
import type { FastifyInstance } from 'fastify'
import { sleep } from './async.ts'
import type { DashboardContext } from './dashboard.ts'
import { type Database, openDatabase } from './database.ts'
import { ConfigurationError, describe } from './errors.ts'
import { type HopRow, type HopStore, openHopStore } from './hopStore.ts'
import { parseInstant } from './instant.ts'
import { describeWay, type WayOfOrder } from './orderWay.ts'
import { OrderWayReader, READER_LIMITS } from './orderWayReader.ts'
import {
  findMail,
  type LedgerRow,
  readOrderRows,
  readStock,
  type StockRow,
  type StoredOutcome,
} from './orderWayRows.ts'
import { letterTopics, type SearchProgress, searchOrder } from './orderWaySearch.ts'
import { Problem } from './problem.ts'
import { orderTopics } from './topics.ts'

/** What is under way ends with the signal. */
export type OrderWayContext = Omit<DashboardContext, 'live'>

/** The answer. Times in milliseconds since 1970, money in minor units. */
export interface OrderWayAnswer extends WayOfOrder {
  orderId: string
  /** In all topics. */
  partition: number
  /** When the API took it. */
  acceptedAtMs?: number
  outcomes: StoredOutcome[]
  ledger: LedgerRow[]
  stock: StockRow[]
  mail?: { writtenAtMs: number }
  /** Through the Command Center; empty where orders do not go through it. */
  hops: HopRow[]
  /** What was not looked at, in words. */
  notes: string[]
}

const ORDER_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/
const CONNECTIONS = 2
const MAX_AT_ONCE = 4
const MAX_REMEMBERED = 100
const MAX_HOPS = 200
const HOPS_WITHIN_MS = 2_000
/** Beside the time that fulfilment waits for verdicts: the decision is carried out. */
const SETTLED_WITHIN_MS = 10_000

/**
 * Adds the route; the server answers errors as lib/problem.ts does. Kafka and PostgreSQL are connected to by the first
 * request and not before, and whoever asks while one of them is away gets 503.
 */
export function addOrderWayRoutes(server: FastifyInstance, context: OrderWayContext): void {
  const ways = new OrderWays(context)
  let underWay = 0
  server.addHook('onClose', () => ways.close())
  server.get<{ Params: { id: string }; Querystring: { at?: string } }>(
    '/orders/:id/way',
    async ({ params, query }, reply) => {
      reply.header('cache-control', 'no-store')
      const atMs = readTime(query.at)
      if (!ORDER_ID.test(params.id)) {
        throw new Problem(
          'invalid-request',
          'an order id has up to 64 letters, digits and . _ : -, and begins with a letter or digit',
        )
      }
      if (underWay >= MAX_AT_ONCE) {
        throw new Problem('unavailable', `${MAX_AT_ONCE} orders are being looked up already: ask again`)
      }
      underWay++
      try {
        return await ways.find(params.id, atMs)
      } finally {
        underWay--
      }
    },
  )
}

/** @throws Problem */
function readTime(at: unknown): number | undefined {
  if (at === undefined || at === '') return undefined
  try {
    return parseInstant('at', String(at))
  } catch (error) {
    if (error instanceof ConfigurationError) throw new Problem('invalid-request', error.message)
    throw error
  }
}

class OrderWays {
  readonly #context: OrderWayContext
  readonly #reader: OrderWayReader
  readonly #remembered = new Map<string, SearchProgress>()
  #database: Database | undefined
  #hopStore: Promise<HopStore> | undefined

  constructor(context: OrderWayContext) {
    this.#context = context
    const { topics } = context.config
    const names = [...orderTopics(topics), ...letterTopics(topics)].map(({ name }) => name)
    this.#reader = new OrderWayReader(() => context.createKafka('order-way', READER_LIMITS), names)
  }

  /** @throws Problem when there is no such order; UnavailableError */
  async find(orderId: string, atMs: number | undefined): Promise<OrderWayAnswer> {
    const { config, log, signal } = this.#context
    const { topics, topicPrefix, traceUrlTemplate } = config
    this.#database ??= openDatabase(config.databaseUrl, CONNECTIONS, log)
    const rows = await readOrderRows(this.#database, orderId)
    const { acceptedAtMs, outcomes, ledger } = rows
    const aheadMs = config.decisionTimeoutMs + SETTLED_WITHIN_MS
    const { partition, records, notes, progress } = await searchOrder(
      { reader: this.#reader, topics, topicPrefix, aheadMs, signal },
      {
        orderId,
        positions: rows.positions,
        atMs: atMs ?? acceptedAtMs,
        before: this.#remembered.get(orderId),
      },
    )
    if (records.length === 0) {
      const where = notes.length > 0 ? notes.join('; ') : `partition ${partition} holds no record of it`
      throw new Problem('unknown-order', `nothing of ${orderId} was found: ${where}`)
    }
    this.#remember(orderId, progress)
    const isFromApi = acceptedAtMs !== undefined
    const way = describeWay(records, { topics, topicPrefix, isFromApi, traceUrlTemplate })
    const [stock, mailAtMs, hops] = await Promise.all([
      readStock(this.#database, way.skus),
      config.mail.smtpUrl === undefined && way.end === 'CONFIRMED'
        ? findMail(config.mail.outboxDir, orderId)
        : undefined,
      topics.isRouted ? this.#readHops(orderId, notes) : [],
    ])
    return {
      orderId,
      partition,
      ...way,
      ...(acceptedAtMs !== undefined && { acceptedAtMs }),
      ...(mailAtMs !== undefined && { mail: { writtenAtMs: mailAtMs } }),
      outcomes,
      ledger,
      stock,
      hops,
      notes,
    }
  }

  async close(): Promise<void> {
    const store = await this.#hopStore?.catch(() => undefined)
    await Promise.all([this.#reader.close(), this.#database?.end(), store?.close()])
  }

  #remember(orderId: string, progress: SearchProgress): void {
    this.#remembered.delete(orderId)
    this.#remembered.set(orderId, progress)
    const [oldest] = this.#remembered.keys()
    if (this.#remembered.size > MAX_REMEMBERED) this.#remembered.delete(oldest!)
  }

  /** The way can be told without them. */
  async #readHops(orderId: string, notes: string[]): Promise<HopRow[]> {
    const { config, log, signal } = this.#context
    this.#hopStore ??= openHopStore(config, log, signal)
    const opening = this.#hopStore
    const late = sleep(HOPS_WITHIN_MS).then(() => Promise.reject(new Error('no answer in time')))
    try {
      const hops = await Promise.race([opening.then((store) => store.trail(orderId)), late])
      if (hops.length > MAX_HOPS) notes.push(`only the first ${MAX_HOPS} of ${hops.length} hops are told`)
      return hops.slice(0, MAX_HOPS)
    } catch (error) {
      log.debug(`hops of ${orderId}: ${describe(error)}`)
      notes.push('the metadata log does not answer: the hops are missing here')
      opening.catch(() => {
        if (this.#hopStore === opening) this.#hopStore = undefined
      })
      return []
    }
  }
}
