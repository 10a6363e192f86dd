/**
 * The read side: what the topics say about each order, in PostgreSQL for api.ts (lib/orderView.ts).
 *
 * Reads orders.validated, orders.rejected, the topics of all judges and orders.completed, and writes to no topic. An
 * event counts once, by its position, and in whatever order the topics are read the same comes out.
 *
 * Grows with the orders, by about a kilobyte each, and forgets nothing by itself: a rebuild leaves what the topics keep.
 *
 *   --rebuild   makes the view anew from the topics and ends; to be run beside a running one or alone, and as often as
 *               one likes: until it is done, the old view stays in use
 */
import { createKafka } from './kafkaConfig.ts'
import { type ViewEvent, viewedTopics } from './lib/orderView.ts'
import { rebuildOrderView } from './lib/orderViewRebuild.ts'
import { OrderViewStore } from './lib/orderViewStore.ts'
import type { InputRecord } from './lib/record.ts'
import { runMain, SERVICE_FLAGS, type Service, serve } from './lib/service.ts'
import { formatCount } from './lib/text.ts'

await runMain(
  'order-view',
  'Keeps what the topics say about each order.',
  { ...SERVICE_FLAGS, rebuild: { type: 'boolean' } },
  async (service, { rebuild: isRebuild, verbose }) => {
    if (isRebuild) await rebuild(service)
    else await follow(service, verbose === true)
  },
)

async function follow(service: Service, verbose: boolean): Promise<void> {
  const { config } = service
  const store = new OrderViewStore(await service.openDatabase(config.partitions))
  await serve(
    service,
    'order-view',
    {
      inputs: viewedTopics(config.topics),
      outputs: [],
      createState: () => undefined,
      async handle(records: InputRecord<ViewEvent>[]) {
        await store.write(records)
        return records.map(() => [])
      },
    },
    verbose,
  )
}

async function rebuild({ config, log, signal, openDatabase }: Service): Promise<void> {
  const startedMs = Date.now()
  const records = await rebuildOrderView({
    database: await openDatabase(),
    kafka: createKafka(config, 'order-view-rebuild', log),
    topics: viewedTopics(config.topics),
    log,
    signal,
  })
  if (records === undefined) log.info('given up: the order view is as it was')
  else
    log.info(
      `rebuilt from ${formatCount(records)} records in ${((Date.now() - startedMs) / 1_000).toFixed(1)} s`,
    )
}
