/** orders.validated, the judges' topics -> orders.completed: joins by one statement for each message. */
import { query } from '../../lib/database.ts'
import { decide } from '../../lib/decision.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated } from '../../lib/events.ts'
import { JUDGE_NAMES, JUDGES, type Verdict } from '../../lib/judges.ts'
import { publish } from '../../lib/record.ts'
import { judgeTopics, type Topic } from '../../lib/topics.ts'
import { type NaiveRecord, runNaively } from '../../test/naive/service.ts'

type Message = { orderId: string; type: string }
type Parts = { order?: OrderValidated } & Partial<Record<string, Verdict>>

/** Adds what has come, and answers with all that is there by then. */
const JOIN = `
  INSERT INTO naive_joins AS known (order_id, parts) VALUES ($1, jsonb_build_object($2::text, $3::jsonb))
  ON CONFLICT (order_id) DO UPDATE SET parts = known.parts || excluded.parts RETURNING parts`

await runNaively('fulfilment', async (config, database) => {
  const { ordersValidated, ordersCompleted } = config.topics
  const judges = judgeTopics(config.topics)
  const judgeOf = new Map(judges.map(({ name }, index) => [name, JUDGE_NAMES[index]!]))
  await query(database, {
    text: 'CREATE TABLE IF NOT EXISTS naive_joins (order_id text PRIMARY KEY, parts jsonb NOT NULL)',
  })

  async function handle(message: Message, { topic }: NaiveRecord) {
    const judge = judgeOf.get(topic)
    const part = judge === undefined ? message : JUDGES[judge].read(message as never)
    if (!part) return undefined
    const [row] = await query<{ parts: Parts }>(database, {
      name: 'join',
      text: JOIN,
      values: [message.orderId, judge ?? 'order', JSON.stringify(part)],
    })
    const { order, ...verdicts } = row!.parts
    if (!order || JUDGE_NAMES.some((name) => !verdicts[name])) return undefined
    return publish(ordersCompleted, complete(order, verdicts), order.orderId)
  }

  function complete(order: OrderValidated, verdicts: Partial<Record<string, Verdict>>): OrderCompleted {
    const { orderId, customerId, placedAt, currency, customer } = order
    const decision = decide(
      order,
      JUDGE_NAMES.map((name) => [name, verdicts[name]]),
    )
    const type = decision.isConfirmed ? 'OrderConfirmed' : 'OrderCancelled'
    const items = order.items.map(({ sku, quantity }) => ({ sku, quantity }))
    const fields = {
      ...{ eventId: eventIdOf(orderId, type), occurredAt: new Date().toISOString() },
      ...{ orderId, customerId, placedAt, currency, items },
    }
    if (!decision.isConfirmed) {
      return { type: 'OrderCancelled', ...fields, total: order.total, reasons: decision.reasons }
    }
    const { totalMinor: total, warnings } = decision
    return { type: 'OrderConfirmed', ...fields, total, customer, shipmentNumber: `SHP-${orderId}`, warnings }
  }

  return { inputs: [ordersValidated, ...judges] as unknown as Topic<Message>[], handle }
})
