/** The two ways in which orders are placed: simulated at a rate, and replayed from a file. */
import { sleep } from './async.ts'
import { type HistoricalOrder, type ReportProblem, readOrders, type Survey } from './onlineRetail.ts'
import type { OrderSender } from './orderSender.ts'
import type { Pace } from './pace.ts'
import type { Tempo } from './producerFlags.ts'
import type { SimulatedOrder, Simulator } from './simulator.ts'
import { MAX_SEND_BYTES, MAX_SEND_RECORDS } from './transaction.ts'

/** What Kafka has acknowledged, and what is wrong with how many of it, by kind. */
export class PlacedCounts {
  placed = 0
  readonly bad = new Map<string, number>()
  /** Made, and given up when the signal came while Kafka was away. Some of it may have been written. */
  givenUp = 0

  add(fault: string | undefined): void {
    this.placed++
    if (fault !== undefined) this.bad.set(fault, (this.bad.get(fault) ?? 0) + 1)
  }
}

interface Placing {
  sender: Pick<OrderSender, 'send'>
  topic: string
  /** How many to place at most. */
  orders: number
  counts: PlacedCounts
  signal: AbortSignal
}

/** What is due within so short a time goes in one send: each costs about a millisecond. */
const TICK_MS = 10
/** A change of the rate is seen after so long, also while paused. */
const LONGEST_WAIT_MS = 250

/**
 * Places simulated orders as they fall due, or as fast as it goes without a pace. While Kafka is away nothing is
 * made: what is owed is a number, and is made and sent in batches when Kafka is back.
 */
export async function placeSimulated(
  simulator: Simulator,
  pace: Pace | undefined,
  { sender, topic, orders, counts, signal }: Placing,
): Promise<void> {
  let sending: Promise<void> = Promise.resolve()
  let made = 0
  while (!signal.aborted && made < orders) {
    const owed = pace ? pace.owed(performance.now()) : MAX_SEND_RECORDS
    const count = Math.min(owed, MAX_SEND_RECORDS, orders - made)
    if (count === 0) {
      await sleep(Math.min(Math.max(pace!.waitMs(performance.now()), TICK_MS), LONGEST_WAIT_MS), signal)
      continue
    }
    const records = Array.from({ length: count }, () => simulator.next())
    made += count
    pace?.take(count)
    // These were made while the ones before were on their way; never more than one send is.
    await sending
    sending = send(records)
    // It is awaited in the next round, which may be later than it fails.
    sending.catch(() => undefined)
  }
  await sending

  async function send(records: readonly SimulatedOrder[]): Promise<void> {
    const acknowledged = await sender.send(topic, records)
    for (const { fault } of records.slice(0, acknowledged)) counts.add(fault)
    counts.givenUp += records.length - acknowledged
  }
}

export interface Replay extends Placing {
  tempo: Tempo
  report: ReportProblem
  onPlaced: (order: HistoricalOrder) => void
}

/** Places the orders of a file, by a schedule of absolute times or as fast as it goes. */
export async function placeHistory(survey: Survey, replay: Replay): Promise<void> {
  const { sender, topic, orders, counts, signal, tempo, report, onPlaced } = replay
  const startedMs = performance.now()
  let batch: HistoricalOrder[] = []
  let bytes = 0
  let made = 0
  const flush = async () => {
    if (batch.length === 0) return
    const acknowledged = await sender.send(topic, batch)
    for (const order of batch.slice(0, acknowledged)) {
      counts.add(order.isBroken ? 'unreadable' : undefined)
      onPlaced(order)
    }
    counts.givenUp += batch.length - acknowledged
    batch = []
    bytes = 0
  }
  for await (const order of readOrders(survey, report)) {
    const dueMs = startedMs + delayOf(order, made, survey, tempo)
    // What is in hand does not wait for what is due later.
    if (dueMs - performance.now() > TICK_MS) await flush()
    await waitUntil(dueMs, signal)
    if (signal.aborted || made >= orders) break
    if (bytes + order.value.length > MAX_SEND_BYTES || batch.length >= MAX_SEND_RECORDS) await flush()
    batch.push(order)
    bytes += order.value.length
    made++
  }
  await flush()
}

/** When an order is due after the start; what has no time is due at once. */
function delayOf({ placedAtMs }: HistoricalOrder, before: number, { firstMs }: Survey, tempo: Tempo): number {
  if (tempo === 'max') return 0
  if ('ratePerSecond' in tempo) return ((before + 0.5) / tempo.ratePerSecond) * 1_000
  return placedAtMs === undefined ? 0 : (placedAtMs - firstMs) / tempo.speed
}

/** A timer takes no more than about 24 days. */
const LONGEST_TIMER_MS = 1_000_000_000

async function waitUntil(dueMs: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const leftMs = dueMs - performance.now()
    if (leftMs <= 0 || signal.aborted) return
    await sleep(Math.min(leftMs, LONGEST_TIMER_MS), signal)
  }
}
