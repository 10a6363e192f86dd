/**
 * Authorises the payment of each validated order at the payment gateway.
 *
 *   orders.validated -> payment.events   PaymentProcessed (authorised) | PaymentFailed (declined)
 *
 * Guarantees: at most one authorisation and exactly one event for each order, whatever is killed. The gateway is
 * asked with an idempotency key for each order, so asking again after a crash charges nothing twice; its answer is
 * stored with the bytes of the event, which are published again, unchanged, when the Kafka transaction failed.
 * While the gateway or PostgreSQL is away, orders wait.
 *
 * Flags: --verbose prints each order. GATEWAY_URL names a gateway; without it the simulated one is brought up.
 */
import { UnavailableError } from './lib/errors.ts'
import { eventIdOf, type OrderValidated } from './lib/events.ts'
import { type Authorisation, createGatewayClient, type GatewayClient } from './lib/gatewayClient.ts'
import { startGateway } from './lib/gatewayServer.ts'
import { formatMoney } from './lib/money.ts'
import { OutcomeBook } from './lib/outcomes.ts'
import { passProbe } from './lib/probes.ts'
import { type InputRecord, type Outgoing, publish } from './lib/record.ts'
import { runService, type Service } from './lib/service.ts'
import type { TopicTable } from './lib/topics.ts'

/** Answers to the orders of the batch in hand, by order id: those that have theirs are not asked for again. */
type Answers = Map<string, Authorisation>

/** Each order is a call of its own: larger batches would only make the first one wait for the last. */
const MAX_BATCH_RECORDS = 250

await runService('payment', 'Authorises the payment of validated orders.', async (service) => {
  const { config, log } = service
  const { ordersValidated, paymentEvents } = config.topics
  const database = await service.openDatabase()
  let retries = 0
  const gateway = createGatewayClient({
    url: config.payment.gatewayUrl ?? (await bringUpGateway(service)),
    timeoutMs: config.payment.timeoutMs,
    concurrency: config.payment.concurrency,
    log,
    onRetry: () => retries++,
  })
  service.onClose(() => gateway.close())

  return {
    inputs: [ordersValidated],
    outputs: [paymentEvents],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => new Map(),
    async handle(records: InputRecord<OrderValidated>[], answers: Answers) {
      const book = await OutcomeBook.read(database, 'payment_outcomes', records)
      const undecided = book.undecided('authorise', records)
      await askGateway(gateway, undecided, answers)
      for (const record of undecided) {
        book.add(
          'authorise',
          record,
          toEvent(paymentEvents, record.event, answers.get(record.event.orderId)!),
        )
      }
      await book.save()
      answers.clear()
      return records.map((record) => book.outcomeOf('authorise', record, paymentEvents))
    },
    details: () => ({
      ...(retries > 0 ? { retries } : {}),
      ...(gateway.isBreakerOpen ? { breaker: 'open' } : {}),
    }),
  }
})

/**
 * Asks for all that have no answer yet, and waits for each call to end, also when others have failed: nothing of
 * a batch is under way when it is tried again.
 *
 * @throws UnavailableError when the gateway did not answer for some; before any other error, since what is only
 * late must not be taken for what is wrong
 */
async function askGateway(
  gateway: GatewayClient,
  records: readonly InputRecord<OrderValidated>[],
  answers: Answers,
): Promise<void> {
  const errors: unknown[] = []
  const ask = async ({ orderId, total: amountMinor, currency }: OrderValidated) => {
    try {
      answers.set(orderId, await gateway.authorise({ orderId, amountMinor, currency }))
      passProbe('charged')
    } catch (error) {
      errors.push(error)
    }
  }
  await Promise.all(records.filter(({ event }) => !answers.has(event.orderId)).map(({ event }) => ask(event)))
  if (errors.length > 0) throw errors.find((error) => error instanceof UnavailableError) ?? errors[0]
}

function toEvent(
  topic: TopicTable['paymentEvents'],
  { orderId, total: amount, currency }: OrderValidated,
  answer: Authorisation,
): Outgoing {
  const fields = { occurredAt: new Date().toISOString(), orderId, amount, currency }
  const money = formatMoney(amount, currency)
  if (answer.status === 'declined') {
    const { reason } = answer
    const type = 'PaymentFailed'
    return publish(
      topic,
      { type, eventId: eventIdOf(orderId, type), ...fields, reason },
      `${orderId} DECLINED ${money} ${reason}`,
    )
  }
  const { authorisationId } = answer
  const type = 'PaymentProcessed'
  return publish(
    topic,
    { type, eventId: eventIdOf(orderId, type), ...fields, authorisationId },
    `${orderId} AUTHORISED ${money}`,
  )
}

/** The simulated gateway in this process, with connections of its own to its books. */
async function bringUpGateway(service: Service): Promise<string> {
  const { config, log } = service
  const { port: _port, ...settings } = config.gateway
  const gateway = await startGateway({ database: await service.openDatabase(), settings, port: 0, log })
  service.onClose(() => gateway.close())
  log.info(`no GATEWAY_URL: simulated payment gateway at ${gateway.url}, faults at ${gateway.url}/faults`)
  return gateway.url
}
