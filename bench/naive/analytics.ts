/** Counts orders and money, in memory. */
import { countedTopics } from '../../lib/orderReplay.ts'
import { type OrderEvent, OrderStatistics } from '../../lib/orderStatistics.ts'
import { type NaiveRecord, runNaively } from '../../test/naive/service.ts'

await runNaively('analytics', (config) => {
  const statistics = new OrderStatistics(config.analytics.graceMs)
  return {
    inputs: countedTopics(config.topics),
    async handle(event: OrderEvent, { timestampMs }: NaiveRecord) {
      statistics.add(event, timestampMs)
      return undefined
    },
  }
})
