/**
 * Which calls to the gateway a batch makes necessary, and what their answers mean for the orders.
 *
 * A decision can come before we have a verdict: fulfilment waited in vain. A void is then asked for all the same, and
 * what makes it safe is that the gateway puts a void and an authorisation of one order in an order of its own. A zombie
 * of ours may be about to authorise:
 *
 *   - the void is first: it stays as a tombstone, the zombie is declined. It answers without an authorisation, and the
 *     order has failed
 *   - the zombie is first: the void names what it authorised, and that is both said and undone
 *   - the zombie has also stored its answer since we looked: our outcomes are not stored, the next look finds what it
 *     stored, and the void is asked for again with the same key, which changes nothing
 *
 * The same for a crash between answer and store: whoever comes next asks with the same keys, and is answered the same.
 */
import { UnusableRecordError } from './errors.ts'
import { eventIdOf, type PaymentEvent } from './events.ts'
import type { GatewayAnswer, GatewayOperation, Payment } from './gatewayClient.ts'
import { formatMoney } from './money.ts'
import type { Cause, OutcomeBook } from './outcomes.ts'
import { type Outgoing, publish } from './record.ts'
import { type DecisionRecord, SETTLE, type SettlerRecord, splitRecords, verdictCause } from './settling.ts'
import { storableText } from './text.ts'
import type { Topic } from './topics.ts'

export const AUTHORISE = 'authorise'
/** As long as the event takes it. */
const MAX_REASON_LENGTH = 500

/** A call that is to be made for a record. */
export interface PlannedCall {
  operation: GatewayOperation
  payment: Payment
  cause: Cause
  /** The order that has no verdict yet, so that the answer to a void is its verdict, too. */
  unheard?: Cause
}

/**
 * The calls for all that has no outcome yet, which can be made at the same time: decisions come first, and an order that
 * is cancelled in this batch is not authorised any more.
 *
 * @throws UnusableRecordError for a decision that cannot be carried out
 */
export function planCalls(book: OutcomeBook, records: readonly SettlerRecord[]): PlannedCall[] {
  const { orders, decisions } = splitRecords(records)
  const settlements: PlannedCall[] = []
  const cancelledUnheard = new Set<string>()
  for (const decision of book.undecided(SETTLE, decisions)) {
    const call = planSettlement(decision, book.find(decision.event.orderId, AUTHORISE))
    if (call) settlements.push(call)
    if (call?.unheard) cancelledUnheard.add(call.payment.orderId)
  }
  const authorisations = book
    .undecided(AUTHORISE, orders)
    .filter(({ event }) => !cancelledUnheard.has(event.orderId))
    .map((cause) => planned(AUTHORISE, cause, cause.event.total))
  return [...settlements, ...authorisations]
}

function planSettlement(decision: DecisionRecord, stored: string | undefined): PlannedCall | undefined {
  const { type, orderId, total } = decision.event
  const verdict = stored === undefined ? undefined : (JSON.parse(stored) as PaymentEvent)
  const authorised = verdict?.type === 'PaymentProcessed' ? verdict.amount : undefined
  if (type === 'OrderConfirmed') {
    if (authorised !== undefined && total <= authorised) return planned('capture', decision, total)
    throw new UnusableRecordError(
      `${orderId} is confirmed with ${total}, and ${authorised === undefined ? 'nothing' : authorised} is authorised`,
    )
  }
  if (authorised !== undefined) return planned('void', decision, authorised)
  if (verdict !== undefined) return undefined
  return { ...planned('void', decision, total), unheard: verdictCause(decision) }
}

function planned(operation: GatewayOperation, cause: SettlerRecord, amountMinor: number): PlannedCall {
  const { orderId, currency } = cause.event
  const { traceparent } = cause
  const payment = { orderId, amountMinor, currency, ...(traceparent !== undefined && { traceparent }) }
  return { operation, payment, cause }
}

/**
 * Adds what the answer to a call means.
 *
 * @throws Error when the gateway knows nothing of what we hold to be authorised
 */
export function addAnswer(
  book: OutcomeBook,
  topic: Topic<PaymentEvent>,
  { cause, unheard, payment }: PlannedCall,
  answer: GatewayAnswer,
): void {
  const add = (operation: string, because: Cause, said: Said) =>
    book.add(operation, because, toOutgoing(topic, payment, said))
  const { status } = answer
  if (status === 'authorised') {
    add(AUTHORISE, cause, { type: 'PaymentProcessed', authorisationId: answer.authorisationId })
  } else if (status === 'declined') {
    add(AUTHORISE, cause, { type: 'PaymentFailed', reason: storableText(answer.reason, MAX_REASON_LENGTH) })
  } else if (status === 'captured') {
    add(SETTLE, cause, { type: 'PaymentCaptured', authorisationId: answer.authorisationId })
  } else if (answer.authorisationId !== undefined) {
    const { authorisationId } = answer
    if (unheard) add(AUTHORISE, unheard, { type: 'PaymentProcessed', authorisationId })
    add(SETTLE, cause, { type: 'PaymentVoided', authorisationId })
  } else if (unheard) {
    add(AUTHORISE, unheard, { type: 'PaymentFailed', reason: 'order cancelled' })
  } else {
    throw new Error(
      `the payment gateway voided ${payment.orderId} and knows of no authorisation: we have one`,
    )
  }
}

type Said =
  | { type: 'PaymentProcessed' | 'PaymentCaptured' | 'PaymentVoided'; authorisationId: string }
  | { type: 'PaymentFailed'; reason: string }

/** What the event is called in the line for people. */
const LABELS: Record<Said['type'], string> = {
  PaymentProcessed: 'AUTHORISED',
  PaymentFailed: 'DECLINED',
  PaymentCaptured: 'CAPTURED',
  PaymentVoided: 'VOIDED',
}

function toOutgoing(topic: Topic<PaymentEvent>, payment: Payment, { type, ...facts }: Said): Outgoing {
  const { orderId, amountMinor: amount, currency } = payment
  const event = {
    type,
    eventId: eventIdOf(orderId, type),
    occurredAt: new Date().toISOString(),
    orderId,
    amount,
    currency,
    ...facts,
  } as PaymentEvent
  const reason = 'reason' in facts ? ` ${facts.reason}` : ''
  return publish(topic, event, `${orderId} ${LABELS[type]} ${formatMoney(amount, currency)}${reason}`)
}
