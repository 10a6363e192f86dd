/**
 * Validates orders: orders.raw -> orders.validated | orders.rejected, and what is no order -> validator.dlq.
 *
 * Every record of orders.raw ends exactly once in one of the three. An order is refused with all reasons at once
 * (lib/orderRules.ts), a repeated order id as duplicate or conflict (lib/dedupeWindow.ts); a good one gets its
 * customer and goes on as PENDING.
 *
 * Each instance keeps the whole catalogue, from the topic `products`, and can be asked for it: GET /products and
 * /products/<sku> on its health port.
 *
 * Flags: --verbose prints a line per order;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */

import { createKafka } from './kafkaConfig.ts'
import { Catalogue } from './lib/catalogue.ts'
import { catalogueRoutes } from './lib/catalogueRoutes.ts'
import { CustomerLookup } from './lib/customers.ts'
import { DedupeWindow } from './lib/dedupeWindow.ts'
import {
  eventIdOf,
  type OrderPlaced,
  type OrderRejected,
  type OrderValidated,
  type Reason,
} from './lib/events.ts'
import { findReasons, type KnownCustomer } from './lib/orderRules.ts'
import { type InputRecord, type Outcome, publish } from './lib/record.ts'
import { runService } from './lib/service.ts'

await runService(
  'validator',
  'Validates orders.raw into orders.validated or orders.rejected.',
  async (service) => {
    const { config, log, signal } = service
    const { ordersRaw, ordersValidated, ordersRejected, products } = config.topics
    const database = await service.openDatabase()
    const customers = new CustomerLookup(database)
    const catalogue = await Catalogue.open({
      createKafka: (purpose) => createKafka(config, `validator-${purpose}`, log),
      topic: products,
      log,
      signal,
    })
    const processedBy = `validator-${process.pid}`

    return {
      inputs: [ordersRaw],
      outputs: [ordersValidated, ordersRejected],
      createState: () => new DedupeWindow(config.dedupe),
      // By number alone: the window goes by the age of records, and after an outage these are older than they seem.
      readBack: { orders: config.dedupe.maxOrders, ageMs: Number.POSITIVE_INFINITY },
      remember: (window: DedupeWindow, { event, source, timestampMs }: InputRecord<OrderPlaced>) =>
        void window.admit(event, source, timestampMs),
      handle: decide,
      routes: catalogueRoutes(catalogue),
    }

    async function decide(records: InputRecord<OrderPlaced>[], window: DedupeWindow): Promise<Outcome[]> {
      // Before anything that can fail: a dead letter is in the window whether it was rebuilt in between or not.
      const repetitions = records.map(({ event, source, timestampMs }) =>
        window.admit(event, source, timestampMs),
      )
      const customerOf = await customers.find(records.map(({ event }) => event.customerId))
      const product = await catalogue.lookUp(database, skusOf(records))
      const knowledge = { customer: (id: string) => customerOf.get(id), product }
      const now = new Date().toISOString()
      return records.map(({ event: order, source }, index) => {
        const repetition = repetitions[index]!
        const reasons = findReasons(order, repetition, knowledge, config.orders.limitMinor)
        if (reasons.length > 0)
          return [reject(order, reasons, repetition === 'first' ? undefined : source, now)]
        return [accept(order, customerOf.get(order.customerId)!, now)]
      })
    }

    function accept(order: OrderPlaced, { customer }: KnownCustomer, now: string) {
      // Written out: a spread of the order would cost more than all the rest of the validation.
      const event: OrderValidated = {
        type: 'OrderValidated',
        eventId: eventIdOf(order.orderId, 'OrderValidated'),
        occurredAt: now,
        orderId: order.orderId,
        customerId: order.customerId,
        placedAt: order.placedAt,
        currency: order.currency,
        items: order.items,
        total: order.total,
        ...(order.shippingAddress && { shippingAddress: order.shippingAddress }),
        status: 'PENDING',
        validationStatus: 'VALID',
        processedBy,
        validatedAt: now,
        customer,
      }
      return publish(ordersValidated, event, `${order.orderId} VALID`)
    }

    /** @param occurrence sets the refusal of a repetition apart from what was said of the first */
    function reject(order: OrderPlaced, reasons: Reason[], occurrence: string | undefined, now: string) {
      const { orderId, customerId, placedAt, currency, total } = order
      const event: OrderRejected = {
        type: 'OrderRejected',
        eventId: eventIdOf(orderId, 'OrderRejected', occurrence),
        occurredAt: now,
        orderId,
        customerId,
        placedAt,
        currency,
        total,
        reasons,
      }
      return publish(
        ordersRejected,
        event,
        `${orderId} REJECTED ${reasons.map(({ code }) => code).join(', ')}`,
      )
    }
  },
)

/** With repetitions. In loops: this is done for each order, and lists of lists cost more than the look-ups. */
function skusOf(records: InputRecord<OrderPlaced>[]): string[] {
  const skus: string[] = []
  for (const { event } of records) {
    for (const { sku } of event.items) skus.push(sku)
  }
  return skus
}
