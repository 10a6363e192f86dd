/** orders.validated, orders.completed -> inventory.events: one statement for each message. */
import { query } from '../../lib/database.ts'
import {
  eventIdOf,
  type InventoryUpdated,
  type OrderCompleted,
  type OrderValidated,
} from '../../lib/events.ts'
import { publish } from '../../lib/record.ts'
import type { Topic } from '../../lib/topics.ts'
import { runNaively } from '../../test/naive/service.ts'

type Message = OrderValidated | OrderCompleted

/** All lines or none; what falls to its low level is restocked. */
const RESERVE = `
  WITH wanted AS (
    SELECT sku, sum(quantity) AS quantity FROM unnest($1::text[], $2::bigint[]) AS line (sku, quantity) GROUP BY sku
  ), held AS (
    SELECT sku, available, quantity, CASE WHEN available - quantity <= low_level THEN restock_quantity ELSE 0 END AS brought
    FROM stock JOIN wanted USING (sku) ORDER BY sku FOR UPDATE OF stock
  )
  UPDATE stock SET received = received + held.brought, reserved = reserved + held.quantity,
    available = stock.available - held.quantity + held.brought
  FROM held
  WHERE stock.sku = held.sku AND NOT EXISTS (
    SELECT FROM wanted LEFT JOIN held USING (sku) WHERE held.sku IS NULL OR held.available < wanted.quantity)
  RETURNING stock.sku`
/** $3: whether it is released; else it leaves the house. */
const SETTLE = `
  UPDATE stock SET reserved = reserved - line.quantity,
    available = available + CASE WHEN $3 THEN line.quantity ELSE 0 END,
    committed = committed + CASE WHEN $3 THEN 0 ELSE line.quantity END
  FROM (SELECT sku, sum(quantity) AS quantity FROM unnest($1::text[], $2::bigint[]) AS line (sku, quantity) GROUP BY sku)
    AS line
  WHERE stock.sku = line.sku`

await runNaively('inventory', (config, database) => {
  const { ordersValidated, ordersCompleted, inventoryEvents } = config.topics

  async function handle(message: Message) {
    const skus = message.items.map(({ sku }) => sku)
    const quantities = message.items.map(({ quantity }) => quantity)
    if (message.type === 'OrderValidated') {
      const rows = await query(database, { name: 'reserve', text: RESERVE, values: [skus, quantities] })
      return say(message.orderId, 'reserve', rows.length > 0 ? 'RESERVED' : 'REJECTED')
    }
    const isReleased = message.type === 'OrderCancelled'
    if (isReleased && message.reasons.some(({ code }) => code === 'out-of-stock')) return undefined
    await query(database, { name: 'settle', text: SETTLE, values: [skus, quantities, isReleased] })
    return say(message.orderId, 'settle', isReleased ? 'RELEASED' : 'COMMITTED')
  }

  function say(orderId: string, operation: string, status: InventoryUpdated['status']) {
    const eventId = eventIdOf(orderId, 'InventoryUpdated', operation)
    const availability = status === 'REJECTED' ? 'unavailable' : 'available'
    const occurredAt = new Date().toISOString()
    const event: InventoryUpdated = {
      ...{ type: 'InventoryUpdated', eventId, occurredAt, orderId, status, availability, shortages: [] },
    }
    return publish(inventoryEvents, event, orderId)
  }

  return { inputs: [ordersValidated, ordersCompleted] as unknown as Topic<Message>[], handle }
})
