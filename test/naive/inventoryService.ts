/** orders.validated -> inventory.events: takes the stock of each message that it is given, however often that is. */
import { type Client, inTransaction, query } from '../../lib/database.ts'
import { eventIdOf, type OrderItem, type OrderValidated } from '../../lib/events.ts'
import { publish } from '../../lib/record.ts'
import { runNaively } from './service.ts'

await runNaively('inventory', (config, database) => {
  const { ordersValidated, inventoryEvents } = config.topics
  return {
    inputs: [ordersValidated],
    async handle({ orderId, items }: OrderValidated) {
      const isReserved = await inTransaction(database, (client) => takeAll(client, items))
      return publish(
        inventoryEvents,
        {
          type: 'InventoryUpdated',
          eventId: eventIdOf(orderId, 'InventoryUpdated', 'reserve'),
          occurredAt: new Date().toISOString(),
          orderId,
          status: isReserved ? 'RESERVED' : 'REJECTED',
          availability: isReserved ? 'available' : 'unavailable',
          shortages: [],
        },
        orderId,
      )
    },
  }
})

async function takeAll(client: Client, items: readonly OrderItem[]): Promise<boolean> {
  const sorted = [...items].sort((a, b) => (a.sku < b.sku ? -1 : 1))
  const left: number[] = []
  for (const { sku, quantity } of sorted) {
    const [row] = await query<{ available: number }>(client, {
      name: 'look-at-stock',
      text: 'SELECT available FROM stock WHERE sku = $1 FOR UPDATE',
      values: [sku],
    })
    left.push((row?.available ?? 0) - quantity)
  }
  if (left.some((available) => available < 0)) return false
  for (const { sku, quantity } of sorted) {
    await query(client, {
      name: 'take-stock',
      text: 'UPDATE stock SET available = available - $2, reserved = reserved + $2 WHERE sku = $1',
      values: [sku, quantity],
    })
  }
  return true
}
