/**
 * The judges: who says something about each validated order before it is decided. Each is a line here, which gives it
 * its consumer group, its topic, its place in the join of fulfilment, in the drain, in the tally and in the audit.
 */
import type { Static, TSchema } from 'typebox'
import {
  FraudAssessed,
  InventoryUpdated,
  OrderAssessed,
  OrderPriced,
  PaymentEvent,
  type Reason,
} from './events.ts'

/** What one judge says about one order: `fail` cancels it, `warning` confirms it with a mark. */
export interface Verdict {
  result: 'pass' | 'warning' | 'fail'
  /** Why; empty when it passes. */
  reasons: Reason[]
  /** What the order costs in the end, in minor units: said by whoever prices it. */
  totalMinor?: number
}

export interface Judge<Schema extends TSchema = TSchema> {
  topic: string
  schema: Schema
  /** What an event on its topic says about the order; undefined for one that settles it after the decision. */
  read(event: Static<Schema>): Verdict | undefined
  /** It also carries out what was decided, and answers orders.completed on the same topic. */
  settles: boolean
  /**
   * The operation under which it stores its verdicts in the table `<name>_outcomes`, and so answers an order once, also
   * one that is validated again. Without one it is a pure function of the order, and answers each validated record.
   */
  stores: string | undefined
}

const PASS: Verdict = { result: 'pass', reasons: [] }

export const JUDGES = {
  inventory: judge('inventory.events', InventoryUpdated, readInventory, { settles: true, stores: 'reserve' }),
  payment: judge('payment.events', PaymentEvent, readPayment, { settles: true, stores: 'authorise' }),
  fraud: judge('fraud.events', FraudAssessed, readFraud, { stores: 'assess' }),
  pricing: judge('pricing.events', OrderPriced, readPricing),
}
export type JudgeName = keyof typeof JUDGES
export const JUDGE_NAMES = Object.keys(JUDGES) as JudgeName[]
/** The judges that carry decisions out. */
export const SETTLERS = JUDGE_NAMES.filter((name) => JUDGES[name].settles)

/** A judge that says no more than its verdict, in OrderAssessed. */
function judge(topic: string): Judge<typeof OrderAssessed>
function judge<Schema extends TSchema>(
  topic: string,
  schema: Schema,
  read: Judge<Schema>['read'],
  also?: { settles?: boolean; stores?: string },
): Judge<Schema>
function judge(
  topic: string,
  schema: TSchema = OrderAssessed,
  read: Judge['read'] = readAssessment,
  { settles = false, stores }: { settles?: boolean; stores?: string } = {},
): Judge {
  return { topic, schema, read, settles, stores }
}

function readAssessment({ verdict, reasons }: OrderAssessed): Verdict {
  return { result: verdict, reasons }
}

function readInventory({ status, shortages }: Static<typeof InventoryUpdated>): Verdict | undefined {
  if (status === 'RESERVED') return PASS
  if (status !== 'REJECTED') return undefined
  const skus = shortages.map(({ sku }) => sku).join(', ')
  return {
    result: 'fail',
    reasons: [{ code: 'out-of-stock', message: `not in stock: ${skus}`.slice(0, 500) }],
  }
}

function readPayment(event: Static<typeof PaymentEvent>): Verdict | undefined {
  if (event.type === 'PaymentProcessed') return PASS
  if (event.type !== 'PaymentFailed') return undefined
  return { result: 'fail', reasons: [{ code: 'payment-declined', message: event.reason }] }
}

function readFraud({ verdict, rules }: Static<typeof FraudAssessed>): Verdict {
  if (verdict === 'pass') return PASS
  const code = verdict === 'fail' ? 'fraud' : 'fraud-warning'
  return { result: verdict, reasons: rules.map(({ message }) => ({ code, message })) }
}

function readPricing({ total }: Static<typeof OrderPriced>): Verdict {
  return { ...PASS, totalMinor: total }
}
