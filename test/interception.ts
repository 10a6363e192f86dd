/** Ways for a test to look into a processor's Kafka clients, to hold them up and to break them. */
import type { Kafka, Transaction } from 'kafkajs'

interface Interception {
  /** Awaited before a producer begins a transaction; its first one is the fence. */
  beforeTransaction?: () => Promise<void>
  /** May change what is done with a transaction. Of a processor of one task the first is its claim, the second has its work. */
  onTransaction?: (transaction: Transaction, count: number) => void
}

/** A client whose transactional producers a test can hold up and break. */
export function intercept(kafka: Kafka, { beforeTransaction, onTransaction }: Interception): Kafka {
  let count = 0
  const makeProducer = kafka.producer.bind(kafka)
  kafka.producer = (config) => {
    const producer = makeProducer(config)
    const begin = producer.transaction
    producer.transaction = async () => {
      await beforeTransaction?.()
      const transaction = await begin()
      onTransaction?.(transaction, ++count)
      return transaction
    }
    return producer
  }
  return kafka
}

/** A client that tells which batches its consumers have fetched, whatever became of them. */
export function watchFetches(
  kafka: Kafka,
  onFetched: (batch: { topic: string; batchSize: number; lastOffset: string }) => void,
): Kafka {
  const makeConsumer = kafka.consumer.bind(kafka)
  kafka.consumer = (config) => {
    const consumer = makeConsumer(config)
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => onFetched(payload))
    return consumer
  }
  return kafka
}

/** A promise to be settled by the test. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}
