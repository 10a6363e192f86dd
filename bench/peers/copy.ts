/** Our loop without a job: takes orders.raw record by record to orders.validated, exactly once, with the header `source`. */

import type { InputRecord, RawRecord } from '../../lib/record.ts'
import { runService } from '../../lib/service.ts'
import type { Topic } from '../../lib/topics.ts'
import { copyOf } from './orderJob.ts'

await runService('validator', 'Copies orders.raw to orders.validated.', async ({ config }) => {
  const { ordersRaw, ordersValidated } = config.topics
  const taken = {
    ...(ordersRaw as unknown as Topic<RawRecord>),
    takeWhole: (record: RawRecord) => record,
  }
  return {
    inputs: [taken],
    outputs: [ordersValidated],
    createState: () => undefined,
    handle: (records: InputRecord<RawRecord>[]) =>
      records.map(({ event }) => {
        const { topic, headers } = copyOf(event, ordersValidated.name)
        return [{ topic, key: event.key, value: event.value, headers, note: '' }]
      }),
  }
})
