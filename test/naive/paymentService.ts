/** orders.validated -> payment.events: charges for each message that it is given, and again when no answer comes. */
import { randomUUID } from 'node:crypto'
import { eventIdOf, type OrderValidated, type PaymentEvent } from '../../lib/events.ts'
import { publish } from '../../lib/record.ts'
import { runNaively } from './service.ts'

await runNaively('payment', (config) => {
  const { ordersValidated, paymentEvents } = config.topics
  const { gatewayUrl, timeoutMs } = config.payment

  async function charge({ orderId, total: amount, currency }: OrderValidated) {
    const response = await fetch(`${gatewayUrl}/authorisations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': randomUUID() },
      body: JSON.stringify({ orderId, amount, currency }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    if (!response.ok) throw new Error(`the gateway answered ${response.status}`)
    return (await response.json()) as { status: string; authorisationId?: string; reason?: string }
  }

  return {
    inputs: [ordersValidated],
    async handle(order: OrderValidated) {
      const { orderId, total: amount, currency } = order
      const { authorisationId, reason = 'declined' } = await charge(order)
      const fields = { occurredAt: new Date().toISOString(), orderId, amount, currency }
      const event: PaymentEvent = authorisationId
        ? {
            type: 'PaymentProcessed',
            eventId: eventIdOf(orderId, 'PaymentProcessed'),
            ...fields,
            authorisationId,
          }
        : { type: 'PaymentFailed', eventId: eventIdOf(orderId, 'PaymentFailed'), ...fields, reason }
      return publish(paymentEvents, event, orderId)
    },
  }
})
