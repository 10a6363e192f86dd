/** Fills a topic with a backlog of orders, as fast as the simulator makes them. */
import { once } from 'node:events'
import { ended } from '../lib/childProcesses.ts'
import type { Simulator } from '../lib/simulator.ts'
import { startLoader } from './stageJava.ts'

const ORDERS_PER_WRITE = 1_000

export interface LoadTarget {
  brokers: readonly string[]
  topic: string
  signal: AbortSignal
}

/**
 * Places so many orders, by Kafka's own producer in a process beside this one: ours would take longer for it than a
 * peer for its whole job. `prepareStreams` comes first.
 *
 * @param onValue is shown the value of each
 * @throws Error when the loader fails, or the signal came
 */
export async function loadOrders(
  simulator: Pick<Simulator, 'next'>,
  orders: number,
  { brokers, topic, signal }: LoadTarget,
  onValue: (value: Buffer) => void = () => undefined,
): Promise<void> {
  const loader = await startLoader(brokers.join(','), topic)
  for (let made = 0; made < orders && !signal.aborted; made += ORDERS_PER_WRITE) {
    const parts: Buffer[] = []
    for (let left = Math.min(ORDERS_PER_WRITE, orders - made); left > 0; left--) {
      const { key, value } = simulator.next()
      parts.push(...frame(key === null ? null : Buffer.from(key)), ...frame(value))
      onValue(value)
    }
    if (!loader.stdin!.write(Buffer.concat(parts))) await once(loader.stdin!, 'drain')
  }
  loader.stdin!.end()
  const status = await ended(loader)
  if (status !== 0) throw new Error(`the loader ended with ${status}`)
  signal.throwIfAborted()
}

/** As the loader reads it: with its length before it, -1 for null. */
function frame(bytes: Buffer | null): Buffer[] {
  const length = Buffer.allocUnsafe(4)
  length.writeInt32BE(bytes?.length ?? -1)
  return bytes ? [length, bytes] : [length]
}
