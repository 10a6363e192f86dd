/**
 * The services of the model of the pipeline (test/auditModel.ts), a few lines each. Every `yield` is a moment at which
 * anything else may happen.
 */
import { MISSING_CODE } from '../lib/auditEvents.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import type { GroupName } from '../lib/topics.ts'
import type { Model, ModelOrder } from './auditModel.ts'
import { type ModelRecord, PLACED, sourceOf } from './auditModelRecords.ts'
import { deadLetter, judge, published, redrive, STUMBLING, stumbles, work } from './auditModelWork.ts'

type Service = (model: Model, partition: number) => Generator<void>
type Event = Record<string, unknown>

const CUSTOMER = { id: 'cust-1', name: 'Ada', email: 'ada@example.com', tier: 'gold', country: 'France' }
/** What the schema of an OrderValidated or an OrderRejected wants besides. */
const ENRICHED = {
  ...PLACED,
  status: 'PENDING',
  validationStatus: 'VALID',
  processedBy: 'model',
  validatedAt: PLACED.placedAt,
  customer: CUSTOMER,
  reasons: [{ code: 'model', message: 'the model said so' }],
}

const SERVICES: [GroupName, Service][] = [
  ['validator', validate],
  ['inventory', reserve],
  ['inventory', settleStock],
  ['payment', authorise],
  ['payment', settlePayment],
  ['fraud', assess],
  ['pricing', price],
  ['fulfilment', fulfil],
]

export function startServices(
  model: Model,
  partition: number,
  without: readonly GroupName[],
): Generator<void>[] {
  const services = SERVICES.filter(([group]) => !without.includes(group))
  return [
    ...services.map(([, service]) => service(model, partition)),
    ...STUMBLING.map((group) => redrive(model, group, partition)),
  ]
}

function validate(model: Model, partition: number): Generator<void> {
  const { ordersRaw, ordersValidated, ordersRejected } = model.topics
  return work(model, 'validator', ordersRaw.name, partition, function* (records) {
    return records.map((record) => {
      const order = model.orderOf(record)
      const fate = record.headers.fate ?? order.fate
      if (fate === 'poison' || stumbles(record, order, 'validator'))
        return deadLetter(model, 'validator', record)
      const { id, items, total, currency } = order
      const type = fate === 'valid' ? 'OrderValidated' : 'OrderRejected'
      const topic = fate === 'valid' ? ordersValidated.name : ordersRejected.name
      const value = { type, ...ENRICHED, orderId: id, items, total, currency }
      return { topic, key: id, value, headers: { source: sourceOf(record) } }
    })
  })
}

function reserve(model: Model, partition: number): Generator<void> {
  return judge(model, 'inventory', partition, function* (records) {
    model.now++
    for (const record of records) {
      const order = model.orderOf(record)
      if (model.stored('inventory_outcomes', 'reserve', order.id)) continue
      const status = order.isInStock ? 'RESERVED' : 'REJECTED'
      model.store('inventory_outcomes', 'reserve', order.id, sourceOf(record), stockEvent(order, status))
      if (order.isInStock) model.move(order, 'available', 'reserved')
    }
    yield
    return published(model, 'inventory_outcomes', 'reserve', records, model.topics.inventoryEvents.name)
  })
}

function settleStock(model: Model, partition: number): Generator<void> {
  const { ordersCompleted, inventoryEvents } = model.topics
  return work(model, 'inventory', ordersCompleted.name, partition, function* (records) {
    model.now++
    for (const record of records) {
      const order = model.orderOf(record)
      const isConfirmed = record.value.includes('OrderConfirmed')
      const verdict = model.stored('inventory_outcomes', 'reserve', order.id)
      // Cancelled before anything was reserved: nothing ever will be.
      if (!verdict) {
        const source = record.headers.source!
        model.store('inventory_outcomes', 'reserve', order.id, source, stockEvent(order, 'REJECTED'))
      } else if (verdict.event.includes('RESERVED')) {
        const status = isConfirmed ? 'COMMITTED' : 'RELEASED'
        model.store('inventory_outcomes', 'settle', order.id, sourceOf(record), stockEvent(order, status))
        model.move(order, 'reserved', isConfirmed ? 'committed' : 'available')
      }
    }
    yield
    return published(model, 'inventory_outcomes', 'settle', records, inventoryEvents.name)
  })
}

/** The gateway is asked before anything is stored, so that a decision can be carried out in between. */
function authorise(model: Model, partition: number): Generator<void> {
  return judge(model, 'payment', partition, function* (records) {
    for (const record of records) {
      const order = model.orderOf(record)
      if (model.stored('payment_outcomes', 'authorise', order.id)) continue
      const isGood = order.isGood && !model.inLedger(order.id, 'voided')
      model.charge(order, 'authorise', isGood ? 'authorised' : 'declined')
      yield
    }
    model.now++
    for (const record of records) {
      const order = model.orderOf(record)
      if (model.stored('payment_outcomes', 'authorise', order.id)) continue
      const said = model.inLedger(order.id, 'authorised')
        ? paymentEvent(order, 'PaymentProcessed', order.total)
        : { ...paymentEvent(order, 'PaymentFailed', order.total), reason: 'no funds' }
      model.store('payment_outcomes', 'authorise', order.id, sourceOf(record), said)
    }
    yield
    return published(model, 'payment_outcomes', 'authorise', records, model.topics.paymentEvents.name)
  })
}

function settlePayment(model: Model, partition: number): Generator<void> {
  const { ordersCompleted, paymentEvents } = model.topics
  return work(model, 'payment', ordersCompleted.name, partition, function* (records) {
    for (const record of records) {
      const order = model.orderOf(record)
      const verdict = model.stored('payment_outcomes', 'authorise', order.id)
      if (verdict?.event.includes('PaymentFailed')) continue
      const { total } = JSON.parse(record.value) as { total: number }
      if (record.value.includes('OrderConfirmed')) model.charge({ ...order, total }, 'capture', 'captured')
      else {
        const isHeld = model.inLedger(order.id, 'authorised') !== undefined
        model.charge(order, 'void', 'voided', 'void', isHeld ? `auth-${order.id}` : null)
      }
      yield
    }
    model.now++
    for (const record of records) settleOne(model, record)
    yield
    return published(model, 'payment_outcomes', 'settle', records, paymentEvents.name)
  })
}

function settleOne(model: Model, record: ModelRecord): void {
  const order = model.orderOf(record)
  const settled =
    model.inLedger(order.id, 'captured') ??
    model.ledger.find(({ orderId, status, authorisationId }) => {
      return orderId === order.id && status === 'voided' && authorisationId !== null
    })
  if (!model.stored('payment_outcomes', 'authorise', order.id)) {
    const verdict = settled
      ? paymentEvent(order, 'PaymentProcessed', order.total)
      : { ...paymentEvent(order, 'PaymentFailed', order.total), reason: 'order cancelled' }
    model.store('payment_outcomes', 'authorise', order.id, record.headers.source!, verdict)
  }
  if (!settled) return
  const type = settled.status === 'captured' ? 'PaymentCaptured' : 'PaymentVoided'
  const said = paymentEvent(order, type, settled.amountMinor)
  model.store('payment_outcomes', 'settle', order.id, sourceOf(record), said)
}

function assess(model: Model, partition: number): Generator<void> {
  return judge(model, 'fraud', partition, function* (records) {
    model.now++
    for (const record of records) {
      const { id: orderId, risk: verdict } = model.orderOf(record)
      const rules = verdict === 'pass' ? [] : [{ rule: 'model', points: 50, message: 'the model said so' }]
      const said = { type: 'FraudAssessed', ...envelopeOf(orderId), riskScore: 50, verdict, rules }
      model.store('fraud_outcomes', 'assess', orderId, sourceOf(record), said)
    }
    yield
    return published(model, 'fraud_outcomes', 'assess', records, model.topics.fraudEvents.name)
  })
}

function price(model: Model, partition: number): Generator<void> {
  return judge(model, 'pricing', partition, function* (records) {
    return records.map((record) => {
      const { id, currency, total: subtotal, discountMinor: amount } = model.orderOf(record)
      const total = subtotal - amount
      const tax = Math.floor(total / 6)
      const discounts = amount > 0 ? [{ code: 'model', message: 'the model said so', amount }] : []
      const parts = { currency, subtotal, discounts, total, net: total - tax, tax }
      const value = { type: 'OrderPriced', ...envelopeOf(id), ...parts, taxRate: 2000, taxCountry: 'France' }
      return { topic: model.topics.pricingEvents.name, key: id, value, headers: { source: sourceOf(record) } }
    })
  })
}

/** Decides what has all of its verdicts, and what will not get them, in any order. */
function* fulfil(model: Model, partition: number): Generator<void> {
  const waiting: { order: ModelOrder; source: string; patience: number }[] = []
  const taking = judge(model, 'fulfilment', partition, function* (records) {
    for (const record of records) {
      waiting.push({ order: model.orderOf(record), source: sourceOf(record), patience: model.below(8) })
    }
    yield
    return []
  })
  for (;;) {
    yield
    taking.next()
    for (const one of [...waiting]) {
      const { order, source } = one
      const verdicts = verdictsOn(model, source)
      const isWaiting = verdicts.size < JUDGE_NAMES.length && !(order.isHasty && model.chance(0.2))
      if (isWaiting && !(isStuck(model, source, verdicts) && one.patience-- === 0)) continue
      waiting.splice(waiting.indexOf(one), 1)
      model.now++
      model.store('fulfilment_outcomes', 'decide', order.id, source, decide(order, verdicts))
      const { event } = model.stored('fulfilment_outcomes', 'decide', order.id)!
      yield
      const { name } = model.topics.ordersCompleted
      const record = model.write(name, partition, order.id, event, { source }, Number.POSITIVE_INFINITY)
      yield
      record.committedAt = ++model.now
    }
  }
}

function verdictsOn(model: Model, source: string): Map<string, Event> {
  const answers = model.answersTo(source)
  return new Map(
    JUDGE_NAMES.flatMap((judge) => {
      const answer = answers.find(({ topic }) => topic === model.topics[`${judge}Events`].name)
      return answer ? [[judge, JSON.parse(answer.value) as Event]] : []
    }),
  )
}

/** Whatever is missing is a dead letter of its judge, which may be redriven or not. */
function isStuck(model: Model, source: string, verdicts: ReadonlyMap<string, Event>): boolean {
  const letters = model.answersTo(source).map(({ topic }) => topic)
  return JUDGE_NAMES.every(
    (judge) => verdicts.has(judge) || letters.includes(model.topics.deadLetters[judge].name),
  )
}

function decide({ id, items, total, currency }: ModelOrder, verdicts: ReadonlyMap<string, Event>): Event {
  const reasons: { code: string; message: string }[] = []
  const because = (code: string, message = 'the model said so') => void reasons.push({ code, message })
  for (const judge of JUDGE_NAMES) {
    if (!verdicts.has(judge)) because(MISSING_CODE, `${judge} did not answer in time`)
  }
  if (verdicts.get('inventory')?.status === 'REJECTED') because('out-of-stock')
  if (verdicts.get('payment')?.type === 'PaymentFailed') because('payment-declined')
  if (verdicts.get('fraud')?.verdict === 'fail') because('fraud')
  const { customerId, placedAt } = PLACED
  const common = { ...envelopeOf(id), customerId, placedAt, currency, items }
  if (reasons.length > 0) return { type: 'OrderCancelled', ...common, total, reasons }
  const isMarked = verdicts.get('fraud')?.verdict === 'warning'
  return {
    type: 'OrderConfirmed',
    ...common,
    total: verdicts.get('pricing')!.total,
    customer: CUSTOMER,
    shipmentNumber: `S-${id}`,
    warnings: isMarked ? [{ code: 'fraud-warning', message: 'the model said so' }] : [],
  }
}

function envelopeOf(orderId: string): Event {
  return { eventId: PLACED.eventId, occurredAt: PLACED.occurredAt, orderId }
}

function stockEvent({ id }: ModelOrder, status: string): Event {
  return { type: 'InventoryUpdated', ...envelopeOf(id), status, availability: 'limited', shortages: [] }
}

function paymentEvent({ id, currency }: ModelOrder, type: string, amount: number): Event {
  const authorisation = type === 'PaymentFailed' ? {} : { authorisationId: `auth-${id}` }
  return { type, ...envelopeOf(id), amount, currency, ...authorisation }
}
