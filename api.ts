/**
 * Orders, products and stock over HTTP: see /docs.
 *
 * POST /orders writes OrderPlaced to orders.raw, keyed by order id, and answers 202 once Kafka has acknowledged it. With
 * an Idempotency-Key an order is accepted once, however often it is asked for (lib/apiIntake.ts). What became of orders
 * is read from the tables that orderView.ts writes; what is not in there yet is ACCEPTED, if it was placed here within
 * the last 24 hours. Changes of products go to PostgreSQL and to the topic `products` (lib/products.ts).
 *
 * With Kafka or PostgreSQL away it answers 503, at the latest after {@link TIMEOUT_MS}. Any number of instances may run,
 * each on a port of its own.
 */
import { createKafka } from './kafkaConfig.ts'
import { OrderIntake } from './lib/apiIntake.ts'
import { wasPlaced } from './lib/apiPlacedOrders.ts'
import { ApiSender, kafkaLimits } from './lib/apiSender.ts'
import { startApi } from './lib/apiServer.ts'
import { untilAborted } from './lib/async.ts'
import { buildAsyncApi } from './lib/asyncApi.ts'
import { describe } from './lib/errors.ts'
import { IdempotencyStore } from './lib/idempotency.ts'
import { OrderSender } from './lib/orderSender.ts'
import { ProductPublisher } from './lib/productPublisher.ts'
import { createSealer } from './lib/sealing.ts'
import { runMain, type Service } from './lib/service.ts'
import packageJson from './package.json' with { type: 'json' }

/** How long a request is let wait. */
const TIMEOUT_MS = 5_000
/** Kafka gets less, so that there is time to write down that it did not answer. */
const SEND_WITHIN_MS = 4_000
/** How long validator and order view may take to tell what became of an order. */
const LOOK_WITHIN_MS = 3_000
const MAX_WAITING_REQUESTS = 10_000
const MAX_WAITING_BYTES = 64 * 1024 * 1024
const MAX_BODIES_BYTES = 128 * 1024 * 1024
const CONNECTIONS = 8
const CLEAN_UP_EVERY_MS = 10 * 60_000

const FLAGS = { help: { type: 'boolean', short: 'h' } } as const

await runMain('api', 'Orders, products and stock over HTTP.', FLAGS, async (service) => {
  const { config, log, signal } = service
  const { topics, topicPrefix, partitions, replicationFactor } = config
  const database = await service.openDatabase(CONNECTIONS)
  if (signal.aborted) return
  const store = new IdempotencyStore(database)
  const sender = openSender(service)
  const trace = { kafka: createKafka(config, 'api-trace', log), database, topicPrefix, topics, signal }
  const intake = new OrderIntake({
    store,
    sender,
    wasPlaced: (orderId) => wasPlaced({ ...trace, withinMs: LOOK_WITHIN_MS }, orderId),
    timeoutMs: TIMEOUT_MS,
    maxWaitingRequests: MAX_WAITING_REQUESTS,
    maxWaitingBytes: MAX_WAITING_BYTES,
    log,
  })
  service.onClose(() => intake.close())
  const publisher = openPublisher(service, database)
  cleanUpNowAndThen(service, store, publisher)
  const { version } = packageJson
  const api = await startApi({
    ...config.api,
    ...{ version, database, store, intake, sender, log, maxBodiesBytes: MAX_BODIES_BYTES },
    metrics: service.metrics,
    products: { database, publisher },
    asyncApi: buildAsyncApi({
      topics,
      brokers: config.kafka.brokers,
      version,
      partitions,
      replicationFactor,
    }),
  })
  // The first to be closed: what is under way is answered while all else still works.
  service.onClose(() => api.close())
  const report = () => ({ ready: sender.isConnected, in: api.countAnswered(), url: api.url })
  await service.serveHealth({ report })
  log.info(`listening on ${api.url}, documented at ${api.url}/docs`)
  await untilAborted(new Promise(() => undefined), signal)
})

function openSender({ config, log, onClose }: Service): ApiSender {
  const closing = new AbortController()
  const sender = new ApiSender({
    createKafka: () => createKafka(config, 'api', log, kafkaLimits(SEND_WITHIN_MS)),
    topic: config.topics.ordersRaw.name,
    seal: createSealer({ topics: config.topics, keys: config.keys, sender: 'api' }),
    timeoutMs: SEND_WITHIN_MS,
    log,
    // Not that of the service: what is under way when it comes is still sent.
    signal: closing.signal,
  })
  sender.open()
  onClose(() => {
    closing.abort()
    return sender.close()
  })
  return sender
}

type Database = Awaited<ReturnType<Service['openDatabase']>>

function openPublisher({ config, log, signal, onClose }: Service, database: Database): ProductPublisher {
  const topic = config.topics.products
  const sender = new OrderSender({
    createKafka: () => createKafka(config, 'api-products', log),
    brokers: config.kafka.brokers,
    topics: [topic.name],
    log,
    signal,
  })
  onClose(() => sender.close())
  return new ProductPublisher({ database, sender, topic, log, signal })
}

/** What is past its time goes in small steps; and what a process changed and died before it could say is said. */
function cleanUpNowAndThen(
  { log, signal, onClose }: Service,
  store: IdempotencyStore,
  publisher: ProductPublisher,
): void {
  const cleanUp = async () => {
    publisher
      .publish()
      .catch((error) => log.error({ error }, `products are not published: ${describe(error)}`))
    try {
      while (!signal.aborted && (await store.removeOld()));
    } catch (error) {
      log.warn(`old idempotency keys are removed later: ${describe(error)}`)
    }
  }
  void cleanUp()
  const timer = setInterval(cleanUp, CLEAN_UP_EVERY_MS)
  onClose(() => clearInterval(timer))
}
