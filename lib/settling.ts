/**
 * What the judges that carry decisions out have in common. They read validated orders and decided ones, and say at most
 * two things about an order: their verdict, with the position of the validated order as its cause, and what they did
 * about the decision, with the position of that.
 *
 * A decision can come before the verdict that it answers: fulfilment waited in vain. Whoever settles then stores the
 * verdict himself, as an outcome of the validated order ({@link verdictCause}); when the order comes, its answer is
 * there already, is published, and nothing is done.
 */
import { UnusableRecordError } from './errors.ts'
import type { OrderCompleted, OrderValidated } from './events.ts'
import type { Cause } from './outcomes.ts'
import { causeOf, formatPosition, type InputRecord } from './record.ts'

export const SETTLE = 'settle'

export type OrderRecord = InputRecord<OrderValidated>
export type DecisionRecord = InputRecord<OrderCompleted>
export type SettlerRecord = InputRecord<OrderValidated | OrderCompleted>

export function isDecision(record: SettlerRecord): record is DecisionRecord {
  return record.event.type !== 'OrderValidated'
}

/** The records of a batch by what they are, each kind in the order in which it came. */
export function splitRecords(records: readonly SettlerRecord[]): {
  orders: OrderRecord[]
  decisions: DecisionRecord[]
} {
  const orders: OrderRecord[] = []
  const decisions: DecisionRecord[] = []
  for (const record of records) {
    if (isDecision(record)) decisions.push(record)
    else orders.push(record as OrderRecord)
  }
  return { orders, decisions }
}

/**
 * The validated order that a decision is about, as the cause of a verdict.
 *
 * @throws UnusableRecordError when the decision does not name it
 */
export function verdictCause(decision: DecisionRecord): Cause {
  const order = causeOf(decision)
  if (!order)
    throw new UnusableRecordError(`the decision on ${decision.event.orderId} names no validated order`)
  return { source: formatPosition(order.topic, order.partition, order.offset), event: decision.event }
}
