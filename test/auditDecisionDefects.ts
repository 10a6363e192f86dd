/** Defects of decisions, and of what carries them out. */
import {
  BYTES,
  CAPTURED,
  CAUSES,
  COUNTED,
  DECISIONS,
  decisionOn,
  EVENTS,
  find,
  hide,
  inLedger,
  isCancelled,
  isConfirmed,
  isVoided,
  loseOutcome,
  ofEvent,
  ofOrder,
  type Plant,
  repeat,
  SETTLED,
  VOIDED,
  verdictOf,
} from './auditDefectTools.ts'
import type { Model, ModelOrder } from './auditModel.ts'
import { positionOf } from './auditModelRecords.ts'

/** A verdict that no decision can be without, unless it names the judge as missing. */
function silence(judge: 'inventory' | 'payment' | 'fraud' | 'pricing') {
  return (model: Model, order: ModelOrder) => hide(verdictOf(model, judge, order))
}

const isMarked = (order: ModelOrder, model: Model) =>
  isConfirmed(order, model) && decisionOn(model, order).value.includes('fraud-warning')
const isUnmarked = (order: ModelOrder, model: Model) => isConfirmed(order, model) && !isMarked(order, model)
/** One judge alone failed it. */
const isFraudulent = (order: ModelOrder, model: Model) =>
  isCancelled(order, model) && order.isInStock && order.isGood && order.risk === 'fail'
const isReleased = (order: ModelOrder, model: Model) => isCancelled(order, model) && order.isInStock

export const DECISION_DEFECTS: Record<string, Plant> = {
  'decided twice': ofOrder(isConfirmed, [COUNTED.decision.second], (model, order) =>
    repeat(model, decisionOn(model, order)),
  ),
  'confirmed and cancelled': ofOrder(isConfirmed, [COUNTED.decision.second], (model, order) => {
    const { topic, partition, key, value, headers } = decisionOn(model, order)
    const reasons = [{ code: 'fraud', message: 'after all' }]
    const decision = { ...(JSON.parse(value) as object), type: 'OrderCancelled', reasons }
    model.write(topic, partition, key, decision, headers)
  }),
  'decided again when it was validated again': ofOrder(
    isConfirmed,
    [COUNTED.decision.second],
    (model, order) => {
      const placed = find(model, model.topics.ordersRaw.name, order)
      const { topic, partition, key, value } = find(model, model.topics.ordersValidated.name, order)
      const again = model.write(topic, partition, key, value, { source: positionOf(placed) })
      const decision = decisionOn(model, order)
      model.write(decision.topic, partition, key, decision.value, { source: positionOf(again) })
    },
  ),
  'never decided': ofOrder(
    isConfirmed,
    [COUNTED.decision.missing, CAPTURED, SETTLED, CAUSES, BYTES],
    (model, order) => hide(decisionOn(model, order)),
  ),
  'no stored decision': ofOrder(isConfirmed, [BYTES], loseOutcome('fulfilment_outcomes', 'decide')),
  'confirmed, and not in stock': ofEvent(isVoided, [DECISIONS], 'ordersCompleted', () => {
    return { type: 'OrderConfirmed', warnings: [] }
  }),
  'confirmed, and a fraud': ofEvent(isConfirmed, [DECISIONS], 'fraudEvents', () => ({ verdict: 'fail' })),
  'confirmed without a price': ofOrder(isConfirmed, [DECISIONS, COUNTED.pricing.missing], silence('pricing')),
  'confirmed without asking for fraud': ofOrder(
    isConfirmed,
    [DECISIONS, COUNTED.fraud.missing],
    silence('fraud'),
  ),
  'a warning without a mark': ofEvent(isMarked, [DECISIONS], 'ordersCompleted', () => ({ warnings: [] })),
  'a warning that gives no rule, without a mark': ofEvent(isUnmarked, [DECISIONS], 'fraudEvents', () => {
    return { verdict: 'warning', rules: [] }
  }),
  'a mark without a warning': ofEvent(isUnmarked, [DECISIONS], 'ordersCompleted', () => {
    return { warnings: [{ code: 'fraud-warning', message: 'out of nowhere' }] }
  }),
  'cancelled without a reason': ofEvent(isCancelled, [DECISIONS], 'ordersCompleted', () => ({ reasons: [] })),
  'cancelled for nothing': ofEvent(isFraudulent, [DECISIONS], 'fraudEvents', () => ({ verdict: 'pass' })),
  'cancelled for another reason': ofEvent(isCancelled, [DECISIONS], 'ordersCompleted', () => {
    return { reasons: [{ code: 'whim', message: 'for no good reason' }] }
  }),
  'cancelled, and one of the reasons left out': ofEvent(
    (order, model) => isCancelled(order, model) && !order.isInStock && order.risk === 'fail',
    [DECISIONS],
    'ordersCompleted',
    () => ({ reasons: [{ code: 'out-of-stock', message: 'none left' }] }),
  ),
  'cancelled, and who is missing is not named': ofOrder(
    isCancelled,
    [DECISIONS, COUNTED.pricing.missing],
    silence('pricing'),
  ),
  'reasons that are none': ofEvent(isCancelled, [EVENTS], 'ordersCompleted', () => ({ reasons: 'none' })),
  'confirmed, and its stock not committed': ofOrder(isConfirmed, [SETTLED, BYTES], (model, order) =>
    hide(find(model, model.topics.inventoryEvents.name, order, 'COMMITTED')),
  ),
  'cancelled, and its stock not released': ofOrder(isReleased, [SETTLED, BYTES], (model, order) =>
    hide(find(model, model.topics.inventoryEvents.name, order, 'RELEASED')),
  ),
  'confirmed, and its stock released': ofOrder(isConfirmed, [SETTLED, BYTES], (model, order) => {
    const record = find(model, model.topics.inventoryEvents.name, order, 'COMMITTED')
    record.value = record.value.replace('COMMITTED', 'RELEASED')
  }),
  'committed twice': ofOrder(
    isConfirmed,
    [SETTLED, 'no decided order has a second inventory settlement'],
    (model, order) => repeat(model, find(model, model.topics.inventoryEvents.name, order, 'COMMITTED')),
  ),
  'captured event twice': ofOrder(
    isConfirmed,
    ['no decided order has a second payment settlement'],
    (model, order) => repeat(model, find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured')),
  ),
  'captured, though cancelled': ofOrder(isVoided, [CAPTURED], (model, order) =>
    model.charge(order, 'capture', 'captured'),
  ),
  'captured twice': ofOrder(isConfirmed, ['no order is captured twice'], (model, order) =>
    model.charge(order, 'capture', 'captured', 'again'),
  ),
  'confirmed, and not captured': ofOrder(isConfirmed, [CAPTURED], (model, order) => {
    model.ledger = model.ledger.filter((row) => row !== inLedger(model, order, 'captured'))
  }),
  'captured, and nobody told': ofOrder(isConfirmed, [CAPTURED, BYTES], (model, order) =>
    hide(find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured')),
  ),
  'voided, though confirmed': ofOrder(isConfirmed, [VOIDED], (model, order) =>
    model.charge(order, 'void', 'voided'),
  ),
  'nothing voided, though confirmed': ofOrder(isConfirmed, [VOIDED], (model, order) =>
    model.charge(order, 'void', 'voided', 'void', null),
  ),
  'cancelled, and not voided': ofOrder(isVoided, [VOIDED], (model, order) => {
    model.ledger = model.ledger.filter((row) => row !== inLedger(model, order, 'voided'))
  }),
  'voided, and nobody told': ofOrder(isVoided, [VOIDED, BYTES], (model, order) =>
    hide(find(model, model.topics.paymentEvents.name, order, 'PaymentVoided')),
  ),
}
