/** Defects of records: lost, repeated, with another cause or other bytes, or left in the dead letters. */
import {
  AMOUNTS,
  BYTES,
  CAUSES,
  COUNTED,
  decisionOn,
  EVENTS,
  find,
  hide,
  isClean,
  isConfirmed,
  isShort,
  isValid,
  LEFT,
  leave,
  loseOutcome,
  OUTCOMES,
  ofOrder,
  type Plant,
  repeat,
  verdictOf,
} from './auditDefectTools.ts'
import type { Model, ModelOrder } from './auditModel.ts'
import { type ModelRecord, PLACED, positionOf } from './auditModelRecords.ts'

const WINDOW = 'no order is validated twice within the window of duplicates'

/** Places the order again, and validates it again. */
function validateAgain(model: Model, order: ModelOrder): ModelRecord {
  const raw = find(model, model.topics.ordersRaw.name, order)
  const placed = model.write(raw.topic, raw.partition, raw.key, raw.value)
  const { topic, partition, key, value } = find(model, model.topics.ordersValidated.name, order)
  return model.write(topic, partition, key, value, { source: positionOf(placed) })
}

export const RECORD_DEFECTS: Record<string, Plant> = {
  'a refusal lost': ofOrder(
    (order, model) => isClean(order, model) && order.fate === 'rejected',
    [COUNTED.validation.missing],
    (model, order) => hide(find(model, model.topics.ordersRejected.name, order)),
  ),
  'a validated order lost': ofOrder(isShort, [COUNTED.validation.missing, CAUSES], (model, order) =>
    hide(find(model, model.topics.ordersValidated.name, order)),
  ),
  'a dead letter lost': ofOrder(
    (order, model) => isClean(order, model) && order.fate === 'poison',
    [COUNTED.validation.missing],
    (model, { id }) => {
      for (const record of model.records(model.topics.deadLetters.validator.name))
        if (record.key === id) hide(record)
      for (const record of model.records(model.topics.retries.validator.name))
        if (record.key === id) hide(record)
    },
  ),
  'validated twice': ofOrder(isValid, [COUNTED.validation.second], (model, order) =>
    repeat(model, find(model, model.topics.ordersValidated.name, order)),
  ),
  'validated and rejected': ofOrder(isValid, [COUNTED.validation.second], (model, order) => {
    const { partition, key, headers } = find(model, model.topics.ordersValidated.name, order)
    model.write(
      model.topics.ordersRejected.name,
      partition,
      key,
      { type: 'OrderRejected', orderId: order.id },
      headers,
    )
  }),
  'validated and a dead letter': ofOrder(isValid, [COUNTED.validation.second], (model, order) => {
    const { partition, key, headers } = find(model, model.topics.ordersValidated.name, order)
    model.write(model.topics.deadLetters.validator.name, partition, key, 'what', headers)
  }),
  'a dead letter twice, and a retry that names none': ofOrder(
    (order, model) => isClean(order, model) && order.fate === 'poison',
    [COUNTED.validation.second],
    (model, order) => {
      const letter = find(model, model.topics.deadLetters.validator.name, order)
      const { partition, key, value, headers } = letter
      model.write(model.topics.retries.validator.name, partition, key, value, { source: headers.source! })
      repeat(model, letter)
    },
  ),
  'a good order left in the dead letters': ({ model }) => {
    const id = `left-${model.now}`
    const { items, total, currency } = model.orders[0]!
    const order = { type: 'OrderPlaced', ...PLACED, orderId: id, items, total, currency }
    leave(model, 'validator', model.write(model.topics.ordersRaw.name, 0, id, order))
    return { id, checks: [LEFT] }
  },
  'a validated order left in the dead letters': ofOrder(isConfirmed, [LEFT, BYTES], (model, order) => {
    hide(verdictOf(model, 'inventory', order))
    leave(model, 'inventory', find(model, model.topics.ordersValidated.name, order))
  }),
  'validated again within the window': ofOrder(isValid, [WINDOW], (model, order) => {
    validateAgain(model, order)
  }),
  'no stock verdict': ofOrder(isValid, [COUNTED.inventory.missing, BYTES], (model, order) =>
    hide(verdictOf(model, 'inventory', order)),
  ),
  'stock verdict twice': ofOrder(isValid, [COUNTED.inventory.second], (model, order) =>
    repeat(model, verdictOf(model, 'inventory', order)),
  ),
  'payment verdict twice': ofOrder(isValid, [COUNTED.payment.second], (model, order) =>
    repeat(model, verdictOf(model, 'payment', order)),
  ),
  'fraud verdict twice': ofOrder(isValid, [COUNTED.fraud.second], (model, order) =>
    repeat(model, verdictOf(model, 'fraud', order)),
  ),
  'pricing verdict twice': ofOrder(isValid, [COUNTED.pricing.second], (model, order) =>
    repeat(model, verdictOf(model, 'pricing', order)),
  ),
  'no fraud verdict': ofOrder(isValid, [COUNTED.fraud.missing, BYTES], (model, order) =>
    hide(verdictOf(model, 'fraud', order)),
  ),
  'no pricing verdict': ofOrder(isValid, [COUNTED.pricing.missing], (model, order) =>
    hide(verdictOf(model, 'pricing', order)),
  ),
  'no price for an order validated again': ofOrder(isValid, [COUNTED.pricing.missing], (model, order) => {
    validateAgain(model, order)
  }),
  'a second verdict for an order validated again': ofOrder(
    isValid,
    [COUNTED.inventory.second],
    (model, order) => {
      const { topic, partition, key, value } = verdictOf(model, 'inventory', order)
      model.write(topic, partition, key, value, { source: positionOf(validateAgain(model, order)) })
    },
  ),
  'a second letter of a group that only reads': ofOrder(
    isValid,
    ['no record has a second dead letter of order-view', LEFT],
    (model, order) => {
      for (let times = 0; times < 2; times++) leave(model, 'order-view', decisionOn(model, order))
    },
  ),
  'a second letter of a verdict that fulfilment could not read': ofOrder(
    isValid,
    ['no record has a second dead letter of fulfilment', LEFT],
    (model, order) => {
      for (let times = 0; times < 2; times++) leave(model, 'fulfilment', verdictOf(model, 'pricing', order))
    },
  ),
  'never decided, and another record of it a dead letter': ofOrder(
    isConfirmed,
    [COUNTED.decision.missing],
    (model, order) => {
      hide(decisionOn(model, order))
      leave(
        model,
        'validator',
        model.write(model.topics.ordersRaw.name, order.partition, order.id, 'no order'),
      )
    },
  ),
  'validated with other lines': ofOrder(isShort, [AMOUNTS], (model, order) => {
    const record = find(model, model.topics.ordersValidated.name, order)
    record.value = record.value.replace('"sku":"', '"sku":"OTHER-')
  }),
  'a key of another order': ofOrder(
    isShort,
    ['records have their order id as key', CAUSES],
    (model, order) => {
      find(model, model.topics.ordersValidated.name, order).key = 'ord-0'
    },
  ),
  'an event of an order that never was': ({ model }) => {
    const orderId = `ghost-${model.now}`
    const event = { type: 'InventoryUpdated', orderId, status: 'RESERVED' }
    model.write(model.topics.inventoryEvents.name, 0, orderId, event, {
      source: `${model.topics.ordersValidated.name}/0/99999`,
    })
    return { id: orderId, checks: ['events are of orders placed and validated', CAUSES, BYTES] }
  },
  'an event without a cause': ofOrder(isValid, [CAUSES], (model, order) => {
    verdictOf(model, 'inventory', order).headers = {}
  }),
  'an answer to a record of another topic': ofOrder(
    isValid,
    [CAUSES, COUNTED.inventory.missing],
    (model, order) => {
      const record = verdictOf(model, 'inventory', order)
      record.headers = {
        source: positionOf(find(model, model.topics.ordersValidated.name, order)).replace(
          'validated',
          'rejected',
        ),
      }
    },
  ),
  'an answer in another partition': ofOrder(isValid, [CAUSES], (model, order) => {
    const verdict = verdictOf(model, 'inventory', order)
    hide(verdict)
    model.write(verdict.topic, 1 - verdict.partition, verdict.key, verdict.value, verdict.headers)
  }),
  'a value that is no event': ofOrder(isValid, [EVENTS], (model, order) => {
    verdictOf(model, 'inventory', order).value = '{"type":"InventoryUpdated"'
  }),
  'an event of another topic': ofOrder(isValid, [EVENTS], (model, order) => {
    verdictOf(model, 'inventory', order).value = verdictOf(model, 'payment', order).value
  }),
  'other bytes than stored': ofOrder(isValid, [BYTES], (model, order) => {
    const record = verdictOf(model, 'inventory', order)
    record.value = record.value.replace('{', '{"eventId":"another",')
  }),
  'no stored stock outcome': ofOrder(isShort, [BYTES], loseOutcome('inventory_outcomes', 'reserve')),
  'no stored fraud outcome': ofOrder(isValid, [BYTES], loseOutcome('fraud_outcomes', 'assess')),
  'another decision than stored': ofOrder(isValid, [BYTES], (model, order) => {
    const record = decisionOn(model, order)
    record.value = record.value.replace('{', '{"more":"of it",')
  }),
  'no stored payment outcome': ofOrder(isValid, [BYTES], loseOutcome('payment_outcomes', 'authorise')),
  'a stored outcome of another order': ofOrder(isValid, [OUTCOMES, BYTES], (model, order) => {
    const row = model.outcomes.find(
      ({ orderId, table }) => orderId === order.id && table === 'payment_outcomes',
    )!
    row.event = row.event.replaceAll(order.id, 'ord-0')
  }),
  'a stored outcome from nowhere': ofOrder(isShort, [OUTCOMES], (model, order) => {
    model.outcomes.find(({ orderId, operation }) => orderId === order.id && operation === 'reserve')!.source =
      'nowhere'
  }),
  'a stored outcome of another operation': ofOrder(isValid, [OUTCOMES], (model, { id }) => {
    model.outcomes.find(({ orderId, operation }) => orderId === id && operation === 'reserve')!.operation =
      'settle again'
  }),
}
