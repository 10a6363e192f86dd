/**
 * Prices validated orders: orders.validated -> pricing.events (OrderPriced: discounts, net, tax and what there is to pay,
 * by the rules in lib/pricing.ts and the promotions in data/promotions.json).
 *
 * It keeps nothing. The price follows from the order and the table alone, so that the same order again gets the same
 * price; the table is read at the start.
 *
 * Flags: --verbose prints a line per order;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */
import { fileURLToPath } from 'node:url'
import { eventIdOf, type OrderPriced, type OrderValidated } from './lib/events.ts'
import { formatMoney } from './lib/money.ts'
import { priceOrder } from './lib/pricing.ts'
import { loadPromotions } from './lib/promotions.ts'
import { type InputRecord, type Outgoing, publish } from './lib/record.ts'
import { runService } from './lib/service.ts'

const PROMOTIONS = fileURLToPath(new URL('data/promotions.json', import.meta.url))

await runService('pricing', 'Prices validated orders.', async ({ config }) => {
  const { ordersValidated, pricingEvents } = config.topics
  const promotions = loadPromotions(PROMOTIONS)

  return {
    inputs: [ordersValidated],
    outputs: [pricingEvents],
    createState: () => undefined,
    handle: (records: InputRecord<OrderValidated>[]) => records.map(({ event }) => [price(event)]),
  }

  function price(order: OrderValidated): Outgoing {
    const { orderId, currency } = order
    const event: OrderPriced = {
      type: 'OrderPriced',
      eventId: eventIdOf(orderId, 'OrderPriced'),
      occurredAt: new Date().toISOString(),
      ...priceOrder(order, promotions),
    }
    const codes = event.discounts.map(({ code }) => code).join(' ')
    const note = `${orderId} PRICED ${formatMoney(event.total, currency)} ${codes}`.trimEnd()
    return publish(pricingEvents, event, note)
  }
})
