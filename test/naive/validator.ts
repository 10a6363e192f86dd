/** orders.raw -> orders.validated | orders.rejected: the rules of the real one, and none of its guarantees. */
import { CustomerLookup } from '../../lib/customers.ts'
import { query } from '../../lib/database.ts'
import { eventIdOf, type OrderPlaced } from '../../lib/events.ts'
import { findReasons } from '../../lib/orderRules.ts'
import { publish } from '../../lib/record.ts'
import { runNaively } from './service.ts'

await runNaively('validator', (config, database) => {
  const { ordersRaw, ordersValidated, ordersRejected } = config.topics
  const customers = new CustomerLookup(database)

  async function handle(order: OrderPlaced) {
    const { orderId, customerId, placedAt, currency, items, total } = order
    const known = (await customers.find([customerId])).get(customerId)
    const rows = await query<{ sku: string }>(database, {
      name: 'products-of-order',
      text: 'SELECT sku FROM products WHERE sku = ANY($1)',
      values: [items.map(({ sku }) => sku)],
    })
    const skus = new Set(rows.map(({ sku }) => sku))
    const knowledge = {
      customer: () => known,
      product: (sku: string) => (skus.has(sku) ? ('known' as const) : ('unknown' as const)),
    }
    const reasons = findReasons(order, 'first', knowledge, config.orders.limitMinor)
    const now = new Date().toISOString()
    const fields = { occurredAt: now, orderId, customerId, placedAt, currency, total }
    if (reasons.length > 0 || !known) {
      const eventId = eventIdOf(orderId, 'OrderRejected')
      return publish(ordersRejected, { type: 'OrderRejected', eventId, ...fields, reasons }, orderId)
    }
    return publish(
      ordersValidated,
      {
        type: 'OrderValidated',
        eventId: eventIdOf(orderId, 'OrderValidated'),
        ...fields,
        items,
        status: 'PENDING',
        validationStatus: 'VALID',
        processedBy: `naive-${process.pid}`,
        validatedAt: now,
        customer: known.customer,
      },
      orderId,
    )
  }
  return { inputs: [ordersRaw], handle }
})
