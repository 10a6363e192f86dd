/** A history of orders in which all is well, for bench/audit.ts: every order is confirmed, but for the few that are refused. */
import { formatPosition } from '../lib/record.ts'
import type { TopicTable } from '../lib/topics.ts'

export const PRODUCTS = 200
const REJECTED_EACH = 50
/** Placed, and rejected or validated with four verdicts, a decision and two settlements. */
export const RECORDS_PER_ORDER = 1 + (8 * (REJECTED_EACH - 1) + 1) / REJECTED_EACH
const DISCOUNT_MINOR = 50

export type Message = { key: string; value: string; headers?: { source: string } }

type OutcomeRow = { orderId: string; operation: string; source: string; event: string }

/** Orders of one partition: records by topic, and rows by table. */
export interface Chunk {
  messages: ReadonlyMap<string, Message[]>
  outcomes: ReadonlyMap<string, OutcomeRow[]>
  ledger: { orderId: string; operation: string; amountMinor: number; currency: string; status: string }[]
  committed: { product: number; quantity: number }[]
}

/** How many records of a partition there are so far. */
export interface ChunkPosition {
  raw: number
  validated: number
  completed: number
}

const CUSTOMER = {
  name: 'Ada Lovelace',
  email: 'ada@example.com',
  tier: 'gold',
  country: 'United Kingdom',
}

export function makeChunk(
  topics: TopicTable,
  partition: number,
  position: ChunkPosition,
  first: number,
  end: number,
): Chunk {
  const messages = new Map<string, Message[]>()
  const outcomes = new Map<string, OutcomeRow[]>()
  const ledger: Chunk['ledger'] = []
  const committed: Chunk['committed'] = []
  const occurredAt = new Date().toISOString()
  for (let number = first; number < end; number++) {
    const orderId = `ord-${occurredAt.slice(0, 10)}-${number}`
    const order = makeOrder(orderId, number, occurredAt)
    const { customerId, currency, total, items } = order
    /** An event, stored as an outcome where it has an operation. */
    const write = (
      topic: { name: string },
      type: string,
      fields: object,
      source?: string,
      ...stored: string[]
    ) => {
      const value = JSON.stringify({ type, eventId: `${orderId}/${type}`, occurredAt, orderId, ...fields })
      append(messages, topic.name, {
        key: orderId,
        value,
        ...(source !== undefined && { headers: { source } }),
      })
      const [table, operation] = stored
      if (table !== undefined)
        append(outcomes, table, { orderId, operation: operation!, source: source!, event: value })
    }
    const charge = (operation: string, status: string, amountMinor: number) =>
      void ledger.push({ orderId, operation, amountMinor, currency, status })

    const placed = formatPosition(topics.ordersRaw.name, partition, position.raw++)
    write(topics.ordersRaw, 'OrderPlaced', order)
    if (number % REJECTED_EACH === 0) {
      const reasons = [{ code: 'unknown-customer', message: 'Nobody knows the customer' }]
      const refused = { customerId, placedAt: occurredAt, currency, total, reasons }
      write(topics.ordersRejected, 'OrderRejected', refused, placed)
      continue
    }
    const customer = { id: customerId, ...CUSTOMER }
    const enriched = {
      status: 'PENDING',
      validationStatus: 'VALID',
      processedBy: 'bench',
      validatedAt: occurredAt,
    }
    const validated = formatPosition(topics.ordersValidated.name, partition, position.validated++)
    write(topics.ordersValidated, 'OrderValidated', { ...order, ...enriched, customer }, placed)

    const money = { amount: total, currency, authorisationId: `auth-${orderId}` }
    const stock = { status: 'RESERVED', availability: 'available', shortages: [] }
    const { inventoryEvents, paymentEvents, fraudEvents, pricingEvents, ordersCompleted } = topics
    write(inventoryEvents, 'InventoryUpdated', stock, validated, 'inventory_outcomes', 'reserve')
    write(paymentEvents, 'PaymentProcessed', money, validated, 'payment_outcomes', 'authorise')
    charge('authorise', 'authorised', total)
    const assessed = { riskScore: 0, verdict: 'pass', rules: [] }
    write(fraudEvents, 'FraudAssessed', assessed, validated, 'fraud_outcomes', 'assess')
    const price = priceOf(total, currency)
    write(pricingEvents, 'OrderPriced', price, validated)

    const completed = formatPosition(ordersCompleted.name, partition, position.completed++)
    const lines = items.map(({ sku, quantity }) => ({ sku, quantity }))
    const decided = { customerId, placedAt: occurredAt, currency, total: price.total, items: lines, customer }
    const confirmed = { ...decided, shipmentNumber: `S-${number}`, warnings: [] }
    write(ordersCompleted, 'OrderConfirmed', confirmed, validated, 'fulfilment_outcomes', 'decide')
    const taken = { ...stock, status: 'COMMITTED' }
    write(inventoryEvents, 'InventoryUpdated', taken, completed, 'inventory_outcomes', 'settle')
    const captured = { ...money, amount: price.total }
    write(paymentEvents, 'PaymentCaptured', captured, completed, 'payment_outcomes', 'settle')
    charge('capture', 'captured', price.total)
    for (const { sku, quantity } of lines) committed.push({ product: Number(sku.slice(4)), quantity })
  }
  return { messages, outcomes, ledger, committed }
}

function append<Item>(lists: Map<string, Item[]>, name: string, item: Item): void {
  const list = lists.get(name)
  if (list) list.push(item)
  else lists.set(name, [item])
}

function priceOf(subtotal: number, currency: string) {
  const discounts = [{ code: 'bench', message: 'always', amount: DISCOUNT_MINOR }]
  const total = subtotal - DISCOUNT_MINOR
  const tax = Math.floor(total / 6)
  return {
    currency,
    subtotal,
    discounts,
    total,
    net: total - tax,
    tax,
    taxRate: 2_000,
    taxCountry: 'United Kingdom',
  }
}

/** About as large as those of the simulator. */
function makeOrder(orderId: string, number: number, occurredAt: string) {
  const items = Array.from({ length: 1 + (number % 4) }, (_, line) => ({
    sku: `SKU-${(number + line * 7) % PRODUCTS}`,
    name: 'Handcrafted Granite Chair',
    quantity: 1 + (line % 3),
    unitPrice: 199 + ((number * 31 + line) % 9_000),
  }))
  return {
    occurredAt,
    orderId,
    customerId: `cust-${number % 1_000}`,
    placedAt: occurredAt,
    currency: number % 2 === 0 ? 'EUR' : 'GBP',
    items,
    total: items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
    shippingAddress: {
      name: 'Ada Lovelace',
      street: '12 St James Square',
      city: 'London',
      postcode: 'SW1Y 4JH',
      country: 'United Kingdom',
    },
  }
}
