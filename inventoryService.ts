/**
 * Reserves stock: orders.validated -> inventory.events (RESERVED or REJECTED).
 *
 * Reservation and outcome are one PostgreSQL transaction per batch, before the Kafka transaction. So an order
 * reserves once, whatever is killed in between: a second look finds the stored outcome and publishes its bytes.
 * An order gets all of its lines or none, and no stock is ever negative (the table forbids it, too).
 *
 * Flags: --verbose prints a line per order. Run as many instances as there are partitions.
 */
import { type Client, inTransaction, query } from './lib/database.ts'
import { eventIdOf, type InventoryUpdated, type OrderValidated } from './lib/events.ts'
import { OutcomeBook } from './lib/outcomes.ts'
import { type InputRecord, type Outgoing, publish } from './lib/record.ts'
import { runService } from './lib/service.ts'
import { reserve, type StockLevel } from './lib/stock.ts'

/** Larger, and the rows of popular products are locked for too long. */
const MAX_BATCH_RECORDS = 500

await runService('inventory', 'Reserves the stock of validated orders.', async ({ config, openDatabase }) => {
  const { ordersValidated, inventoryEvents } = config.topics
  const database = await openDatabase(config.partitions)

  return {
    inputs: [ordersValidated],
    outputs: [inventoryEvents],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => undefined,
    handle: (records: InputRecord<OrderValidated>[]) =>
      inTransaction(database, async (client) => {
        const book = await OutcomeBook.read(client, 'inventory_outcomes', records)
        const undecided = book.undecided('reserve', records)
        const events = await reserveAll(client, undecided)
        undecided.forEach((record, index) => void book.add('reserve', record, events[index]!))
        await book.save()
        return records.map((record) => book.outcomeOf('reserve', record, inventoryEvents))
      }),
  }

  async function reserveAll(client: Client, records: InputRecord<OrderValidated>[]): Promise<Outgoing[]> {
    const skus = new Set(records.flatMap(({ event }) => event.items.map(({ sku }) => sku)))
    const levels = await lockStock(client, [...skus])
    const before = new Map([...levels].map(([sku, { available }]) => [sku, available]))
    const occurredAt = new Date().toISOString()
    const outgoing = records.map(({ event: { orderId, items } }) => {
      const event: InventoryUpdated = {
        type: 'InventoryUpdated',
        eventId: eventIdOf(orderId, 'InventoryUpdated', 'reserve'),
        occurredAt,
        orderId,
        ...reserve(levels, items),
      }
      return publish(inventoryEvents, event, `${orderId} ${event.status} ${event.availability}`)
    })
    const reserved = [...levels].map(([sku, { available }]) => [sku, before.get(sku)! - available] as const)
    await moveToReserved(
      client,
      reserved.filter(([, quantity]) => quantity > 0),
    )
    return outgoing
  }
})

/** Sorted, so that two batches with products in common wait for each other and do not deadlock. */
async function lockStock(client: Client, skus: string[]): Promise<Map<string, StockLevel>> {
  const rows = await query<StockLevel & { sku: string }>(client, {
    name: 'lock-stock',
    text: 'SELECT sku, available, low_level AS "lowLevel" FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE',
    values: [skus],
  })
  return new Map(rows.map(({ sku, available, lowLevel }) => [sku, { available, lowLevel }]))
}

async function moveToReserved(
  client: Client,
  reserved: readonly (readonly [string, number])[],
): Promise<void> {
  await query(client, {
    name: 'reserve-stock',
    text: `UPDATE stock SET available = available - taken.quantity, reserved = reserved + taken.quantity
           FROM unnest($1::text[], $2::bigint[]) AS taken (sku, quantity) WHERE stock.sku = taken.sku`,
    values: [reserved.map(([sku]) => sku), reserved.map(([, quantity]) => quantity)],
  })
}
