import type { TourPipeline } from './tourPipeline.ts'

/** Sends records as somebody would who has a producer at hand, and waits until they lie there. */
export async function sendByHand(
  { kafka, prefix }: TourPipeline,
  topic: string,
  messages: { key: string; value: Buffer | string }[],
): Promise<void> {
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  try {
    await producer.send({ topic: prefix + topic, messages, acks: -1 })
  } finally {
    await producer.disconnect()
  }
}
