/** orders.validated -> fraud.events: histories in memory, one statement that writes the customer's for each message. */
import { query } from '../../lib/database.ts'
import { eventIdOf, type FraudAssessed, type OrderValidated } from '../../lib/events.ts'
import { assess, type CustomerHistory, createCustomerHistory } from '../../lib/fraudRules.ts'
import { createOrderWindow } from '../../lib/orderWindow.ts'
import { publish } from '../../lib/record.ts'
import { runNaively } from '../../test/naive/service.ts'

await runNaively('fraud', (config, database) => {
  const { ordersValidated, fraudEvents } = config.topics
  const histories = new Map<string, CustomerHistory>()
  const shop = createOrderWindow()

  async function handle(order: OrderValidated) {
    const { orderId, customerId } = order
    const history = histories.get(customerId) ?? createCustomerHistory()
    histories.set(customerId, history)
    const assessment = assess(order, history, shop)
    await query(database, {
      name: 'save-fraud-history',
      text: `INSERT INTO fraud_history (subject, orders, units, spent) VALUES ($1, $2, $3, $4)
             ON CONFLICT (subject) DO UPDATE
             SET orders = excluded.orders, units = excluded.units, spent = excluded.spent`,
      values: [customerId, history.orders, history.units, JSON.stringify(history.spent)],
    })
    const [eventId, occurredAt] = [eventIdOf(orderId, 'FraudAssessed'), new Date().toISOString()]
    const event: FraudAssessed = { type: 'FraudAssessed', eventId, occurredAt, orderId, ...assessment }
    return publish(fraudEvents, event, orderId)
  }
  return { inputs: [ordersValidated], handle }
})
