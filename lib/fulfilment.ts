/**
 * The work of fulfilment: joins each order with its verdicts (lib/verdictJoin.ts), decides it (lib/decision.ts), stores
 * the decision and publishes it. The store says which decision was made first, for example when a verdict came between
 * a time-out that was not published in the end and its second try; the join says whether it was published.
 */
import { type Database, inTransaction, query } from './database.ts'
import { decide } from './decision.ts'
import type { EndsLook } from './endsLook.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated } from './events.ts'
import { JUDGE_NAMES, JUDGES } from './judges.ts'
import { OutcomeBook } from './outcomes.ts'
import { causeOf, DeadLetter, type InputRecord, type Outcome, type Outgoing, publish } from './record.ts'
import type { Topic, TopicTable } from './topics.ts'
import { type Joined, VerdictJoin } from './verdictJoin.ts'
import type { Offsets, Work } from './work.ts'

export interface FulfilmentOptions {
  topics: TopicTable
  database: Database
  /** How long an order waits for its verdicts after it was validated. */
  timeoutMs: number
  /** Where the inputs end in one partition, looked at at `afterMs` or later. */
  lookAtEnds(partition: number, afterMs: number): Promise<EndsLook>
}

/** What is kept of an order until it is decided. */
interface OpenOrder {
  source: string
  event: Pick<
    OrderValidated,
    'orderId' | 'customerId' | 'placedAt' | 'currency' | 'total' | 'customer' | 'items'
  >
}

interface State {
  join: VerdictJoin<OpenOrder>
  partition: number
  /** Under way: decides what was due then, once all that was there then is read. */
  look: EndsLook | undefined
  hasStraysSinceMs: number
}

export type FulfilmentEvent = { orderId: string; type: string }

/** Orders, and the verdicts of the judges in the order of their table. */
export function inputsOf(topics: TopicTable): string[] {
  return [topics.ordersValidated.name, ...judgeTopics(topics).map(({ name }) => name)]
}

function judgeTopics(topics: TopicTable): Topic<FulfilmentEvent>[] {
  return JUDGE_NAMES.map((name) => topics[`${name}Events`] as Topic<FulfilmentEvent>)
}

export function createFulfilment({
  topics,
  database,
  timeoutMs,
  lookAtEnds,
}: FulfilmentOptions): Omit<Work<FulfilmentEvent, State>, 'maxBatchRecords'> {
  const { ordersValidated, ordersCompleted } = topics
  const judges = judgeTopics(topics)
  const judgeOf = new Map(judges.map(({ name }, index) => [name, index]))

  return {
    inputs: [ordersValidated as Topic<FulfilmentEvent>, ...judges],
    createState: (starts) => ({
      join: new VerdictJoin({
        orders: ordersValidated.name,
        verdicts: judges.map(({ name }) => name),
        starts,
      }),
      partition: -1,
      look: undefined,
      hasStraysSinceMs: Number.POSITIVE_INFINITY,
    }),
    keepFrom: ({ join }) => join.keepFrom(Date.now()),
    remember(state, record) {
      take(state, record, [])
      // All of it was committed, and with it the decision.
      state.join.settle(state.join.ready)
    },
    async handle(records, state) {
      const late: Joined<OpenOrder>[] = []
      const outcomes = records.map((record) => take(state, record, late))
      // Each decision names its own cause, so it does not matter which record it comes out with.
      const bearer = outcomes.findIndex((outcome) => !(outcome instanceof DeadLetter))
      if (bearer < 0) return outcomes
      outcomes[bearer] = await decideAll([...state.join.ready, ...late])
      state.join.settle(state.join.ready)
      return outcomes
    },
    overdue: findOverdue,
  }

  /** @param late takes an order that is to be decided at once: it was given up before, and is redriven */
  function take(state: State, record: InputRecord<FulfilmentEvent>, late: Joined<OpenOrder>[]): Outcome {
    state.partition = record.partition
    const judge = judgeOf.get(record.topic)
    if (judge === undefined) {
      takeOrder(state.join, record as InputRecord<OrderValidated>, late)
      return []
    }
    const verdict = JUDGES[JUDGE_NAMES[judge]!].read(record.event as never)
    if (!verdict) return []
    const cause = causeOf(record)
    if (cause?.topic !== ordersValidated.name || cause.partition !== record.partition) {
      return new DeadLetter(`its cause is no record of ${ordersValidated.name} in its partition`)
    }
    state.join.addVerdict(judge, cause.offset, verdict, record.offset)
    return []
  }

  function takeOrder(
    join: State['join'],
    { offset, timestampMs, source, event }: InputRecord<OrderValidated>,
    late: Joined<OpenOrder>[],
  ): void {
    const { orderId, customerId, placedAt, currency, total, customer, items } = event
    const order = {
      source,
      event: { orderId, customerId, placedAt, currency, total, customer, items },
    }
    if (join.addOrder(offset, order, timestampMs + timeoutMs) || join.has(offset)) return
    late.push({ offset, order, verdicts: judges.map(() => undefined) })
  }

  /**
   * Orders whose time is over. Not before all verdicts are read that were there when it was: after a standstill of this
   * service they all wait in the topics.
   */
  async function findOverdue(state: State, handled: Offsets): Promise<Outgoing[]> {
    const { join, partition } = state
    const nowMs = Date.now()
    if (!join.hasStrays) state.hasStraysSinceMs = Number.POSITIVE_INFINITY
    else if (state.hasStraysSinceMs === Number.POSITIVE_INFINITY) state.hasStraysSinceMs = nowMs
    const isDue = join.dueMs <= nowMs || state.hasStraysSinceMs + timeoutMs <= nowMs
    if (!state.look && !isDue) return []
    state.look ??= await lookAtEnds(partition, Math.min(join.dueMs, nowMs))
    const { atMs, ends } = state.look
    for (const [topic, end] of ends) if (handled.get(topic)! < end) return []
    join.dropStrays(ends)
    const overdue = join.overdueAt(atMs)
    const outgoing = await decideAll(overdue)
    join.settle(overdue)
    state.look = undefined
    return outgoing
  }

  async function decideAll(joined: readonly Joined<OpenOrder>[]): Promise<Outgoing[]> {
    if (joined.length === 0) return []
    const orders = joined.map(({ order }) => order)
    const verdictsOf = new Map(joined.map(({ order, verdicts }) => [order, verdicts]))
    return inTransaction(database, async (client) => {
      const book = await OutcomeBook.read(client, 'fulfilment_outcomes', orders)
      const decisions = book.undecided('decide', orders).map((order) => {
        const verdicts = verdictsOf
          .get(order)!
          .map((verdict, judge) => [JUDGE_NAMES[judge]!, verdict] as const)
        return { order, decision: decide(order.event, verdicts) }
      })
      const confirmed = decisions.filter(({ decision }) => decision.isConfirmed).length
      const numbers = confirmed > 0 ? await takeShipmentNumbers(client, confirmed) : []
      const occurredAt = new Date().toISOString()
      for (const { order, decision } of decisions) {
        const shipmentNumber = decision.isConfirmed ? numbers.pop()! : ''
        const event = toEvent(order.event, decision, { occurredAt, shipmentNumber })
        book.add('decide', order, publish(ordersCompleted, event, noteOf(event)))
      }
      await book.save()
      return orders.flatMap((order) => book.outcomeOf('decide', order, ordersCompleted) as Outgoing[])
    })
  }
}

async function takeShipmentNumbers(client: Parameters<typeof query>[0], count: number): Promise<string[]> {
  const rows = await query<{ number: number }>(client, {
    name: 'take-shipment-numbers',
    text: `SELECT nextval('shipment_numbers') AS number FROM generate_series(1, $1)`,
    values: [count],
  })
  return rows.map(({ number }) => `SHP-${String(number).padStart(8, '0')}`)
}

function toEvent(
  { orderId, customerId, placedAt, currency, total, customer, items }: OpenOrder['event'],
  decision: ReturnType<typeof decide>,
  { occurredAt, shipmentNumber }: { occurredAt: string; shipmentNumber: string },
): OrderCompleted {
  const fields = {
    occurredAt,
    orderId,
    customerId,
    placedAt,
    currency,
    items: items.map(({ sku, quantity }) => ({ sku, quantity })),
  }
  if (!decision.isConfirmed) {
    const type = 'OrderCancelled'
    return { type, eventId: eventIdOf(orderId, type), ...fields, total, reasons: decision.reasons }
  }
  const type = 'OrderConfirmed'
  const { totalMinor, warnings } = decision
  return {
    type,
    eventId: eventIdOf(orderId, type),
    ...fields,
    total: totalMinor,
    customer,
    shipmentNumber,
    warnings,
  }
}

function noteOf(event: OrderCompleted): string {
  if (event.type === 'OrderConfirmed') return `${event.orderId} CONFIRMED ${event.shipmentNumber}`
  return `${event.orderId} CANCELLED ${event.reasons.map(({ code }) => code).join(', ')}`
}
