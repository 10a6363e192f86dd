/**
 * Reserves the stock of validated orders, and carries out what was decided about them.
 *
 *   orders.validated -> inventory.events   RESERVED | REJECTED
 *   orders.completed -> inventory.events   COMMITTED (confirmed) | RELEASED (cancelled, and it was reserved)
 *
 * Stock and outcome are one PostgreSQL transaction per batch, before the Kafka transaction. So an order reserves once
 * and is settled once, whatever is killed in between: a second look finds the stored outcome and publishes its bytes.
 * An order gets all of its lines or none, and no stock is ever negative (the table forbids it, too). One that is
 * cancelled before it was looked at is REJECTED, and reserves nothing when it comes.
 *
 * An order that leaves a product at or below its low level has it restocked in the same transaction, unless the product
 * is withdrawn. Each instance keeps the whole catalogue, from the topic `products`, and can be asked for it:
 * GET /products and /products/<sku> on its health port.
 *
 * Flags: --verbose prints a line per order;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */
import { createKafka } from './kafkaConfig.ts'
import { Catalogue } from './lib/catalogue.ts'
import { catalogueRoutes } from './lib/catalogueRoutes.ts'
import { type Client, inTransaction, query } from './lib/database.ts'
import { eventIdOf, type InventoryUpdated } from './lib/events.ts'
import { OutcomeBook } from './lib/outcomes.ts'
import { bookReceipts, type Receipt } from './lib/products.ts'
import { publish } from './lib/record.ts'
import { type RestockLevel, restock } from './lib/restock.ts'
import { runService } from './lib/service.ts'
import {
  type DecisionRecord,
  isDecision,
  SETTLE,
  type SettlerRecord,
  splitRecords,
  verdictCause,
} from './lib/settling.ts'
import {
  CANCELLED_UNHEARD,
  type Settlement,
  StockBatch,
  type StockChange,
  type StockOutcome,
  settlementOf,
} from './lib/stock.ts'

const RESERVE = 'reserve'
/** Larger, and the rows of popular products are locked for too long. */
const MAX_BATCH_RECORDS = 500

await runService('inventory', 'Reserves, commits and releases stock.', async (service) => {
  const { config, log, signal } = service
  const { ordersValidated, ordersCompleted, inventoryEvents, products } = config.topics
  const database = await service.openDatabase(config.partitions)
  const catalogue = await Catalogue.open({
    createKafka: (purpose) => createKafka(config, `inventory-${purpose}`, log),
    topic: products,
    log,
    signal,
  })
  const isOnSale = (sku: string) => catalogue.statusOf(sku) === 'known'

  return {
    inputs: [ordersValidated, ordersCompleted],
    outputs: [inventoryEvents],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => undefined,
    handle: (records: SettlerRecord[]) =>
      inTransaction(database, async (client) => {
        const book = await OutcomeBook.read(client, 'inventory_outcomes', records)
        await decideAll(client, book, records)
        await book.save()
        return records.map((record) =>
          book.outcomeOf(isDecision(record) ? SETTLE : RESERVE, record, inventoryEvents),
        )
      }),
    routes: catalogueRoutes(catalogue),
  }

  /**
   * Decisions before orders: what is released can be had at once, and an order that is cancelled already reserves
   * nothing. One lock for both: with a second one two batches could wait for each other.
   *
   * A zombie that has the same order in hand holds its products, and is waited for; or it has stored an outcome that
   * was not there when we looked: then `save` fails, all of this is undone, and the next look finds it.
   */
  async function decideAll(
    client: Client,
    book: OutcomeBook,
    records: readonly SettlerRecord[],
  ): Promise<void> {
    const { orders, decisions } = splitRecords(records)
    const settlements: [DecisionRecord, Settlement][] = []
    for (const decision of book.undecided(SETTLE, decisions)) {
      const settlement = settlementOf(decision.event, readVerdict(book, decision))
      if (settlement === 'unheard') {
        book.add(RESERVE, verdictCause(decision), toOutgoing(RESERVE, decision, CANCELLED_UNHEARD))
      } else if (settlement !== undefined) {
        settlements.push([decision, settlement])
      }
    }
    const undecided = book.undecided(RESERVE, orders)
    const concerned = [...settlements.map(([decision]) => decision), ...undecided]
    const levels = await lockStock(client, concerned)
    const stock = new StockBatch(levels)
    for (const [decision, settlement] of settlements) {
      const outcome = stock.settle(settlement, decision.event.items)
      book.add(SETTLE, decision, toOutgoing(SETTLE, decision, outcome))
    }
    const receipts: Receipt[] = []
    for (const order of undecided) {
      book.add(RESERVE, order, toOutgoing(RESERVE, order, stock.reserve(order.event.items)))
      receipts.push(...restock(stock, levels, isOnSale, order.event))
    }
    // First what comes in: the orders behind it have taken of it.
    await bookReceipts(client, receipts)
    await writeStock(client, stock.changes())
  }

  function toOutgoing(operation: string, { event: { orderId } }: SettlerRecord, outcome: StockOutcome) {
    const event: InventoryUpdated = {
      type: 'InventoryUpdated',
      eventId: eventIdOf(orderId, 'InventoryUpdated', operation),
      occurredAt: new Date().toISOString(),
      orderId,
      ...outcome,
    }
    return publish(inventoryEvents, event, `${orderId} ${outcome.status} ${outcome.availability}`)
  }
})

function readVerdict(book: OutcomeBook, { event }: DecisionRecord): InventoryUpdated | undefined {
  const verdict = book.find(event.orderId, RESERVE)
  return verdict === undefined ? undefined : JSON.parse(verdict)
}

/** Sorted, so that two batches with products in common wait for each other and do not deadlock. */
async function lockStock(
  client: Client,
  records: readonly SettlerRecord[],
): Promise<Map<string, RestockLevel>> {
  const skus = new Set(records.flatMap(({ event }) => event.items.map(({ sku }) => sku)))
  if (skus.size === 0) return new Map()
  const rows = await query<RestockLevel & { sku: string }>(client, {
    name: 'lock-stock',
    text: `SELECT sku, available, low_level AS "lowLevel", restock_quantity AS "restockQuantity" FROM stock
           WHERE sku = ANY($1) ORDER BY sku FOR UPDATE`,
    values: [[...skus]],
  })
  return new Map(rows.map(({ sku, ...level }) => [sku, level]))
}

async function writeStock(client: Client, changes: readonly [string, StockChange][]): Promise<void> {
  if (changes.length === 0) return
  await query(client, {
    name: 'change-stock',
    text: `UPDATE stock SET available = stock.available + change.available,
             reserved = stock.reserved + change.reserved, committed = stock.committed + change.committed
           FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
             AS change (sku, available, reserved, committed)
           WHERE stock.sku = change.sku`,
    values: [
      changes.map(([sku]) => sku),
      changes.map(([, { available }]) => available),
      changes.map(([, { reserved }]) => reserved),
      changes.map(([, { committed }]) => committed),
    ],
  })
}
