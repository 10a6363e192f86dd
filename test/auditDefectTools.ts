/** What defects are planted with: how orders are picked for them, and how records are spoilt. */
import { MISSING_CODE } from '../lib/auditEvents.ts'
import type { LedgerRow } from '../lib/auditRows.ts'
import type { StockRow } from '../lib/auditStock.ts'
import type { JudgeName } from '../lib/judges.ts'
import type { GroupName } from '../lib/topics.ts'
import type { Model, ModelOrder } from './auditModel.ts'
import { type ModelRecord, positionOf } from './auditModelRecords.ts'

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

export type Fit = (order: ModelOrder, model: Model) => boolean

function answeredOnce(cause: string, answer: string) {
  return { missing: `every ${cause} has its ${answer}`, second: `no ${cause} has a second ${answer}` }
}

export const COUNTED = {
  validation: answeredOnce('order placed', 'validation'),
  inventory: answeredOnce('validated order', 'inventory verdict'),
  payment: answeredOnce('validated order', 'payment verdict'),
  fraud: answeredOnce('validated order', 'fraud verdict'),
  pricing: answeredOnce('validated order', 'pricing verdict'),
  decision: answeredOnce('validated order', 'decision'),
}
export const CAUSES = 'events have a cause, of the same order'
export const EVENTS = 'records hold an event of their topic'
export const BYTES = 'published events are the stored outcomes'
export const OUTCOMES = 'stored outcomes are events of their order'
export const DECISIONS = 'decisions follow from the verdicts'
export const AMOUNTS = 'amounts are the same all the way'
export const PARTS = 'the parts of a price add up to it'
export const CAPTURED = 'captured if and only if confirmed'
export const VOIDED = 'voided if and only if cancelled and authorised'
export const LEDGER = 'payment events agree with the ledger'
export const SETTLED = 'stock is settled as decided'
export const LEFT = 'no good record is left in the dead letters'

export const isClean: Fit = (order) => order.stumbles === undefined
export const isValid: Fit = (order, model) => isClean(order, model) && order.fate === 'valid'
export const isShort: Fit = (order, model) => isValid(order, model) && !order.isInStock
export const isAuthorised: Fit = (order, model) =>
  isValid(order, model) && model.inLedger(order.id, 'authorised') !== undefined
export const isConfirmed: Fit = (order, model) =>
  isValid(order, model) && decisionOn(model, order).value.includes('OrderConfirmed')
/** With all verdicts in time. */
export const isCancelled: Fit = (order, model) => {
  if (!isValid(order, model)) return false
  const { value } = decisionOn(model, order)
  return value.includes('OrderCancelled') && !value.includes(MISSING_CODE)
}
/** Its payment was authorised and voided, and it was never in stock. */
export const isVoided: Fit = (order, model) =>
  isCancelled(order, model) && !order.isInStock && isAuthorised(order, model)
/** Cancelled before anybody asked the gateway. */
export const isUnasked: Fit = (order, model) =>
  isValid(order, model) && verdictOf(model, 'payment', order).value.includes('order cancelled')

export function find(model: Model, topic: string, { id }: ModelOrder, part = ''): ModelRecord {
  return model.records(topic).find(({ key, value }) => key === id && value.includes(part))!
}

export function decisionOn(model: Model, order: ModelOrder): ModelRecord {
  return find(model, model.topics.ordersCompleted.name, order)
}

/** The verdict of a judge, and not how it settled the order. */
export function verdictOf(model: Model, judge: JudgeName, { id }: ModelOrder): ModelRecord {
  const { ordersValidated } = model.topics
  return model
    .records(model.topics[`${judge}Events`].name)
    .find(({ key, headers }) => key === id && headers.source?.startsWith(`${ordersValidated.name}/`))!
}

/** As if its transaction had been aborted: a hole in the log. */
export function hide(record: ModelRecord): void {
  record.committedAt = Number.POSITIVE_INFINITY
}

/** Writes a dead letter for it that nobody settles. */
export function leave(model: Model, group: GroupName, record: ModelRecord): void {
  const { partition, key, value } = record
  model.write(model.topics.deadLetters[group].name, partition, key, value, { source: positionOf(record) })
}

export function repeat(model: Model, { topic, partition, key, value, headers }: ModelRecord): void {
  model.write(topic, partition, key, value, headers)
}

/** Says something else, in the topic and in the table. */
export function rewrite(model: Model, record: ModelRecord, changes: Record<string, unknown>): void {
  const row = model.outcomes.find(({ event }) => event === record.value)
  record.value = JSON.stringify({ ...(JSON.parse(record.value) as object), ...changes })
  if (row) row.event = record.value
}

export function inLedger(model: Model, { id }: ModelOrder, status: string): LedgerRow {
  return model.inLedger(id, status)!
}

/** A defect of one order. */
export function ofOrder(
  isFit: Fit,
  checks: string[],
  spoil: (model: Model, order: ModelOrder) => void,
): Plant {
  return ({ model, pick }) => {
    const order = pick((order) => isFit(order, model))
    if (!order) return undefined
    spoil(model, order)
    return { id: order.id, checks }
  }
}

/** What changes are made from. */
interface SomeEvent {
  total: number
  subtotal: number
  tax: number
  discounts: object[]
}

/** A defect of what is said about one order in a topic: other fields than it has. */
export function ofEvent(
  isFit: Fit,
  checks: string[],
  topic: 'fraudEvents' | 'pricingEvents' | 'paymentEvents' | 'ordersCompleted',
  change: (event: SomeEvent, order: ModelOrder) => Record<string, unknown>,
): Plant {
  return ofOrder(isFit, checks, (model, order) => {
    const record = find(model, model.topics[topic].name, order)
    rewrite(model, record, change(JSON.parse(record.value) as SomeEvent, order))
  })
}

export function ofStock(checks: string[], spoil: (row: StockRow) => void): Plant {
  return ({ pickStock }) => {
    const row = pickStock()
    if (!row) return undefined
    spoil(row)
    return { id: row.sku, checks }
  }
}

/** A row of outcomes that is not there. */
export function loseOutcome(table: string, operation: string) {
  return (model: Model, { id }: ModelOrder) => {
    model.outcomes = model.outcomes.filter(
      (row) => row.table !== table || row.operation !== operation || row.orderId !== id,
    )
  }
}
