/**
 * Orders over HTTP:
 *
 *   POST /orders         places one; 202 once Kafka has acknowledged it
 *   GET  /orders/:id     its status and timeline
 *   GET  /orders         newest first, by customer and status
 */
import { hash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { withoutNul } from './apiFields.ts'
import type { OrderIntake, PlacementRequest } from './apiIntake.ts'
import type { Database } from './database.ts'
import { Address, Customer, eventIdOf, OrderItem, OrderPlaced, Reason } from './events.ts'
import type { AcceptedOrder, IdempotencyStore } from './idempotency.ts'
import { ORDER_STATUSES, type OrderStatus } from './orderView.ts'
import { findOrder, listOrders, type PageEnd, type ViewedOrder } from './orderViewQueries.ts'
import { Problem, problems } from './problem.ts'
import { MAX_ORDER_BYTES } from './topics.ts'
import { traceparentOfRequest } from './tracingHttp.ts'

const { orderId: OrderId, currency: Currency, placedAt: Timestamp, total: Total } = OrderPlaced.properties
const { customerId: CustomerId } = OrderPlaced.properties
const closed = { additionalProperties: false }

const { name, street, city, postcode, country } = Address.properties
const ShippingAddress = Type.Object(
  {
    name: withoutNul(name),
    street: withoutNul(street),
    city: withoutNul(city),
    postcode: withoutNul(postcode),
    country: withoutNul(country),
  },
  closed,
)

/** What a client says of an order. What can be told at once to be wrong is; the rest the validator finds. */
const PlaceOrder = Type.Object(
  {
    customerId: CustomerId,
    currency: Currency,
    items: Type.Array(
      Type.Object(
        {
          sku: withoutNul(OrderItem.properties.sku),
          name: Type.Optional(withoutNul(OrderItem.properties.name)),
          quantity: Type.Integer({ minimum: 1, maximum: 1e9 }),
          unitPrice: Type.Integer({ minimum: 0, maximum: 1e15, description: 'minor units, tax included' }),
        },
        closed,
      ),
      { minItems: 1, maxItems: 10_000 },
    ),
    total: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1e15,
        description: 'minor units; the sum of the lines when left out',
      }),
    ),
    shippingAddress: Type.Optional(ShippingAddress),
    placedAt: Type.Optional(Timestamp),
  },
  closed,
)
type PlaceOrder = Static<typeof PlaceOrder>

const IDEMPOTENCY_KEY = 'idempotency-key'
const PlaceHeaders = Type.Object({
  [IDEMPOTENCY_KEY]: Type.Optional(
    Type.String({
      pattern: '^[!-~]{1,200}$',
      description: 'The same key and body again within 24 hours: the same answer, and no second order.',
    }),
  ),
})

const Status = Type.Union(ORDER_STATUSES.map((status) => Type.Literal(status)))
// What the API alone knows as accepted is in no list.
const ListedStatus = Type.Union(
  ORDER_STATUSES.filter((status) => status !== 'ACCEPTED').map((status) => Type.Literal(status)),
)
const Accepted = Type.Object({
  orderId: OrderId,
  status: Type.Literal('ACCEPTED'),
  acceptedAt: Timestamp,
  total: Total,
  currency: Currency,
})
const OrderFields = {
  customerId: CustomerId,
  currency: Currency,
  total: Total,
  placedAt: Timestamp,
  updatedAt: Timestamp,
  reasons: Type.Array(Reason),
  shipmentNumber: Type.Optional(Type.String()),
}
const ListedOrder = Type.Object({ orderId: OrderId, status: ListedStatus, ...OrderFields })
const TimelineEvent = Type.Object({
  time: Timestamp,
  type: Type.String(),
  outcome: Type.Optional(
    Type.String({ description: 'where one type says several things: RESERVED, or a verdict' }),
  ),
  topic: Type.String(),
  partition: Type.Integer(),
  offset: Type.Integer(),
  eventId: Type.String(),
})
const OrderDetails = Type.Object({
  orderId: OrderId,
  status: Status,
  ...Type.Partial(Type.Object({ ...OrderFields, acceptedAt: Timestamp })).properties,
  events: Type.Array(TimelineEvent),
})

const ListQuery = Type.Object(
  {
    customerId: Type.Optional(Customer.properties.id),
    status: Type.Optional(ListedStatus),
    limit: Type.Integer({ minimum: 1, maximum: 200, default: 50 }),
    cursor: Type.Optional(Type.String({ maxLength: 300, description: '`next` of the page before' })),
  },
  closed,
)

export interface OrderRoutesOptions {
  database: Database
  store: IdempotencyStore
  intake: OrderIntake
  /** Who asks, by the token of the request; see apiAccess. */
  callerOf(request: { headers: { authorization?: string | undefined } }): string
}

export function addOrderRoutes(server: FastifyInstance, options: OrderRoutesOptions): void {
  const { database, store, intake, callerOf } = options
  const tags = ['orders']
  server.post<{ Body: PlaceOrder; Headers: Static<typeof PlaceHeaders> }>(
    '/orders',
    {
      // Before the body is read: what cannot be taken should not use memory.
      preParsing: async () => intake.requireRoom(),
      schema: {
        tags,
        summary: 'Places an order; accepted once Kafka has acknowledged it',
        body: PlaceOrder,
        headers: PlaceHeaders,
        response: { 202: Accepted, ...problems(400, 401, 409, 413, 415, 422, 503) },
        security: [{ token: [] }],
      },
    },
    async (request, reply) => {
      const { body, headers } = request
      const total = body.total ?? sumOf(body)
      const placement = toRequest(body, total, callerOf({ headers }), headers[IDEMPOTENCY_KEY])
      const traceparent = traceparentOfRequest(request)
      const { orderId, acceptedAtMs } = await intake.place({ ...placement, traceparent })
      reply.code(202).header('location', `/orders/${orderId}`)
      const acceptedAt = new Date(acceptedAtMs).toISOString()
      return { orderId, status: 'ACCEPTED', acceptedAt, total, currency: body.currency }
    },
  )

  server.get<{ Params: { id: string } }>(
    '/orders/:id',
    {
      schema: {
        tags,
        summary: 'The status of an order, and all that happened to it',
        params: Type.Object({ id: OrderId }),
        response: { 200: OrderDetails, ...problems(400, 404, 503) },
      },
    },
    async ({ params: { id } }) => {
      // In this order: an order moves from the one to the other.
      const accepted = await store.findAccepted(id)
      const viewed = await findOrder(database, id)
      if (!viewed && !accepted) throw new Problem('unknown-order', `nothing is known of an order ${id}`)
      return describeOrder(id, viewed, accepted)
    },
  )

  server.get<{ Querystring: Static<typeof ListQuery> }>(
    '/orders',
    {
      schema: {
        tags,
        summary: 'Orders that were validated or rejected, newest first by when they were placed',
        querystring: ListQuery,
        response: {
          200: Type.Object({ orders: Type.Array(ListedOrder), next: Type.Optional(Type.String()) }),
          ...problems(400, 503),
        },
      },
    },
    async ({ query: { limit, cursor, ...filter } }) => {
      const after = cursor === undefined ? undefined : readCursor(cursor)
      const { orders, end } = await listOrders(database, filter, { after, limit })
      return { orders, ...(end && { next: writeCursor(end) }) }
    },
  )
}

/** @throws Problem when it is more than an order can carry */
function sumOf({ items }: PlaceOrder): number {
  const sum = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  if (sum <= 1e15) return sum
  const detail = 'the sum of the lines is above 1000000000000000 minor units'
  throw new Problem('invalid-request', detail, [{ in: 'body', pointer: '#/items', detail }])
}

/** @throws Problem when the order is too large for Kafka */
function toRequest(
  body: PlaceOrder,
  total: number,
  caller: string,
  key: string | undefined,
): PlacementRequest {
  const write = (accepted: AcceptedOrder) => Buffer.from(JSON.stringify(toEvent(body, total, accepted)))
  const accepted = { orderId: newOrderId(), acceptedAtMs: Date.now() }
  const written = write(accepted)
  const bytes = written.length
  // Nearly always it is sent as what it was taken in as.
  const encode = (as: AcceptedOrder) => (as.orderId === accepted.orderId ? written : write(as))
  if (bytes > MAX_ORDER_BYTES) {
    throw new Problem('order-too-large', `the order takes ${bytes} bytes, and ${MAX_ORDER_BYTES} are taken`)
  }
  return { ...accepted, caller, key, fingerprint: key && fingerprintOf(body), bytes, encode }
}

/** Sorts by time, so that rows of the same time lie together, and cannot be guessed. */
function newOrderId(): string {
  return `ord-${Date.now().toString(36)}-${randomBytes(8).toString('hex')}`
}

function toEvent(body: PlaceOrder, total: number, { orderId, acceptedAtMs }: AcceptedOrder): OrderPlaced {
  const acceptedAt = new Date(acceptedAtMs).toISOString()
  return {
    type: 'OrderPlaced',
    eventId: eventIdOf(orderId, 'OrderPlaced'),
    occurredAt: acceptedAt,
    orderId,
    customerId: body.customerId,
    placedAt: body.placedAt ?? acceptedAt,
    currency: body.currency,
    items: body.items.map(({ sku, name = sku, quantity, unitPrice }) => ({ sku, name, quantity, unitPrice })),
    total,
    ...(body.shippingAddress && { shippingAddress: body.shippingAddress }),
  }
}

/** The same for bodies that say the same, however they are written down. */
function fingerprintOf({
  customerId,
  currency,
  items,
  total,
  shippingAddress,
  placedAt,
}: PlaceOrder): string {
  const address = shippingAddress && Object.entries(shippingAddress).sort(([a], [b]) => (a < b ? -1 : 1))
  const lines = items.map(({ sku, name, quantity, unitPrice }) => [sku, name, quantity, unitPrice])
  const said = JSON.stringify([customerId, currency, lines, total, address, placedAt])
  return hash('sha256', said, 'base64url')
}

type Found = Awaited<ReturnType<typeof findOrder>>

/** Of an order of which only verdicts have been seen yet, no more is known than that it was valid. */
function describeOrder(orderId: string, viewed: Found, accepted: AcceptedOrder | undefined) {
  const status: OrderStatus = viewed ? 'PENDING' : 'ACCEPTED'
  const order: Partial<ViewedOrder> & { orderId: string; status: OrderStatus } = viewed?.order ?? {
    orderId,
    status,
  }
  return {
    ...order,
    ...(accepted && { acceptedAt: new Date(accepted.acceptedAtMs).toISOString() }),
    events: viewed?.events ?? [],
  }
}

function writeCursor({ placedAtMs, orderId }: PageEnd): string {
  return Buffer.from(JSON.stringify([placedAtMs, orderId])).toString('base64url')
}

/** @throws Problem for anything that was not a cursor of ours */
function readCursor(cursor: string): PageEnd {
  try {
    const [placedAtMs, orderId] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    if (Number.isSafeInteger(placedAtMs) && typeof orderId === 'string' && !orderId.includes('\0')) {
      return { placedAtMs: placedAtMs as number, orderId }
    }
  } catch {
    // Not JSON, or no list: refused below as what it is.
  }
  const detail = 'is not the `next` of a page before'
  throw new Problem('invalid-request', `cursor ${detail}`, [
    { in: 'querystring', pointer: '#/cursor', detail },
  ])
}
