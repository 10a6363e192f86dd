/**
 * Assesses the risk of validated orders: orders.validated -> fraud.events (pass, warning or fail, with the rules that
 * say so; their table stands in lib/fraudRules.ts).
 *
 * What is known of a customer changes in the same PostgreSQL transaction that stores the outcome, one per batch and
 * before the Kafka transaction. So an order counts in its customer's history once, whatever is killed in between: a
 * second look finds the stored outcome and publishes its bytes.
 *
 * Flags: --verbose prints a line per order;
 * --instances N runs as N processes, of which more than there are partitions have nothing to do.
 */
import { type Client, inTransaction } from './lib/database.ts'
import { eventIdOf, type FraudAssessed, type OrderValidated } from './lib/events.ts'
import { FraudHistory } from './lib/fraudHistory.ts'
import { assess } from './lib/fraudRules.ts'
import { OutcomeBook } from './lib/outcomes.ts'
import { type InputRecord, publish } from './lib/record.ts'
import { runService } from './lib/service.ts'

const OPERATION = 'assess'
/** Larger, and the rows of keen customers are locked for too long. */
const MAX_BATCH_RECORDS = 500

await runService('fraud', 'Assesses the risk of validated orders.', async ({ config, openDatabase }) => {
  const { ordersValidated, fraudEvents } = config.topics
  const database = await openDatabase(config.partitions)

  return {
    inputs: [ordersValidated],
    outputs: [fraudEvents],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => undefined,
    handle: (records: InputRecord<OrderValidated>[]) =>
      inTransaction(database, async (client) => {
        const book = await OutcomeBook.read(client, 'fraud_outcomes', records)
        await assessAll(client, book, book.undecided(OPERATION, records))
        await book.save()
        return records.map((record) => book.outcomeOf(OPERATION, record, fraudEvents))
      }),
  }

  async function assessAll(
    client: Client,
    book: OutcomeBook,
    records: readonly InputRecord<OrderValidated>[],
  ): Promise<void> {
    if (records.length === 0) return
    // A task is one partition: all records of a batch are from the same.
    const { partition } = records[0]!
    const customerIds = records.map(({ event }) => event.customerId)
    const history = await FraudHistory.lock(client, customerIds, partition)
    const shop = history.ofPartition(partition).window
    const occurredAt = new Date().toISOString()
    for (const record of records) {
      const { orderId, customerId } = record.event
      const event: FraudAssessed = {
        type: 'FraudAssessed',
        eventId: eventIdOf(orderId, 'FraudAssessed'),
        occurredAt,
        orderId,
        ...assess(record.event, history.ofCustomer(customerId), shop),
      }
      const names = event.rules.map(({ rule }) => rule).join(' ')
      const note = `${orderId} ${event.verdict.toUpperCase()} ${event.riskScore} ${names}`.trimEnd()
      book.add(OPERATION, record, publish(fraudEvents, event, note))
    }
    await history.save()
  }
})
