/**
 * What the auditor takes from an event: read by hand and strictly, with nothing of the services' own checks.
 */
import { Kind, kindOfVerdict } from './auditSlots.ts'
import type { JudgeName } from './judges.ts'

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
  /** Of a verdict. */
  verdict?: VerdictFacts
  /** Of a verdict that prices the order. */
  price?: PriceFacts
  /** Of a decision: why it was cancelled, or what it was marked with when it was confirmed. */
  reasons?: ReasonFacts[]
  /** The payment failed without the gateway being asked, because the order was cancelled before. */
  isUnasked?: boolean
}

export interface VerdictFacts {
  result: 'pass' | 'warning' | 'fail'
  /** The code by which a decision has to name it, unless it passes. */
  code?: string
}

/** Amounts in minor units. */
export interface PriceFacts {
  subtotalMinor: number
  totalMinor: number
  netMinor: number
  taxMinor: number
  discountsMinor: number
}

export interface ReasonFacts {
  code: string
  message: string
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

/** A reason that names a verdict which did not come in time. */
export const MISSING_CODE = 'decision-timeout'
/** Why a payment fails that nobody was asked for. */
const UNASKED_REASON = 'order cancelled'

/** As much as the schema of an order lets through. */
const MAX_QUANTITY = 1e9

type Fields = Record<string, unknown>

const PASS: VerdictFacts = { result: 'pass' }

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

/** What an event on the topic of a judge says: one that has no reader of its own says so in `verdict` and `reasons`. */
export function readJudge(judge: JudgeName, value: Buffer | string | null): SaidFacts | undefined {
  const fields = parseObject(value)
  if (!fields || typeof fields.orderId !== 'string') return undefined
  const read = READERS.get(judge)
  return read ? read(fields, fields.orderId) : readAssessed(judge, fields, fields.orderId)
}

const READERS: ReadonlyMap<JudgeName, (fields: Fields, orderId: string) => SaidFacts | undefined> = new Map([
  ['inventory', readInventory],
  ['payment', readPayment],
  ['pricing', readPriced],
])

function readInventory(fields: Fields, orderId: string): SaidFacts | undefined {
  const kind = fields.type === 'InventoryUpdated' ? KIND_OF_STATUS.get(fields.status) : undefined
  if (kind === undefined) return undefined
  if (kind === Kind.reserved) return { orderId, kind, verdict: PASS }
  if (kind === Kind.notReserved) return { orderId, kind, verdict: { result: 'fail', code: 'out-of-stock' } }
  return { orderId, kind }
}

function readPayment(fields: Fields): SaidFacts | undefined {
  const kind = KIND_OF_PAYMENT.get(fields.type)
  const said = kind === undefined ? undefined : withMoney(fields, kind, fields.amount)
  if (!said) return undefined
  if (kind === Kind.declined) {
    const isUnasked = fields.reason === UNASKED_REASON
    return { ...said, verdict: { result: 'fail', code: 'payment-declined' }, isUnasked }
  }
  const { authorisationId } = fields
  if (typeof authorisationId !== 'string') return undefined
  return { ...said, authorisationId, ...(kind === Kind.authorised && { verdict: PASS }) }
}

function readPriced(fields: Fields): SaidFacts | undefined {
  const { subtotal, total, net, tax, discounts } = fields
  if (fields.type !== 'OrderPriced' || !Array.isArray(discounts)) return undefined
  const said = withMoney(fields, kindOfVerdict('pricing', false), total)
  const amounts = discounts.map((discount) => (discount as Fields | null)?.amount)
  if (!said || ![subtotal, net, tax, ...amounts].every(Number.isSafeInteger)) return undefined
  const price = {
    subtotalMinor: subtotal as number,
    totalMinor: total as number,
    netMinor: net as number,
    taxMinor: tax as number,
    discountsMinor: (amounts as number[]).reduce((sum, amount) => sum + amount, 0),
  }
  return { ...said, verdict: PASS, price }
}

function readAssessed(judge: JudgeName, fields: Fields, orderId: string): SaidFacts | undefined {
  const { type, verdict: result } = fields
  if (typeof type !== 'string') return undefined
  if (result !== 'pass' && result !== 'warning' && result !== 'fail') return undefined
  const kind = kindOfVerdict(judge, result === 'fail')
  if (result === 'pass') return { orderId, kind, verdict: PASS }
  const code =
    type === 'FraudAssessed' ? fraudCode(result, fields.rules) : readReasons(fields.reasons)?.[0]?.code
  // Where a judge gives no reason, its name is one.
  return { orderId, kind, verdict: { result, code: code ?? judge } }
}

/** Each rule that fired is a reason. */
function fraudCode(result: VerdictFacts['result'], rules: unknown): string | undefined {
  if (!Array.isArray(rules) || rules.length === 0) return undefined
  return result === 'fail' ? 'fraud' : 'fraud-warning'
}

export function readDecision(value: Buffer | string | null): SaidFacts | undefined {
  const fields = parseObject(value)
  const isConfirmed = fields?.type === 'OrderConfirmed'
  if (!fields || (!isConfirmed && fields.type !== 'OrderCancelled')) return undefined
  const reasons = readReasons(isConfirmed ? fields.warnings : fields.reasons)
  const said = withMoney(fields, isConfirmed ? Kind.confirmed : Kind.cancelled, fields.total)
  return said && reasons && { ...said, reasons }
}

/** @returns undefined when they are none */
function readReasons(reasons: unknown): ReasonFacts[] | undefined {
  if (!Array.isArray(reasons)) return undefined
  const isReason = (reason: unknown): reason is ReasonFacts => {
    const { code, message } = (reason ?? {}) as Fields
    return typeof code === 'string' && typeof message === 'string'
  }
  return reasons.every(isReason) ? reasons : undefined
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
