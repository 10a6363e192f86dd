import type { Customer, OrderPlaced, Reason } from './events.ts'
import { formatMoney, MINOR_UNIT_DIGITS } from './money.ts'

export interface KnownCustomer {
  /** What goes into the event. */
  customer: Customer
  blocked: boolean
}

/** What the rules look up; both answer from memory. */
export interface Knowledge {
  customer(id: string): KnownCustomer | undefined
  product(sku: string): 'known' | 'withdrawn' | 'unknown'
}

/** An order of thousands of lines can be wrong in each: what is said of it must fit into a record. */
export const MAX_REASONS = 200

/** Whether the order id was seen before within the window, and with the same content. */
export type Repetition = 'first' | 'duplicate' | 'conflict'

/**
 * All reasons to refuse an order, none when it is good.
 *
 * @param limitMinor totals must be below this many minor units, whatever the currency
 */
export function findReasons(
  order: OrderPlaced,
  repetition: Repetition,
  knowledge: Knowledge,
  limitMinor: number,
): Reason[] {
  const reasons: Reason[] = []
  if (repetition === 'duplicate') refuse(reasons, 'duplicate', `order ${order.orderId} was placed before`)
  if (repetition === 'conflict') {
    refuse(reasons, 'conflict', `order ${order.orderId} was placed before with other content`)
  }

  const customer = knowledge.customer(order.customerId)
  if (!customer) refuse(reasons, 'unknown-customer', `there is no customer ${order.customerId}`)
  else if (customer.blocked) refuse(reasons, 'blocked-customer', `customer ${order.customerId} is blocked`)

  if (!(order.currency in MINOR_UNIT_DIGITS)) {
    refuse(
      reasons,
      'unsupported-currency',
      `${order.currency} is not one of ${Object.keys(MINOR_UNIT_DIGITS).join(', ')}`,
    )
  }

  let sum = 0
  for (let line = 0; line < order.items.length; line++) {
    const { sku, quantity, unitPrice } = order.items[line]!
    const product = knowledge.product(sku)
    if (product === 'unknown') refuse(reasons, 'unknown-product', `there is no product ${sku}`, line)
    if (product === 'withdrawn') refuse(reasons, 'withdrawn-product', `product ${sku} is withdrawn`, line)
    if (quantity <= 0) refuse(reasons, 'quantity-not-positive', `quantity ${quantity} is not above 0`, line)
    if (unitPrice < 0) refuse(reasons, 'negative-price', `unit price ${unitPrice} is below 0`, line)
    sum += quantity * unitPrice
  }

  if (order.total !== sum) {
    refuse(
      reasons,
      'total-mismatch',
      `total ${formatMoney(order.total, order.currency)} is not the sum of the lines, ${formatMoney(sum, order.currency)}`,
    )
  }
  if (order.total <= 0)
    refuse(reasons, 'total-not-positive', `total ${formatMoney(order.total, order.currency)} is not above 0`)
  if (order.total >= limitMinor) {
    refuse(
      reasons,
      'total-over-limit',
      `total ${formatMoney(order.total, order.currency)} is not below ${formatMoney(limitMinor, order.currency)}`,
    )
  }
  if (reasons.length <= MAX_REASONS) return reasons
  const more = { code: 'more', message: `and ${reasons.length - MAX_REASONS} more reasons` }
  return [...reasons.slice(0, MAX_REASONS), more]
}

function refuse(reasons: Reason[], code: string, message: string, line?: number): void {
  reasons.push(line === undefined ? { code, message } : { code, message, line })
}
