/** Defects of the ledger, of amounts and of the stock. */
import {
  AMOUNTS,
  BYTES,
  COUNTED,
  decisionOn,
  EVENTS,
  find,
  hide,
  inLedger,
  isAuthorised,
  isCancelled,
  isClean,
  isConfirmed,
  isUnasked,
  isValid,
  isVoided,
  LEDGER,
  ofEvent,
  ofOrder,
  ofStock,
  PARTS,
  type Plant,
  rewrite,
  verdictOf,
} from './auditDefectTools.ts'

const TAKEN = 'reserved and committed are what orders took'
const SUM = 'captured is the sum of confirmed totals'
const STRANGERS = 'the ledger has validated orders alone'

export const MONEY_DEFECTS: Record<string, Plant> = {
  'authorised twice': ofOrder(isAuthorised, ['no order is authorised twice'], (model, order) =>
    model.charge(order, 'authorise', 'authorised', 'again'),
  ),
  'declined, and authorised in the ledger': ofOrder(
    (order, model) =>
      isValid(order, model) && !order.isGood && model.inLedger(order.id, 'voided') === undefined,
    [LEDGER],
    (model, order) => {
      inLedger(model, order, 'declined').status = 'authorised'
    },
  ),
  'authorised by the event alone': ofOrder(isAuthorised, [LEDGER], (model, { id }) => {
    model.ledger = model.ledger.filter(({ orderId }) => orderId !== id)
  }),
  'another authorisation than the ledger has': ofOrder(isAuthorised, [LEDGER], (model, order) => {
    inLedger(model, order, 'authorised').authorisationId = 'another'
  }),
  'not asked for, and the gateway does not know': ofOrder(isUnasked, [LEDGER], (model, { id }) => {
    model.ledger = model.ledger.filter(({ orderId }) => orderId !== id)
  }),
  'not asked for, and authorised': ofOrder(isUnasked, [LEDGER], (model, order) =>
    model.charge(order, 'authorise', 'authorised', 'zombie'),
  ),
  'not asked for, and not cancelled': ofOrder(isUnasked, [LEDGER, COUNTED.decision.missing], (model, order) =>
    hide(decisionOn(model, order)),
  ),
  'in the ledger, and never placed': ({ model }) => {
    const id = `stranger-${model.now}`
    model.charge({ ...model.orders[0]!, id }, 'authorise', 'authorised')
    return { id, checks: [STRANGERS, LEDGER] }
  },
  'in the ledger, and rejected': ofOrder(
    (order, model) => isClean(order, model) && order.fate === 'rejected',
    [STRANGERS],
    (model, order) => model.charge(order, 'authorise', 'authorised'),
  ),
  'a row of the ledger of no order': ({ model }) => {
    const id = 'x'.repeat(64)
    model.charge({ ...model.orders[0]!, id: `${id}x` }, 'authorise', 'authorised')
    return { id, checks: ['rows of the ledger are of orders'] }
  },
  'a payment event one off': ofEvent(isValid, [AMOUNTS], 'paymentEvents', (_, { total }) => ({
    amount: total + 1,
  })),
  'the ledger one off': ofOrder(isAuthorised, [AMOUNTS], (model, order) => {
    inLedger(model, order, 'authorised').amountMinor--
  }),
  'another currency in the ledger': ofOrder(isAuthorised, [AMOUNTS], (model, order) => {
    inLedger(model, order, 'authorised').currency = 'USD'
  }),
  'captured one off': ofOrder(isConfirmed, [AMOUNTS], (model, order) => {
    inLedger(model, order, 'captured').amountMinor--
  }),
  'captured what was authorised, and not what it was priced at': ofOrder(
    (order, model) => isConfirmed(order, model) && order.discountMinor > 0,
    [AMOUNTS, SUM],
    (model, order) => {
      inLedger(model, order, 'captured').amountMinor = order.total
      const amount = order.total
      rewrite(model, find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured'), { amount })
    },
  ),
  'captured more than authorised': ofOrder(isConfirmed, [AMOUNTS], (model, order) => {
    const amount = order.total + 1
    inLedger(model, order, 'captured').amountMinor = amount
    rewrite(model, find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured'), { amount })
    rewrite(model, decisionOn(model, order), { total: amount })
  }),
  'a captured event one off': ofOrder(isConfirmed, [AMOUNTS], (model, order) => {
    const amount = order.total + 1
    rewrite(model, find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured'), { amount })
  }),
  'voided one off': ofOrder(isVoided, [AMOUNTS], (model, order) => {
    inLedger(model, order, 'voided').amountMinor--
  }),
  'confirmed with one off': ofEvent(isConfirmed, [AMOUNTS, SUM], 'ordersCompleted', ({ total }) => ({
    total: total + 1,
  })),
  'cancelled with one off': ofEvent(isCancelled, [AMOUNTS], 'ordersCompleted', ({ total }) => ({
    total: total + 1,
  })),
  'confirmed in another currency': ofEvent(isConfirmed, [AMOUNTS, SUM], 'ordersCompleted', () => ({
    currency: 'USD',
  })),
  'priced from another amount': ofEvent(isValid, [AMOUNTS], 'pricingEvents', ({ subtotal }) => ({
    subtotal: subtotal + 1,
    discounts: [{ code: 'odd', message: 'odd', amount: subtotal + 1 }],
    total: 0,
    net: 0,
    tax: 0,
  })),
  'a price without all of its tax': ofEvent(isValid, [PARTS], 'pricingEvents', ({ tax }) => ({
    tax: tax - 1,
  })),
  'a discount too many': ofEvent(isValid, [PARTS], 'pricingEvents', ({ discounts }) => ({
    discounts: [...discounts, { code: 'more', message: 'more', amount: 1 }],
  })),
  'a price above the order': ofEvent(isValid, [PARTS], 'pricingEvents', ({ subtotal }) => ({
    discounts: [{ code: 'negative', message: 'negative', amount: -1 }],
    total: subtotal + 1,
    net: subtotal + 1,
    tax: 0,
  })),
  'a price without parts': ofEvent(isValid, [EVENTS], 'pricingEvents', () => ({
    net: 'some',
  })),
  'validated one off': ofOrder(isValid, [AMOUNTS, 'totals are the sum of the lines'], (model, order) => {
    rewrite(model, find(model, model.topics.ordersValidated.name, order), { total: order.total + 1 })
  }),
  'no event of a charge': ofOrder(isAuthorised, [COUNTED.payment.missing, BYTES, LEDGER], (model, order) =>
    hide(verdictOf(model, 'payment', order)),
  ),
  'stock created': ofStock(['received is the sum of the receipts'], (row) => {
    row.received++
    row.available++
  }),
  'stock available created': ofStock(['received = available + reserved + committed'], (row) => {
    row.available++
  }),
  'stock reserved for nobody': ofStock([TAKEN], (row) => {
    row.available--
    row.reserved++
  }),
  'stock negative': ofStock(['no count of stock is negative', TAKEN], (row) => {
    row.reserved += row.available + 1
    row.available = -1
  }),
}
