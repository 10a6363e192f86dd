/** Defects to be planted in a history of the model, each with the checks that must find it. */

import type { OutcomeTable } from '../lib/auditRows.ts'
import type { StockRow } from '../lib/auditStock.ts'
import type { GroupName } from '../lib/topics.ts'
import { type Model, type ModelOrder, type ModelRecord, PLACED, positionOf } from './auditModel.ts'

/** What a defect is planted in: orders that no other defect has touched. */
export interface Ground {
  model: Model
  /** Takes an order for which this is so. @returns undefined when there is none left */
  pick(isFit: (order: ModelOrder) => boolean): ModelOrder | undefined
  /** Takes the stock of a product that no other defect has touched. */
  pickStock(): StockRow | undefined
}

export interface Planted {
  /** The order, product or position that must be named. */
  id: string
  checks: string[]
}

/** @returns undefined when this history has nothing to plant it in */
export type Plant = (ground: Ground) => Planted | undefined

const COUNTED = {
  validation: {
    missing: 'every order placed has its validation',
    second: 'no order placed has a second validation',
  },
  inventory: {
    missing: 'every validated order has its inventory verdict',
    second: 'no validated order has a second inventory verdict',
  },
  payment: {
    missing: 'every validated order has its payment verdict',
    second: 'no validated order has a second payment verdict',
  },
}
const CAUSES = 'events have a cause, of the same order'
const BYTES = 'published events are the stored outcomes'
const AMOUNTS = 'amounts are the same all the way'
const CAPTURED = 'captured if and only if confirmed'
const VOIDED = 'voided if and only if cancelled and authorised'
const LEDGER = 'payment events agree with the ledger'
const SETTLED = 'stock is settled as decided'
const DECIDED = 'every validated order is decided'
const WINDOW = 'no order is validated twice within the window of duplicates'
const LEFT = 'no good record is left in the dead letters'
const OUTCOMES = 'stored outcomes are events of their order'
const TAKEN = 'reserved and committed are what orders took'

const isClean = (order: ModelOrder) => order.stumbles === undefined
const isValid = (order: ModelOrder) => isClean(order) && order.fate === 'valid'
const isConfirmed = (order: ModelOrder) => isValid(order) && order.isInStock && order.isGood
const isCancelled = (order: ModelOrder) => isValid(order) && !order.isInStock && order.isGood

function find(model: Model, topic: string, { id }: ModelOrder, part = ''): ModelRecord {
  return model.records(topic).find(({ key, value }) => key === id && value.includes(part))!
}

/** As if its transaction had been aborted: a hole in the log. */
function hide(record: ModelRecord): void {
  record.committedAt = Number.POSITIVE_INFINITY
}

/** Writes a dead letter for it that nobody settles. */
function leave(model: Model, group: GroupName, record: ModelRecord): void {
  const { partition, key, value } = record
  model.write(model.topics.deadLetters[group].name, partition, key, value, { source: positionOf(record) })
}

function repeat(model: Model, { topic, partition, key, value, headers }: ModelRecord): void {
  model.write(topic, partition, key, value, headers)
}

/** Says the same with other words, in the topic and in the table. */
function rewrite(model: Model, record: ModelRecord, change: (value: string) => string): void {
  const row = model.outcomes.find(({ event }) => event === record.value)
  record.value = change(record.value)
  if (row) row.event = record.value
}

function inLedger(model: Model, { id }: ModelOrder, status: string) {
  return model.ledger.find((row) => row.orderId === id && row.status === status)!
}

/** A defect of one order. */
function ofOrder(
  isFit: (order: ModelOrder) => boolean,
  checks: string[],
  spoil: (model: Model, order: ModelOrder) => void,
): Plant {
  return ({ model, pick }) => {
    const order = pick(isFit)
    if (!order) return undefined
    spoil(model, order)
    return { id: order.id, checks }
  }
}

/** A defect of one order once it was decided. */
function ofDecided(...[isFit, checks, spoil]: Parameters<typeof ofOrder>): Plant {
  const plant = ofOrder(isFit, checks, spoil)
  return (ground) => (ground.model.isDecided ? plant(ground) : undefined)
}

function ofStock(checks: string[], spoil: (row: StockRow) => void): Plant {
  return ({ pickStock }) => {
    const row = pickStock()
    if (!row) return undefined
    spoil(row)
    return { id: row.sku, checks }
  }
}

function loseOutcome(table: OutcomeTable, operation: string) {
  return (model: Model, { id }: ModelOrder) => {
    model.outcomes = model.outcomes.filter(
      (row) => row.table !== table || row.operation !== operation || row.orderId !== id,
    )
  }
}

export const DEFECTS: Record<string, Plant> = {
  'a refusal lost': ofOrder(
    ({ fate, stumbles }) => fate === 'rejected' && !stumbles,
    [COUNTED.validation.missing],
    (model, order) => hide(find(model, model.topics.ordersRejected.name, order)),
  ),
  'a validated order lost': ofOrder(
    (order) => isValid(order) && !order.isInStock,
    [COUNTED.validation.missing, CAUSES],
    (model, order) => hide(find(model, model.topics.ordersValidated.name, order)),
  ),
  'a dead letter lost': ofOrder(
    (order) => isClean(order) && order.fate === 'poison',
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
    (order) => isClean(order) && order.fate === 'poison',
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
  'a validated order left in the dead letters': ofOrder(isValid, [LEFT, BYTES], (model, order) => {
    hide(find(model, model.topics.inventoryEvents.name, order))
    leave(model, 'inventory', find(model, model.topics.ordersValidated.name, order))
  }),
  'validated again within the window': ofOrder(isValid, [WINDOW], (model, order) => {
    repeat(model, find(model, model.topics.ordersRaw.name, order))
    const placed = model.records(model.topics.ordersRaw.name).findLast(({ key }) => key === order.id)!
    const { topic, partition, key, value } = find(model, model.topics.ordersValidated.name, order)
    model.write(topic, partition, key, value, { source: positionOf(placed) })
  }),
  'no stock verdict': ofOrder(isValid, [COUNTED.inventory.missing, BYTES], (model, order) =>
    hide(find(model, model.topics.inventoryEvents.name, order)),
  ),
  'no payment verdict': ofOrder(isValid, [COUNTED.payment.missing, BYTES, LEDGER], (model, order) =>
    hide(find(model, model.topics.paymentEvents.name, order)),
  ),
  'stock verdict twice': ofOrder(isValid, [COUNTED.inventory.second], (model, order) =>
    repeat(model, find(model, model.topics.inventoryEvents.name, order)),
  ),
  'payment verdict twice': ofOrder(isValid, [COUNTED.payment.second], (model, order) =>
    repeat(model, find(model, model.topics.paymentEvents.name, order)),
  ),
  'a second verdict for an order validated again': ofOrder(
    isValid,
    [COUNTED.inventory.second],
    (model, order) => {
      const raw = find(model, model.topics.ordersRaw.name, order)
      repeat(model, raw)
      const placed = model.records(raw.topic).findLast(({ key }) => key === order.id)!
      const { topic, partition, key, value } = find(model, model.topics.ordersValidated.name, order)
      const again = model.write(topic, partition, key, value, { source: positionOf(placed) })
      const verdict = find(model, model.topics.inventoryEvents.name, order)
      model.write(verdict.topic, partition, key, verdict.value, { source: positionOf(again) })
    },
  ),
  'authorised twice': ofOrder(
    (order) => isValid(order) && order.isGood,
    ['no order is authorised twice'],
    (model, order) => model.charge(order, 'authorise', 'authorised', 'again'),
  ),
  'declined, and authorised in the ledger': ofOrder(
    (order) => isValid(order) && !order.isGood && !order.isInStock,
    [LEDGER],
    (model, order) => {
      inLedger(model, order, 'declined').status = 'authorised'
    },
  ),
  'authorised by the event alone': ofOrder(
    (order) => isValid(order) && order.isGood,
    [LEDGER],
    (model, { id }) => {
      model.ledger = model.ledger.filter(({ orderId }) => orderId !== id)
    },
  ),
  'another authorisation than the ledger has': ofOrder(
    (order) => isValid(order) && order.isGood,
    [LEDGER],
    (model, order) => {
      inLedger(model, order, 'authorised').authorisationId = 'another'
    },
  ),
  'in the ledger, and never placed': ({ model }) => {
    const id = `stranger-${model.now}`
    const order = { ...model.orders[0]!, id }
    model.charge(order, 'authorise', 'authorised')
    return { id, checks: ['the ledger has validated orders alone', LEDGER] }
  },
  'in the ledger, and rejected': ofOrder(
    ({ fate, stumbles }) => fate === 'rejected' && !stumbles,
    ['the ledger has validated orders alone'],
    (model, order) => model.charge(order, 'authorise', 'authorised'),
  ),
  'captured, though nothing is decided': ({ model, pick }) => {
    const order = model.isDecided ? undefined : pick((order) => isValid(order) && order.isGood)
    if (!order) return undefined
    model.charge(order, 'capture', 'captured')
    return { id: order.id, checks: [CAPTURED] }
  },
  'captured, though cancelled': ofDecided(isCancelled, [CAPTURED], (model, order) =>
    model.charge(order, 'capture', 'captured'),
  ),
  'captured twice': ofDecided(isConfirmed, ['no order is captured twice'], (model, order) =>
    model.charge(order, 'capture', 'captured', 'again'),
  ),
  'confirmed, and not captured': ofDecided(isConfirmed, [CAPTURED], (model, order) => {
    model.ledger = model.ledger.filter((row) => row !== inLedger(model, order, 'captured'))
  }),
  'voided, though confirmed': ofDecided(isConfirmed, [VOIDED], (model, order) =>
    model.charge(order, 'void', 'voided'),
  ),
  'cancelled, and not voided': ofDecided(isCancelled, [VOIDED], (model, order) => {
    model.ledger = model.ledger.filter((row) => row !== inLedger(model, order, 'voided'))
  }),
  'captured one off': ofDecided(isConfirmed, [AMOUNTS], (model, order) => {
    inLedger(model, order, 'captured').amountMinor++
  }),
  'decided twice': ofDecided(isConfirmed, ['no order is decided twice'], (model, order) =>
    repeat(model, find(model, model.topics.ordersCompleted.name, order)),
  ),
  'confirmed and cancelled': ofDecided(isConfirmed, ['no order is decided twice'], (model, order) => {
    const { topic, partition, key, headers } = find(model, model.topics.ordersCompleted.name, order)
    model.write(topic, partition, key, { type: 'OrderCancelled', orderId: order.id }, headers)
  }),
  'never decided': ofDecided(isConfirmed, [DECIDED, CAPTURED, SETTLED, CAUSES], (model, order) =>
    hide(find(model, model.topics.ordersCompleted.name, order)),
  ),
  'never decided, and another record of it a dead letter': ofDecided(
    isConfirmed,
    [DECIDED],
    (model, order) => {
      hide(find(model, model.topics.ordersCompleted.name, order))
      leave(
        model,
        'validator',
        model.write(model.topics.ordersRaw.name, order.partition, order.id, 'no order'),
      )
    },
  ),
  'confirmed, and not in stock': ofDecided(
    isCancelled,
    ['confirmed orders were reserved and authorised'],
    (model, order) => {
      const { id: orderId, total, currency } = order
      find(model, model.topics.ordersCompleted.name, order).value = JSON.stringify({
        type: 'OrderConfirmed',
        orderId,
        total,
        currency,
      })
    },
  ),
  'confirmed with one off': ofDecided(
    isConfirmed,
    [AMOUNTS, 'captured is the sum of confirmed totals'],
    (model, order) => {
      const { id: orderId, total, currency } = order
      find(model, model.topics.ordersCompleted.name, order).value = JSON.stringify({
        type: 'OrderConfirmed',
        orderId,
        total: total + 1,
        currency,
      })
    },
  ),
  'confirmed, and its stock not committed': ofDecided(isConfirmed, [SETTLED, BYTES], (model, order) =>
    hide(find(model, model.topics.inventoryEvents.name, order, 'COMMITTED')),
  ),
  'committed twice': ofDecided(
    isConfirmed,
    [SETTLED, 'no decided order has a second stock settlement'],
    (model, order) => repeat(model, find(model, model.topics.inventoryEvents.name, order, 'COMMITTED')),
  ),
  'captured event twice': ofDecided(
    isConfirmed,
    ['no decided order has a second payment settlement'],
    (model, order) => repeat(model, find(model, model.topics.paymentEvents.name, order, 'PaymentCaptured')),
  ),
  'a payment event one off': ofOrder(isValid, [AMOUNTS], (model, order) =>
    rewrite(model, find(model, model.topics.paymentEvents.name, order), (value) =>
      value.replace(`"amount":${order.total}`, `"amount":${order.total + 1}`),
    ),
  ),
  'the ledger one off': ofOrder(
    (order) => isValid(order) && order.isGood,
    [AMOUNTS],
    (model, order) => {
      inLedger(model, order, 'authorised').amountMinor--
    },
  ),
  'another currency in the ledger': ofOrder(
    (order) => isValid(order) && order.isGood,
    [AMOUNTS],
    (model, order) => {
      inLedger(model, order, 'authorised').currency = 'USD'
    },
  ),
  'validated one off': ofOrder(isValid, [AMOUNTS, 'totals are the sum of the lines'], (model, order) => {
    const record = find(model, model.topics.ordersValidated.name, order)
    record.value = record.value.replace(`"total":${order.total}`, `"total":${order.total + 1}`)
  }),
  'validated with other lines': ofOrder(
    (order) => isValid(order) && !order.isInStock,
    [AMOUNTS],
    (model, order) => {
      const record = find(model, model.topics.ordersValidated.name, order)
      record.value = record.value.replace('"sku":"', '"sku":"OTHER-')
    },
  ),
  'a key of another order': ofOrder(
    (order) => isValid(order) && !order.isInStock,
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
    find(model, model.topics.inventoryEvents.name, order).headers = {}
  }),
  'an answer to a record of another topic': ofOrder(
    isValid,
    [CAUSES, COUNTED.inventory.missing],
    (model, order) => {
      const record = find(model, model.topics.inventoryEvents.name, order)
      record.headers = {
        source: positionOf(find(model, model.topics.ordersValidated.name, order)).replace(
          'validated',
          'rejected',
        ),
      }
    },
  ),
  'an answer in another partition': ofOrder(isValid, [CAUSES], (model, order) => {
    const verdict = find(model, model.topics.inventoryEvents.name, order)
    hide(verdict)
    model.write(verdict.topic, 1 - verdict.partition, verdict.key, verdict.value, verdict.headers)
  }),
  'a value that is no event': ofOrder(isValid, ['records hold an event of their topic'], (model, order) => {
    find(model, model.topics.inventoryEvents.name, order).value = '{"type":"InventoryUpdated"'
  }),
  'an event of another topic': ofOrder(isValid, ['records hold an event of their topic'], (model, order) => {
    find(model, model.topics.inventoryEvents.name, order).value = find(
      model,
      model.topics.paymentEvents.name,
      order,
    ).value
  }),
  'other bytes than stored': ofOrder(isValid, [BYTES], (model, order) => {
    const record = find(model, model.topics.inventoryEvents.name, order)
    record.value = record.value.replace('{', '{"eventId":"another",')
  }),
  'no stored stock outcome': ofOrder(
    (order) => isValid(order) && !order.isInStock,
    [BYTES],
    loseOutcome('inventory_outcomes', 'reserve'),
  ),
  'no stored payment outcome': ofOrder(isValid, [BYTES], loseOutcome('payment_outcomes', 'authorise')),
  'a stored outcome of another order': ofOrder(isValid, [OUTCOMES, BYTES], (model, order) => {
    const row = model.outcomes.find(
      ({ orderId, table }) => orderId === order.id && table === 'payment_outcomes',
    )!
    row.event = row.event.replaceAll(order.id, 'ord-0')
  }),
  'a stored outcome from nowhere': ofOrder(
    (order) => isValid(order) && !order.isInStock,
    [OUTCOMES],
    (model, order) => {
      model.outcomes.find(
        ({ orderId, operation }) => orderId === order.id && operation === 'reserve',
      )!.source = 'nowhere'
    },
  ),
  'a stored outcome of another operation': ofOrder(isValid, [OUTCOMES], (model, { id }) => {
    model.outcomes.find(({ orderId, operation }) => orderId === id && operation === 'reserve')!.operation =
      'settle again'
  }),
  'a row of the ledger of no order': ({ model }) => {
    const id = 'x'.repeat(64)
    model.charge({ ...model.orders[0]!, id: `${id}x` }, 'authorise', 'authorised')
    return { id, checks: ['rows of the ledger are of orders'] }
  },
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
