/** orders.validated, orders.completed -> payment.events: one call of the gateway and one statement for each message. */
import { query } from '../../lib/database.ts'
import { eventIdOf, type OrderCompleted, type OrderValidated, type PaymentEvent } from '../../lib/events.ts'
import { publish } from '../../lib/record.ts'
import type { Topic } from '../../lib/topics.ts'
import { runNaively } from '../../test/naive/service.ts'

type Message = OrderValidated | OrderCompleted
interface Answer {
  authorisationId?: string
  reason?: string
}

const PATHS = { authorise: '/authorisations', capture: '/captures', void: '/voids' }

await runNaively('payment', (config, database) => {
  const { ordersValidated, ordersCompleted, paymentEvents } = config.topics
  const { gatewayUrl, timeoutMs } = config.payment

  async function ask(operation: keyof typeof PATHS, { orderId, total: amount, currency }: Message) {
    const response = await fetch(`${gatewayUrl}${PATHS[operation]}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': `${orderId}:${operation}` },
      body: JSON.stringify({ orderId, amount, currency }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    if (!response.ok) throw new Error(`the gateway answered ${response.status}`)
    return (await response.json()) as Answer
  }

  async function handle(message: Message) {
    const { orderId } = message
    if (message.type === 'OrderValidated') {
      const { authorisationId, reason = 'declined' } = await ask('authorise', message)
      const said = authorisationId
        ? ({ type: 'PaymentProcessed', authorisationId } as const)
        : ({ type: 'PaymentFailed', reason } as const)
      return store(message, said)
    }
    if (
      message.type === 'OrderCancelled' &&
      message.reasons.some(({ code }) => code === 'payment-declined')
    ) {
      return undefined
    }
    const isConfirmed = message.type === 'OrderConfirmed'
    const { authorisationId } = await ask(isConfirmed ? 'capture' : 'void', message)
    if (!authorisationId) throw new Error(`the gateway knows of no authorisation of ${orderId}`)
    return store(message, { type: isConfirmed ? 'PaymentCaptured' : 'PaymentVoided', authorisationId })
  }

  async function store({ orderId, total: amount, currency }: Message, said: Said) {
    const occurredAt = new Date().toISOString()
    const event: PaymentEvent = {
      ...{ ...said, eventId: eventIdOf(orderId, said.type), occurredAt, orderId, amount, currency },
    }
    await query(database, {
      name: 'store-payment',
      text: `INSERT INTO payment_outcomes (order_id, operation, source, event, note) VALUES ($1, $2, '', $3, '')
             ON CONFLICT DO NOTHING`,
      values: [orderId, said.type, JSON.stringify(event)],
    })
    return publish(paymentEvents, event, orderId)
  }

  return { inputs: [ordersValidated, ordersCompleted] as unknown as Topic<Message>[], handle }
})

type Said =
  | { type: 'PaymentProcessed' | 'PaymentCaptured' | 'PaymentVoided'; authorisationId: string }
  | { type: 'PaymentFailed'; reason: string }
