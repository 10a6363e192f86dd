/** Orders for the fraud rules, and the rules run over many of them without Kafka or a database. */
import type { Customer, OrderPlaced, OrderValidated } from '../lib/events.ts'
import { type Assessment, assess, type CustomerHistory, createCustomerHistory } from '../lib/fraudRules.ts'
import { createOrderWindow } from '../lib/orderWindow.ts'

const PARTITIONS = 6

/** An order of a standard customer from Germany, who orders one lamp. */
export function orderOf(orderId: string, changes: Partial<OrderValidated> = {}): OrderValidated {
  const placedAt = changes.placedAt ?? '2026-11-21T07:36:03.000Z'
  return {
    type: 'OrderValidated',
    eventId: `${orderId}/OrderValidated`,
    occurredAt: placedAt,
    orderId,
    customerId: 'cust-1',
    placedAt,
    currency: 'EUR',
    items: [{ sku: 'SKU-1', name: 'Lamp', quantity: 1, unitPrice: changes.total ?? 1_999 }],
    total: 1_999,
    status: 'PENDING',
    validationStatus: 'VALID',
    processedBy: 'test',
    validatedAt: placedAt,
    customer: { id: 'cust-1', name: 'A', email: 'a@example.org', tier: 'standard', country: 'Germany' },
    ...changes,
  }
}

export function addressIn(country: string): NonNullable<OrderPlaced['shippingAddress']> {
  return { name: 'A', street: '', city: '', postcode: '', country }
}

/** Counts of verdicts, and how often each rule fired. */
export class AssessmentBook {
  readonly verdicts: Record<Assessment['verdict'], number> = { pass: 0, warning: 0, fail: 0 }
  readonly rules = new Map<string, number>()
  readonly #histories = new Map<string, CustomerHistory>()
  readonly #shops = Array.from({ length: PARTITIONS }, createOrderWindow)
  #orders = 0

  /** The orders go to the partitions in turn. */
  take(order: OrderPlaced, customer: Customer): Assessment {
    const history = this.#histories.get(order.customerId) ?? createCustomerHistory()
    this.#histories.set(order.customerId, history)
    const validated = orderOf(order.orderId, {
      ...order,
      type: 'OrderValidated',
      customer,
      validatedAt: order.placedAt,
    })
    const assessment = assess(validated, history, this.#shops[this.#orders++ % PARTITIONS]!)
    this.verdicts[assessment.verdict]++
    for (const { rule } of assessment.rules) this.rules.set(rule, (this.rules.get(rule) ?? 0) + 1)
    return assessment
  }

  share(verdict: Assessment['verdict']): number {
    return this.verdicts[verdict] / this.#orders
  }

  /** For a failed assertion. */
  toString(): string {
    return `${JSON.stringify(this.verdicts)} ${JSON.stringify([...this.rules])}`
  }
}
