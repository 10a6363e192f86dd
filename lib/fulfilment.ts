/**
 * The work of fulfilment: joins each order with its verdicts (lib/verdictJoin.ts), decides it (lib/decision.ts), stores
 * the decision and publishes it. The store says which decision was made first, for example when a verdict came between
 * a time-out that was not published in the end and its second try; the join says whether it was published.
 */
import { type Database, inTransaction, query } from './database.ts'
import { decide } from './decision.ts'
import type { EndsLook } from './endsLook.ts'
import { UnavailableError } from './errors.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated } from './events.ts'
import { JUDGE_NAMES, JUDGES } from './judges.ts'
import { OutcomeBook } from './outcomes.ts'
import { causeOf, DeadLetter, type InputRecord, type Outcome, type Outgoing, publish } from './record.ts'
import { judgeTopics, type Topic, type TopicTable } from './topics.ts'
import { type Joined, VerdictJoin } from './verdictJoin.ts'
import type { Offsets, Work } from './work.ts'

export interface FulfilmentOptions {
  topics: TopicTable
  database: Database
  /** How long an order waits for its verdicts after it was validated. */
  timeoutMs: number
  /** Where the inputs end in one partition, looked at at `afterMs` or later; undefined while that is asked. */
  lookAtEnds(partition: number, afterMs: number): EndsLook | undefined
}

const DECIDE = 'decide'
/** Decided for want of verdicts in one go: after an outage they can be many. */
const MAX_OVERDUE = 500

/** What is kept of an order until it is decided. */
interface OpenOrder {
  source: string
  /** The context of the trace that its decision continues: that of the record which completed it, at first its own. */
  traceparent: string | undefined
  event: Pick<OrderValidated, 'orderId' | 'customerId' | 'placedAt' | 'currency' | 'total' | 'customer'> & {
    items: OrderCompleted['items']
  }
}

interface State {
  join: VerdictJoin<OpenOrder>
  partition: number
  /** Under way: decides what was due then, once all that was there then is read. */
  look: EndsLook | undefined
  /** Infinity while there are none. */
  hasStraysSinceMs: number
  /** Something was read back, and it is not settled yet what of that was decided. */
  isRestored: boolean
}

export type FulfilmentEvent = { orderId: string; type: string }

/** What fulfilment reads, verdicts before the orders that they are about; see `createEndsLook`. */
export function inputWaves(topics: TopicTable): string[][] {
  return [judgeTopics(topics).map(({ name }) => name), [topics.ordersValidated.name]]
}

export function createFulfilment({
  topics,
  database,
  timeoutMs,
  lookAtEnds,
}: FulfilmentOptions): Omit<Work<FulfilmentEvent, State>, 'maxBatchRecords'> {
  const { ordersValidated, ordersCompleted } = topics
  // Each takes its own kind of event, and is only ever asked for what it has decoded itself.
  const judges = judgeTopics(topics) as Topic<FulfilmentEvent>[]
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
      isRestored: false,
    }),
    keepFrom: ({ join }) => join.keepFrom(Date.now()),
    remember(state, record) {
      take(state, record, [])
      state.isRestored = true
    },
    async handle(records, state) {
      await settleRestored(state)
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

  /**
   * What was read back and is complete was decided in the transaction that committed the last of it, and the decision is
   * stored. Not so when a verdict was a dead letter then, and can be used now that this is another release: it is decided.
   */
  async function settleRestored(state: State): Promise<void> {
    if (!state.isRestored) return
    const { ready } = state.join
    const book = await OutcomeBook.read(
      database,
      'fulfilment_outcomes',
      ready.map(({ order }) => order),
    )
    state.join.settle(ready.filter(({ order }) => book.find(order.event.orderId, DECIDE) !== undefined))
    state.isRestored = false
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
    const { orderId } = record.event
    const { join } = state
    const complete = join.ready.length
    if (!join.addVerdict(judge, cause.offset, orderId, verdict, record.offset)) {
      return new DeadLetter(`its cause is another order than ${orderId}`)
    }
    if (join.ready.length > complete && record.traceparent !== undefined) {
      join.ready.at(-1)!.order.traceparent = record.traceparent
    }
    return []
  }

  function takeOrder(
    join: State['join'],
    { offset, timestampMs, source, event, traceparent }: InputRecord<OrderValidated>,
    late: Joined<OpenOrder>[],
  ): void {
    const { orderId, customerId, placedAt, currency, total, customer, items } = event
    const order = {
      source,
      traceparent,
      event: {
        orderId,
        customerId,
        placedAt,
        currency,
        total,
        customer,
        items: items.map(({ sku, quantity }) => ({ sku, quantity })),
      },
    }
    if (
      join.addOrder(offset, orderId, order, Math.min(timestampMs, Date.now()) + timeoutMs) ||
      join.has(offset)
    )
      return
    late.push({ offset, order, verdicts: judges.map(() => undefined) })
  }

  /**
   * Orders whose time is over. Not before all verdicts are read that were there when it was: after a standstill of this
   * service they all wait in the topics.
   */
  async function findOverdue(state: State, handled: Offsets): Promise<Outgoing[]> {
    await settleRestored(state)
    const { join, partition } = state
    const nowMs = Date.now()
    if (!join.hasStrays) state.hasStraysSinceMs = Number.POSITIVE_INFINITY
    else if (state.hasStraysSinceMs === Number.POSITIVE_INFINITY) state.hasStraysSinceMs = nowMs
    const isDue = join.dueMs <= nowMs || state.hasStraysSinceMs + timeoutMs <= nowMs
    if (!state.look && !isDue) return []
    state.look ??= lookAtEnds(partition, Math.min(join.dueMs, nowMs))
    if (!state.look) return []
    const { atMs, ends } = state.look
    const isReadTo = ([topic, end]: readonly [string, number]) => handled.get(topic)! >= end
    if (![...ends].every(isReadTo)) return []
    join.dropStrays(ends)
    state.hasStraysSinceMs = Number.POSITIVE_INFINITY
    const overdue = join.overdueAt(atMs, MAX_OVERDUE)
    const outgoing = await decideAll(overdue)
    join.settle(overdue)
    if (overdue.length < MAX_OVERDUE) state.look = undefined
    return outgoing
  }

  /**
   * @throws UnavailableError for whatever goes wrong: the records in hand are not to blame, and one order that cannot be
   *   decided must not make dead letters of all that come after it
   */
  async function decideAll(joined: readonly Joined<OpenOrder>[]): Promise<Outgoing[]> {
    if (joined.length === 0) return []
    try {
      return await storeDecisions(joined)
    } catch (error) {
      throw error instanceof UnavailableError ? error : new UnavailableError('a decision', error)
    }
  }

  async function storeDecisions(joined: readonly Joined<OpenOrder>[]): Promise<Outgoing[]> {
    const orders = joined.map(({ order }) => order)
    const verdictsOf = new Map(joined.map(({ order, verdicts }) => [order, verdicts]))
    return inTransaction(database, async (client) => {
      const book = await OutcomeBook.read(client, 'fulfilment_outcomes', orders)
      const decisions = book.undecided(DECIDE, orders).map((order) => {
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
        book.add(DECIDE, order, publish(ordersCompleted, event, noteOf(event)))
      }
      await book.save()
      return orders.flatMap((order) =>
        book.outcomeOf(DECIDE, order, ordersCompleted).map((outgoing) => {
          return { ...outgoing, traceparent: order.traceparent ?? null }
        }),
      )
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
    items,
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
