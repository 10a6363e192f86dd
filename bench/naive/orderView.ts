/** Every event of an order into its view, by one statement for each message. */
import { type ViewEvent, viewedTopics } from '../../lib/orderView.ts'
import { OrderViewStore } from '../../lib/orderViewStore.ts'
import { type NaiveRecord, runNaively } from '../../test/naive/service.ts'

await runNaively('order-view', (config, database) => {
  const store = new OrderViewStore(database)
  return {
    inputs: viewedTopics(config.topics),
    async handle(event: ViewEvent, from: NaiveRecord) {
      await store.write([{ ...from, event }])
      return undefined
    },
  }
})
