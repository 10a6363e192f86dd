/** orders.validated -> pricing.events: a pure function of the order, and one send for each. */
import { fileURLToPath } from 'node:url'
import { eventIdOf, type OrderPriced, type OrderValidated } from '../../lib/events.ts'
import { priceOrder } from '../../lib/pricing.ts'
import { loadPromotions } from '../../lib/promotions.ts'
import { publish } from '../../lib/record.ts'
import { runNaively } from '../../test/naive/service.ts'

await runNaively('pricing', (config) => {
  const { ordersValidated, pricingEvents } = config.topics
  const promotions = loadPromotions(fileURLToPath(new URL('../../data/promotions.json', import.meta.url)))
  return {
    inputs: [ordersValidated],
    async handle(order: OrderValidated) {
      const [eventId, occurredAt] = [eventIdOf(order.orderId, 'OrderPriced'), new Date().toISOString()]
      const event: OrderPriced = {
        type: 'OrderPriced',
        eventId,
        occurredAt,
        ...priceOrder(order, promotions),
      }
      return publish(pricingEvents, event, order.orderId)
    },
  }
})
