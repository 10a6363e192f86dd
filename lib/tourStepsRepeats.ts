/** Steps of the tour on what comes twice, and on what is looked at again. */
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { formatMoney } from './money.ts'
import type { Summary } from './orderStatistics.ts'
import { countUnanswered, type LedgerRow, readLedger, setFaults } from './tourGateway.ts'
import { sendByHand } from './tourHand.ts'
import type { Narrator } from './tourNarrator.ts'
import type { TourPipeline } from './tourPipeline.ts'
import { formatRecord, type TourRecord } from './tourRecords.ts'
import type { Tour, TourStep } from './tourSteps.ts'

const ASKED_AGAIN = 2

export const duplicate: TourStep = {
  name: 'duplicate',
  title: 'what comes twice is done once',
  intro:
    'The same order is sent a second time, and a third time with another quantity. Then the gateway charges for an order and hangs up before it answers: payment cannot know, and has to ask again.',
  conclusion:
    'Whoever sends does so at least once, so whoever receives has to know what it has done: by order id within a window here, by a key that goes with each request there.',
  concept: 'idempotency',
  async run(tour) {
    const refusals = await showRefusals(tour)
    const charges = await showChargedOnce(tour)
    return { refusals, charges }
  },
}

async function showRefusals({ pipeline, narrator }: Tour): Promise<number> {
  const { records } = pipeline
  narrator.command('npx tsx producer.ts --orders 1 --max')
  const placed = await narrator.waitFor('the order is on its way', pipeline.place(1))
  await narrator.waitFor('it is decided', pipeline.untilDecided(placed))
  const [{ orderId, value }] = placed as [TourRecord]
  narrator.say('The same bytes with the same key once more, and once more with one piece more:')
  await sendByHand(pipeline, 'orders.raw', [
    { key: orderId!, value: value! },
    { key: orderId!, value: withOneMore(value!) },
  ])
  const refused = () => records.of('orders.rejected', orderId)
  await narrator.waitFor(
    'both are looked at',
    pipeline.until('both are refused', () => refused().length === 2),
  )
  narrator.show(records.of('orders.raw', orderId).flatMap(formatRecord))
  const rows = refused().map(({ position, source, event }) => [
    position,
    source ?? '',
    event?.reasons?.map(({ code, message }) => `${code}: ${message}`).join('; ') ?? '',
  ])
  narrator.table(['refused at', 'its source', 'reasons'], rows)
  const codes = refused().map(({ event }) => event?.reasons?.[0]?.code)
  narrator.claim(
    'the repetition is refused as a duplicate, the contradiction as a conflict',
    isDeepStrictEqual(codes, ['duplicate', 'conflict']),
  )
  narrator.claim('the order was validated once', records.of('orders.validated', orderId).length === 1)
  return codes.length
}

/** The same order with one piece more of its first product. */
function withOneMore(value: Buffer): string {
  const order = JSON.parse(value.toString()) as {
    items: { quantity: number; unitPrice: number }[]
    total: number
  }
  const [first] = order.items as [{ quantity: number; unitPrice: number }]
  first.quantity++
  order.total += first.unitPrice
  return JSON.stringify(order)
}

async function showChargedOnce(tour: Tour): Promise<number> {
  const { pipeline, narrator } = tour
  narrator.say('Now the gateway that charges, and hangs up before it answers:')
  await setFaults(tour, { dropRatio: 1 })
  const [payment] = pipeline.members.instancesOf('paymentService')
  const before = await countUnanswered(pipeline, payment!)
  const asked = async () => (await countUnanswered(pipeline, payment!)) - before
  narrator.command('npx tsx producer.ts --orders 1 --max')
  const placed = await narrator.waitFor('the order is on its way', pipeline.place(1))
  const orderId = placed[0]!.orderId!
  const askedAgain = pipeline.until('payment asks again', async () => (await asked()) > ASKED_AGAIN)
  await narrator.waitFor('payment asks again and again', askedAgain)
  const times = await asked()
  const answers = () => pipeline.records.of('payment.events', orderId)
  narrator.say(
    `Asked ${times} times without an answer; payment.events of the order: ${answers().length}; the gateway's ledger:`,
  )
  showLedger(narrator, await readLedger(pipeline, orderId))
  narrator.claim('the gateway has charged, and payment has no answer', answers().length === 0)

  narrator.say('It answers again:')
  await setFaults(tour, { dropRatio: 0 })
  await narrator.waitFor('payment has its answer', pipeline.untilDecided(placed))
  await narrator.waitFor(
    'the payment is captured',
    pipeline.until('the payment is settled', () => answers().length === 2),
  )
  const ledger = await readLedger(pipeline, orderId)
  showLedger(narrator, ledger)
  narrator.show(answers().flatMap(formatRecord))
  const charges = ledger.filter(({ operation }) => operation === 'authorise')
  narrator.claim(`asked more than ${times} times, charged once`, charges.length === 1)
  narrator.claim(
    'the event names the authorisation that was made at the first try',
    answers()[0]?.event?.authorisationId === charges[0]?.authorisationId,
  )
  return charges.length
}

function showLedger(narrator: Narrator, rows: readonly LedgerRow[]): void {
  const cells = rows.map(({ idempotencyKey, status, amountMinor, currency }) => [
    idempotencyKey,
    status,
    formatMoney(amountMinor, currency),
  ])
  narrator.table(['idempotency key', 'status', 'amount'], cells, [2])
}

const REPLAYED_ORDERS = 40
const SHOWN_LINES = 12

export const replay: TourStep = {
  name: 'replay',
  title: 'the same history, the same table',
  intro:
    'Analytics counts orders by the minute in which they were placed. It is run again over everything since the beginning, twice, beside the one that has counted all along: all three have the same table.',
  conclusion:
    'The log is kept, so what was made from it can be made again, after a bug or for a new question. By event time it does not matter when it is read, or in which order the partitions come.',
  concept: 'replay-and-event-time',
  async run({ pipeline, narrator }) {
    narrator.command(`npx tsx producer.ts --orders ${REPLAYED_ORDERS} --max`)
    const placed = await narrator.waitFor('the orders are on their way', pipeline.place(REPLAYED_ORDERS))
    await narrator.waitFor('they are decided', pipeline.untilDecided(placed))
    await narrator.waitFor('they are settled', pipeline.untilDrained())
    const command = ['--from-beginning', '--once']
    narrator.command(`npx tsx analytics.ts ${command.join(' ')}`)
    const runs = [command, command, [...command, '--json']].map((args) => pipeline.run('analytics.ts', args))
    const [first, second, json] = await narrator.waitFor(
      'everything is read again, three times',
      Promise.all(runs),
    )
    narrator.show([...first!.slice(0, SHOWN_LINES), '…'])
    const replayed = JSON.parse(json!.join('')) as Summary
    const live = await narrator.waitFor('the live figures', untilCounted(pipeline, replayed))
    const sums = [first!, second!].map((lines) => createHash('sha256').update(lines.join('\n')).digest('hex'))
    narrator.show([
      ...sums.map((sum, index) => `${sum.slice(0, 32)}…  replay ${index + 1}, all of its text`),
      `${JSON.stringify(live.minutes).slice(0, 120)}…  minutes, live`,
      `${JSON.stringify(replayed.minutes).slice(0, 120)}…  minutes, replayed`,
    ])
    narrator.claim('two replays give the same text to the byte', sums[0] === sums[1])
    narrator.claim(
      `the live figures agree: ${replayed.orders} orders, by the minute and in money`,
      isDeepStrictEqual(comparable(live), comparable(replayed)),
    )
    const validated = pipeline.records.of('orders.validated').length
    narrator.claim(`these are the ${validated} records of orders.validated`, replayed.orders === validated)
    return { orders: replayed.orders, minutes: replayed.minutes.length }
  },
}

/** Waits until the live figures have come as far as the replay. @returns the latest */
async function untilCounted(pipeline: TourPipeline, replayed: Summary): Promise<Summary> {
  const [analytics] = pipeline.members.instancesOf('analytics')
  let live: Summary | undefined
  await pipeline.until('analytics has counted all', () => {
    const line = pipeline.members.linesOf(analytics!).findLast((each) => each.startsWith('{'))
    live = line === undefined ? undefined : (JSON.parse(line) as Summary)
    if (live === undefined || live.confirmed < replayed.confirmed) return false
    return isDeepStrictEqual(live.capturedRevenueMinor, replayed.capturedRevenueMinor)
  })
  return live!
}

/** What does not depend on when it is looked at. */
function comparable({ orders, bookedRevenueMinor, confirmed, capturedRevenueMinor, minutes }: Summary) {
  return { orders, bookedRevenueMinor, confirmed, capturedRevenueMinor, minutes }
}
