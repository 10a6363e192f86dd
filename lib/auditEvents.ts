/**
 * What the auditor takes from an event: read by hand and strictly, with nothing of the services' own checks.
 */

/** What can be said about an order. Two that stand together exclude one another: each pair is a slot. */
export const Kind = {
  reserved: 0,
  notReserved: 1,
  committed: 2,
  released: 3,
  authorised: 4,
  declined: 5,
  captured: 6,
  voided: 7,
  confirmed: 8,
  cancelled: 9,
} as const
export type Kind = (typeof Kind)[keyof typeof Kind]

export const Slot = { stock: 0, stockSettled: 1, payment: 2, paymentSettled: 3, decision: 4 } as const

export function slotOf(kind: Kind): number {
  return kind >> 1
}

export interface Line {
  sku: string
  quantity: number
  unitPrice: number
}

/** An order as it was placed or validated. Amounts are in minor units. */
export interface OrderFacts {
  orderId: string
  totalMinor: number
  currency: string
  items: Line[]
}

/** What was said about an order; `amountMinor` and `currency` where it is about money. */
export interface SaidFacts {
  orderId: string
  kind: Kind
  amountMinor?: number
  currency?: string
  authorisationId?: string
}

const KIND_OF_STATUS = new Map<unknown, Kind>([
  ['RESERVED', Kind.reserved],
  ['REJECTED', Kind.notReserved],
  ['COMMITTED', Kind.committed],
  ['RELEASED', Kind.released],
])
const KIND_OF_PAYMENT = new Map<unknown, Kind>([
  ['PaymentProcessed', Kind.authorised],
  ['PaymentFailed', Kind.declined],
  ['PaymentCaptured', Kind.captured],
  ['PaymentVoided', Kind.voided],
])

/** As much as the schema of an order lets through. */
const MAX_QUANTITY = 1e9

type Fields = Record<string, unknown>

/** @returns undefined when it is no order of this type */
export function readOrder(value: Buffer | string | null, type: string): OrderFacts | undefined {
  const fields = parseObject(value)
  if (fields?.type !== type) return undefined
  const { orderId, total: totalMinor, currency, items } = fields
  if (typeof orderId !== 'string' || !Number.isSafeInteger(totalMinor) || typeof currency !== 'string')
    return undefined
  if (!Array.isArray(items) || items.length === 0 || !items.every(isLine)) return undefined
  return { orderId, totalMinor: totalMinor as number, currency, items }
}

/** The order id of an OrderRejected. */
export function readRejected(value: Buffer | string | null): { orderId: string } | undefined {
  const fields = parseObject(value)
  return fields?.type === 'OrderRejected' && typeof fields.orderId === 'string'
    ? { orderId: fields.orderId }
    : undefined
}

export function readInventory(value: Buffer | string | null): SaidFacts | undefined {
  const fields = parseObject(value)
  const kind = fields?.type === 'InventoryUpdated' ? KIND_OF_STATUS.get(fields.status) : undefined
  return kind !== undefined && typeof fields?.orderId === 'string'
    ? { orderId: fields.orderId, kind }
    : undefined
}

export function readPayment(value: Buffer | string | null): SaidFacts | undefined {
  const fields = parseObject(value)
  const kind = KIND_OF_PAYMENT.get(fields?.type)
  if (!fields || kind === undefined) return undefined
  const said = withMoney(fields, kind, fields.amount)
  if (!said || kind === Kind.declined) return said
  return typeof fields.authorisationId === 'string'
    ? { ...said, authorisationId: fields.authorisationId }
    : undefined
}

export function readDecision(value: Buffer | string | null): SaidFacts | undefined {
  const fields = parseObject(value)
  if (fields?.type === 'OrderConfirmed') return withMoney(fields, Kind.confirmed, fields.total)
  return fields?.type === 'OrderCancelled' && typeof fields.orderId === 'string'
    ? { orderId: fields.orderId, kind: Kind.cancelled }
    : undefined
}

function withMoney({ orderId, currency }: Fields, kind: Kind, amountMinor: unknown): SaidFacts | undefined {
  return typeof orderId === 'string' && typeof currency === 'string' && Number.isSafeInteger(amountMinor)
    ? { orderId, kind, amountMinor: amountMinor as number, currency }
    : undefined
}

function isLine(item: unknown): item is Line {
  const { sku, quantity, unitPrice } = (item ?? {}) as Fields
  return typeof sku === 'string' && isCount(quantity) && Number.isSafeInteger(unitPrice)
}

function isCount(quantity: unknown): boolean {
  return Number.isSafeInteger(quantity) && Math.abs(quantity as number) <= MAX_QUANTITY
}

function parseObject(value: Buffer | string | null): Fields | undefined {
  if (value === null) return undefined
  try {
    const parsed: unknown = JSON.parse(typeof value === 'string' ? value : value.toString('utf8'))
    return typeof parsed === 'object' && parsed !== null ? (parsed as Fields) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
