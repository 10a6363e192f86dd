/**
 * Every event of the pipeline: written once as a schema, which gives the static type, the compiled check and,
 * later, the published documents.
 *
 * What they share: `type` says what it is; `eventId` is the same whenever the same thing is said again about the
 * same order, so a reader can recognise a repetition; `occurredAt` is when; money is in minor units and prices
 * include tax; times are ISO 8601 in UTC with milliseconds.
 */
import Type, { type Static, type TProperties } from 'typebox'
import { Format } from 'typebox/format'

const UTC_MILLISECONDS =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/

/** 2026-11-21T07:36:03.000Z, and a date that exists: 30 February is none. */
Format.Set('utc-milliseconds', (text) => {
  if (!UTC_MILLISECONDS.test(text)) return false
  // Only the last days of a month depend on which month it is.
  if (text.slice(8, 10) <= '28') return true
  const timeMs = Date.parse(text)
  return !Number.isNaN(timeMs) && new Date(timeMs).toISOString() === text
})

const Timestamp = Type.String({ format: 'utc-milliseconds' })
const Identifier = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$' })
const Sku = Type.String({ minLength: 1, maxLength: 64 })
const Text = Type.String({ maxLength: 500 })
const Currency = Type.String({ pattern: '^[A-Z]{3}$' })
/** Wide enough for any order and narrow enough that quantity times price cannot lose a digit unnoticed. */
const MinorUnits = Type.Integer({ minimum: -1e15, maximum: 1e15 })
const Count = Type.Integer({ minimum: -1e9, maximum: 1e9 })

export const Address = Type.Object({
  name: Text,
  street: Text,
  city: Text,
  postcode: Text,
  country: Text,
})

/** One line of an order. `unitPrice` is in minor units of the order's currency, tax included. */
export const OrderItem = Type.Object({
  sku: Sku,
  name: Text,
  quantity: Count,
  unitPrice: MinorUnits,
})
export type OrderItem = Static<typeof OrderItem>

export const Customer = Type.Object({
  id: Identifier,
  name: Text,
  email: Text,
  tier: Type.Union([Type.Literal('standard'), Type.Literal('silver'), Type.Literal('gold')]),
  country: Text,
})
export type Customer = Static<typeof Customer>

const envelope = { eventId: Type.String({ minLength: 1, maxLength: 200 }), occurredAt: Timestamp }
const orderFields = {
  orderId: Identifier,
  customerId: Identifier,
  placedAt: Timestamp,
  currency: Currency,
  items: Type.Array(OrderItem, { minItems: 1, maxItems: 10_000 }),
  total: MinorUnits,
  shippingAddress: Type.Optional(Address),
}

function event<Name extends string, Fields extends TProperties>(type: Name, fields: Fields) {
  return Type.Object({ type: Type.Literal(type), ...envelope, ...fields })
}

export const ProductCreated = event('ProductCreated', {
  sku: Sku,
  name: Text,
  unitPrice: MinorUnits,
  currency: Currency,
})
export const ProductUpdated = event('ProductUpdated', {
  sku: Sku,
  name: Text,
  unitPrice: MinorUnits,
  currency: Currency,
})
export const ProductEvent = Type.Union([ProductCreated, ProductUpdated])
export type ProductEvent = Static<typeof ProductEvent>

export const OrderPlaced = event('OrderPlaced', orderFields)
export type OrderPlaced = Static<typeof OrderPlaced>

export const OrderValidated = event('OrderValidated', {
  ...orderFields,
  status: Type.Literal('PENDING'),
  validationStatus: Type.Literal('VALID'),
  processedBy: Text,
  validatedAt: Timestamp,
  customer: Customer,
})
export type OrderValidated = Static<typeof OrderValidated>

/** `code` for programs, `message` for people; `line` is the index into `items` when one line is at fault. */
export const Reason = Type.Object({
  code: Type.String(),
  message: Type.String(),
  line: Type.Optional(Type.Integer({ minimum: 0 })),
})
export type Reason = Static<typeof Reason>

export const OrderRejected = event('OrderRejected', {
  orderId: Identifier,
  customerId: Identifier,
  placedAt: Timestamp,
  currency: Currency,
  total: MinorUnits,
  reasons: Type.Array(Reason, { minItems: 1 }),
})
export type OrderRejected = Static<typeof OrderRejected>

/** What happened to the stock of an order. `shortages` names the products that could not be had. */
export const InventoryUpdated = event('InventoryUpdated', {
  orderId: Identifier,
  status: Type.Union([
    Type.Literal('RESERVED'),
    Type.Literal('REJECTED'),
    Type.Literal('COMMITTED'),
    Type.Literal('RELEASED'),
  ]),
  availability: Type.Union([Type.Literal('available'), Type.Literal('limited'), Type.Literal('unavailable')]),
  shortages: Type.Array(Type.Object({ sku: Sku, requested: Count, available: Count })),
})
export type InventoryUpdated = Static<typeof InventoryUpdated>

const paymentFields = { orderId: Identifier, amount: MinorUnits, currency: Currency }
export const PaymentProcessed = event('PaymentProcessed', { ...paymentFields, authorisationId: Text })
export const PaymentFailed = event('PaymentFailed', { ...paymentFields, reason: Text })
export const PaymentCaptured = event('PaymentCaptured', { ...paymentFields, authorisationId: Text })
export const PaymentVoided = event('PaymentVoided', { ...paymentFields, authorisationId: Text })
export const PaymentEvent = Type.Union([PaymentProcessed, PaymentFailed, PaymentCaptured, PaymentVoided])
export type PaymentEvent = Static<typeof PaymentEvent>

/** How risky an order is, 0 to 100, and the rules that say so. */
export const FraudAssessed = event('FraudAssessed', {
  orderId: Identifier,
  riskScore: Type.Integer({ minimum: 0, maximum: 100 }),
  verdict: Type.Union([Type.Literal('pass'), Type.Literal('warning'), Type.Literal('fail')]),
  rules: Type.Array(
    Type.Object({ rule: Type.String(), points: Type.Integer({ minimum: 0 }), message: Text }),
  ),
})
export type FraudAssessed = Static<typeof FraudAssessed>

/**
 * What an order costs in the end. subtotal = total + the sum of discounts, and total = net + tax, to the minor unit;
 * `subtotal` is the total that was placed and authorised.
 */
export const OrderPriced = event('OrderPriced', {
  orderId: Identifier,
  currency: Currency,
  subtotal: MinorUnits,
  discounts: Type.Array(Type.Object({ code: Type.String(), message: Text, amount: MinorUnits })),
  total: MinorUnits,
  net: MinorUnits,
  tax: MinorUnits,
  /** In hundredths of a percent: 1900 is 19 %. */
  taxRate: Type.Integer({ minimum: 0, maximum: 10_000 }),
  taxCountry: Text,
})
export type OrderPriced = Static<typeof OrderPriced>

/** The verdict of a judge that needs no event of its own kind. */
export const OrderAssessed = event('OrderAssessed', {
  orderId: Identifier,
  verdict: Type.Union([Type.Literal('pass'), Type.Literal('warning'), Type.Literal('fail')]),
  reasons: Type.Array(Reason),
})
export type OrderAssessed = Static<typeof OrderAssessed>

const decidedFields = {
  orderId: Identifier,
  customerId: Identifier,
  placedAt: Timestamp,
  currency: Currency,
  total: MinorUnits,
  items: Type.Array(Type.Object({ sku: Sku, quantity: Count }), { minItems: 1 }),
}
/** It is carried out. `total` is what it was priced at and is to be captured; `warnings` mark it for a second look. */
export const OrderConfirmed = event('OrderConfirmed', {
  ...decidedFields,
  customer: Customer,
  shipmentNumber: Text,
  warnings: Type.Array(Reason),
})
export type OrderConfirmed = Static<typeof OrderConfirmed>
/** It is not carried out, for all of these reasons. `total` is what it was placed with. */
export const OrderCancelled = event('OrderCancelled', {
  ...decidedFields,
  reasons: Type.Array(Reason, { minItems: 1 }),
})
export type OrderCancelled = Static<typeof OrderCancelled>
/** What became of an order, said once. */
export const OrderCompleted = Type.Union([OrderConfirmed, OrderCancelled])
export type OrderCompleted = Static<typeof OrderCompleted>

/**
 * The event's own id: deterministic, so that the same thing said twice about the same order can be told. What
 * can truly happen twice to one order id (a second, duplicate submission is refused) adds what sets it apart.
 */
export function eventIdOf(orderId: string, type: string, occurrence?: string): string {
  return occurrence === undefined ? `${orderId}/${type}` : `${orderId}/${type}/${occurrence}`
}

/** What one judge alone can be asked for: to judge an order, and to settle what it did for one. */
export const WorkerRequest = Type.Union([OrderValidated, OrderCompleted])
export type WorkerRequest = Static<typeof WorkerRequest>

/** What a worker has answered to a request of its own: any event about an order. */
export const Answer = Type.Object({ type: Text, ...envelope, orderId: Identifier })
export type Answer = Static<typeof Answer>

/** What the Command Center did with one message. `offset` is the message's, in the same partition of its inbox. */
export const Hop = Type.Object({
  offset: Type.Integer({ minimum: 0 }),
  /** The labels on the envelope; empty where it has none that can be read. */
  requestId: Type.String({ maxLength: 200 }),
  workerName: Type.String({ maxLength: 200 }),
  sender: Type.String({ maxLength: 200 }),
  /** Absent where no route is known for it. */
  routeId: Type.Optional(Type.Integer({ minimum: 1 })),
  targetTopic: Type.Optional(Type.String({ minLength: 1, maxLength: 249 })),
  /** Why it was not forwarded; absent when it was. */
  error: Type.Optional(Text),
  /** From its arrival in the inbox on. */
  processingTimeMs: Type.Integer({ minimum: 0 }),
})
export type Hop = Static<typeof Hop>

/** The metadata of all messages that were handled together, in the order of their offsets. Never anything of what is in them. */
export const HopsRecorded = Type.Object({
  type: Type.Literal('HopsRecorded'),
  ...envelope,
  sourceTopic: Type.String({ minLength: 1, maxLength: 249 }),
  hops: Type.Array(Hop, { minItems: 1 }),
})
export type HopsRecorded = Static<typeof HopsRecorded>
