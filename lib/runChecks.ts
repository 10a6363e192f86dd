/**
 * What `npm start` compares its books of the topics with, when all orders have come to their ends: the stock, the
 * gateway's ledger, and what analytics makes of the same records. By sums, before the run and after it; `npm run verify`
 * looks at each order.
 */
import type { Kafka } from 'kafkajs'
import { type Database, query } from './database.ts'
import type { Logger } from './log.ts'
import { countedTopics, OrderReplay } from './orderReplay.ts'
import { type Summary, summarise } from './orderStatistics.ts'
import type { Figures } from './tally.ts'
import type { OffsetsByPartition } from './topicBounds.ts'
import type { TopicTable } from './topics.ts'

/** Sums over all that is stored. Stock is in pieces, money in minor units by currency. */
export interface StoredSums {
  /** Products whose counts contradict one another, or that have received something else than their receipts. */
  wrongProducts: number
  reserved: number
  committed: number
  authorisations: number
  captures: number
  voids: number
  capturedMinor: Record<string, number>
}

const STOCK = `
  SELECT count(*) FILTER (WHERE received <> available + reserved + committed OR least(available, reserved, committed) < 0
           OR received <> coalesce(receipts.quantity, 0))::float8 AS "wrongProducts",
    coalesce(sum(reserved), 0)::float8 AS reserved, coalesce(sum(committed), 0)::float8 AS committed
  FROM stock LEFT JOIN (SELECT sku, sum(quantity) AS quantity FROM stock_receipts GROUP BY sku) receipts USING (sku)`
/** A void without an authorisation is a tombstone, and undid nothing. */
const LEDGER = `
  SELECT status, currency, count(*)::float8 AS count, sum(amount_minor)::float8 AS "amountMinor"
  FROM gateway.ledger WHERE authorisation_id IS NOT NULL GROUP BY status, currency`

/** @throws UnavailableError */
export async function readStoredSums(database: Database): Promise<StoredSums> {
  type Stock = Pick<StoredSums, 'wrongProducts' | 'reserved' | 'committed'>
  type Entries = { status: string; currency: string; count: number; amountMinor: number }
  const [stock] = await query<Stock>(database, { text: STOCK })
  const entries = await query<Entries>(database, { text: LEDGER })
  const of = (status: string) => entries.filter((entry) => entry.status === status)
  const count = (status: string) => of(status).reduce((sum, entry) => sum + entry.count, 0)
  return {
    ...stock!,
    authorisations: count('authorised'),
    captures: count('captured'),
    voids: count('voided'),
    capturedMinor: Object.fromEntries(of('captured').map((entry) => [entry.currency, entry.amountMinor])),
  }
}

/**
 * One line for each thing that is stored otherwise than the topics say.
 *
 * @param unitsConfirmed how many pieces the confirmed orders have
 * @param hasLedger whether the gateway is ours: of another one the books cannot be seen
 */
export function compareStored(
  before: StoredSums,
  after: StoredSums,
  figures: Figures,
  { unitsConfirmed, hasLedger }: { unitsConfirmed: number; hasLedger: boolean },
): string[] {
  const complaints: string[] = []
  const expect = (what: string, found: number, expected: number) => {
    if (found !== expected) complaints.push(`${what}: ${found}, by the topics ${expected}`)
  }
  expect('products whose stock does not add up', after.wrongProducts, 0)
  expect('pieces of stock that are still reserved', after.reserved - before.reserved, 0)
  expect('pieces of stock committed', after.committed - before.committed, unitsConfirmed)
  if (!hasLedger) return complaints
  expect('authorisations in the ledger', after.authorisations - before.authorisations, figures.authorised)
  expect('captures in the ledger', after.captures - before.captures, figures.captured)
  expect('voids in the ledger', after.voids - before.voids, figures.voided)
  for (const currency of currenciesOf(after.capturedMinor, figures.capturedMinor)) {
    const capturedMinor = (after.capturedMinor[currency] ?? 0) - (before.capturedMinor[currency] ?? 0)
    expect(`captured by the ledger, ${currency}`, capturedMinor, figures.capturedMinor[currency] ?? 0)
  }
  return complaints
}

/** One line for each figure that analytics has otherwise. */
export function compareAnalytics(summary: Summary, figures: Figures): string[] {
  const complaints: string[] = []
  const expect = (what: string, found: number, expected: number) => {
    if (found !== expected) complaints.push(`analytics, ${what}: ${found}, by the topics ${expected}`)
  }
  expect('orders', summary.orders, figures.validated)
  expect('rejected', summary.rejected.orders, figures.rejected)
  expect('confirmed', summary.confirmed, figures.confirmed)
  expect('cancelled', summary.cancelled.orders, figures.cancelledOrders)
  const { bookedRevenueMinor: booked, capturedRevenueMinor: captured } = summary
  for (const currency of currenciesOf(booked, captured, figures.revenueMinor, figures.capturedMinor)) {
    expect(`booked ${currency}`, booked[currency] ?? 0, figures.revenueMinor[currency] ?? 0)
    expect(`captured ${currency}`, captured[currency] ?? 0, figures.capturedMinor[currency] ?? 0)
  }
  return complaints
}

/** What analytics counts in the records since then. */
export async function replaySince(
  offsets: OffsetsByPartition,
  { kafka, topics, groupPrefix, signal, log }: ReplayContext,
): Promise<Summary> {
  const replay = new OrderReplay({
    kafka,
    topics: countedTopics(topics),
    from: { offsets },
    until: 'end',
    graceMs: 0,
    groupPrefix,
    signal,
    log,
  })
  await replay.run()
  return summarise(replay.statistics, 0)
}

interface ReplayContext {
  kafka: Kafka
  topics: TopicTable
  groupPrefix: string
  signal: AbortSignal
  log: Logger
}

function currenciesOf(...amounts: Record<string, number>[]): Set<string> {
  return new Set(amounts.flatMap((amount) => Object.keys(amount)))
}
