/**
 * Asks the payment gateway for what orders need: authorises each validated order, captures or voids what was decided.
 *
 *   orders.validated -> payment.events   PaymentProcessed (authorised) | PaymentFailed (declined)
 *   orders.completed -> payment.events   PaymentCaptured (confirmed) | PaymentVoided (cancelled, and it was authorised)
 *
 * Guarantees: at most one authorisation, one capture or void, and one event for each, whatever is killed. The gateway is
 * asked with an idempotency key for each order and operation, so asking again after a crash does nothing twice; its
 * answer is stored with the bytes of the event, which are published again, unchanged, when the Kafka transaction failed.
 * An order that is cancelled before it was authorised never will be. While the gateway or PostgreSQL is away, orders wait.
 *
 * Flags: --verbose prints each order. GATEWAY_URL names a gateway; without it the simulated one is brought up.
 */
import { UnavailableError } from './lib/errors.ts'
import { createGatewayClient, type GatewayAnswer, type GatewayClient } from './lib/gatewayClient.ts'
import { addGatewayMetrics } from './lib/gatewayMetrics.ts'
import { type Gateway, startGateway } from './lib/gatewayServer.ts'
import { OutcomeBook } from './lib/outcomes.ts'
import { AUTHORISE, addAnswer, type PlannedCall, planCalls } from './lib/payments.ts'
import { passProbe } from './lib/probes.ts'
import { runService, type Service } from './lib/service.ts'
import { isDecision, SETTLE, type SettlerRecord } from './lib/settling.ts'

/** Answers to the calls of the batch in hand, by {@link keyOf}: those that have theirs are not made again. */
type Answers = Map<string, GatewayAnswer>

/** Each order is a call of its own: larger batches would only make the first one wait for the last. */
const MAX_BATCH_RECORDS = 250

await runService('payment', 'Authorises, captures and voids payments.', async (service) => {
  const { config, log } = service
  const { ordersValidated, ordersCompleted, paymentEvents } = config.topics
  const database = await service.openDatabase()
  const own = config.payment.gatewayUrl === undefined ? await bringUpGateway(service) : undefined
  const gateway: GatewayClient = createGatewayClient({
    url: config.payment.gatewayUrl ?? own!.url,
    timeoutMs: config.payment.timeoutMs,
    concurrency: config.payment.concurrency,
    log,
    ...addGatewayMetrics(service.metrics, () => gateway.isBreakerOpen),
  })
  service.onClose(() => gateway.close())

  return {
    inputs: [ordersValidated, ordersCompleted],
    outputs: [paymentEvents],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => new Map(),
    async handle(records: SettlerRecord[], answers: Answers) {
      const book = await OutcomeBook.read(database, 'payment_outcomes', records)
      const calls = planCalls(book, records)
      await askAll(gateway, calls, answers)
      for (const call of calls) addAnswer(book, paymentEvents, call, answers.get(keyOf(call))!)
      await book.save()
      answers.clear()
      return records.map((record) =>
        book.outcomeOf(isDecision(record) ? SETTLE : AUTHORISE, record, paymentEvents),
      )
    },
    details: () => (gateway.isBreakerOpen ? { breaker: 'open' } : {}),
    ...(own && { controls: own.controls }),
  }
})

/**
 * Makes all calls that have no answer yet, and waits for each to end, also when others have failed: nothing of a batch is
 * under way when it is tried again.
 *
 * @throws UnavailableError when the gateway did not answer to some; before any other error, since what is only late must
 * not be taken for what is wrong
 */
async function askAll(
  gateway: GatewayClient,
  calls: readonly PlannedCall[],
  answers: Answers,
): Promise<void> {
  const errors: unknown[] = []
  const ask = async (call: PlannedCall) => {
    try {
      answers.set(keyOf(call), await gateway[call.operation](call.payment))
      passProbe('charged')
    } catch (error) {
      errors.push(error)
    }
  }
  await Promise.all(calls.filter((call) => !answers.has(keyOf(call))).map(ask))
  if (errors.length > 0) throw errors.find((error) => error instanceof UnavailableError) ?? errors[0]
}

function keyOf({ operation, payment }: PlannedCall): string {
  return `${payment.orderId}:${operation}`
}

/** The simulated gateway in this process, with connections of its own to its books. */
async function bringUpGateway(service: Service): Promise<Gateway> {
  const { config, log } = service
  const { port: _port, ...settings } = config.gateway
  const database = await service.openDatabase()
  const gateway = await startGateway({ database, settings, port: 0, metrics: service.metrics, log })
  service.onClose(() => gateway.close())
  log.info(`no GATEWAY_URL: simulated payment gateway at ${gateway.url}, faults at ${gateway.url}/faults`)
  return gateway
}
