/** Steps of the tour on what cannot be done now, and what cannot be done at all. */
import { query } from './database.ts'
import { formatSeconds } from './text.ts'
import { countCharges, countUnanswered, setFaults } from './tourGateway.ts'
import { sendByHand } from './tourHand.ts'
import type { TourPipeline } from './tourPipeline.ts'
import type { TourRecord } from './tourRecords.ts'
import type { Tour, TourStep } from './tourSteps.ts'

const RETRIED_ORDERS = 30
const SAMPLES = 4
const SAMPLE_MS = 600
const REDRIVEN_ORDERS = 5
/** The key of what is no order. */
const BY_HAND = 'hand-1'

export const retry: TourStep = {
  name: 'retry',
  title: 'a dependency breaks, and heals',
  intro:
    'The payment gateway answers nothing but errors. Payment asks again, later and later; after 20 failures in a row a circuit breaker holds requests back. The orders wait in Kafka, and none of them is a dead letter.',
  conclusion:
    'An outage is no fault of a record: whoever cannot go on keeps its place in the log and waits, with growing pauses that are drawn at random, and is back within seconds.',
  concept: 'retries-and-backoff',
  async run(tour) {
    const { pipeline, narrator } = tour
    await setFaults(tour, { errorRatio: 1 })
    narrator.command(`npx tsx producer.ts --orders ${RETRIED_ORDERS} --max`)
    const placed = await narrator.waitFor('the orders are on their way', pipeline.place(RETRIED_ORDERS))
    const [payment] = pipeline.members.instancesOf('paymentService')
    const breakerOpens = pipeline.until('the breaker opens', () => isBreakerOpen(pipeline, payment!))
    await narrator.waitFor('the breaker opens', breakerOpens)
    const samples = await narrator.waitFor('payment tries and waits', sampleTries(pipeline, payment!))
    narrator.command(`curl ${pipeline.members.metricsUrlOf(payment!)}    # several times`)
    const rows = samples.map(({ atMs, failures, isOpen, lag }) => [
      formatSeconds(atMs),
      String(failures),
      isOpen ? 'open' : 'closed',
      String(lag),
    ])
    const header = ['after', 'requests without answer', 'breaker', 'lag']
    narrator.table(header, rows, [0, 1, 3])
    narrator.show(
      pipeline.members
        .linesOf(payment!)
        .filter((line) => line.includes('nothing is lost'))
        .slice(-1),
    )
    narrator.claim(
      'the breaker is open',
      samples.some(({ isOpen }) => isOpen),
    )
    narrator.claim('nobody was charged meanwhile', (await countCharges(pipeline, placed)) === 0)

    narrator.say('Now the gateway heals.')
    const healedMs = performance.now()
    await setFaults(tour, { errorRatio: 0 })
    await narrator.waitFor('payment goes on', pipeline.untilDecided(placed))
    const tookMs = Math.round(performance.now() - healedMs)
    const charges = await countCharges(pipeline, placed)
    const letters = pipeline.records.of('payment.dlq').length
    narrator.statement(
      "SELECT count(*) FROM gateway.ledger WHERE operation = 'authorise' AND order_id IN (…)",
    )
    narrator.show([String(charges)])
    narrator.claim(
      `${formatSeconds(tookMs)} later all ${placed.length} orders are decided, each charged once`,
      charges === placed.length,
    )
    narrator.claim('payment.dlq has no record', letters === 0)
    return { orders: placed.length, charges, deadLetters: letters, healedMs: tookMs }
  },
}

/** Payment's figures several times, a while apart. */
async function sampleTries(pipeline: TourPipeline, payment: string) {
  const startedMs = performance.now()
  const samples: { atMs: number; failures: number; isOpen: boolean; lag: number }[] = []
  for (let index = 0; index < SAMPLES; index++) {
    const failures = await countUnanswered(pipeline, payment)
    const isOpen = await isBreakerOpen(pipeline, payment)
    const lag = await pipeline.members.metric(payment, 'pipeline_lag_records')
    samples.push({ atMs: performance.now() - startedMs, failures, isOpen, lag })
    await pipeline.wait(SAMPLE_MS)
  }
  return samples
}

async function isBreakerOpen(pipeline: TourPipeline, payment: string): Promise<boolean> {
  return (await pipeline.members.metric(payment, 'payment_gateway_breaker_open')) === 1
}

/** A mistake that strikes one order: the rows that there are already may be as they are. */
const MISTAKE = `ALTER TABLE inventory_outcomes ADD CONSTRAINT mistake CHECK (order_id NOT LIKE '%-3') NOT VALID`
const MENDED = 'ALTER TABLE inventory_outcomes DROP CONSTRAINT mistake'

export const deadLetter: TourStep = {
  name: 'dead-letter',
  title: 'a dead letter, and its redrive',
  intro:
    'Two records that cannot be worked on: one is no order at all, the other trips over a mistake that is planted in the database. Each goes to the dead letters of its group as it came, with the reason, and the orders beside them go on.',
  conclusion:
    'One bad record holds up nobody. It keeps its bytes, its reason and its place of origin, and when its cause is mended it is worked on again, once, however often somebody asks for that.',
  concept: 'dead-letters',
  async run(tour) {
    const struck = await strikeOne(tour)
    await redriveAll(tour, struck)
    const { pipeline, narrator } = tour
    const why = 'it never was an order'
    narrator.command(`npm run dlq -- drop --order ${BY_HAND} --why '${why}'`)
    const dropping = pipeline.run('tools/dlq.ts', ['drop', '--order', BY_HAND, '--why', why, '--yes'])
    narrator.show(await narrator.waitFor('it is given up', dropping))
    const all = await list(tour, ['--all'])
    narrator.claim('no dead letter is open', all.length === 3 && all.every(({ state }) => state !== 'open'))
    return { letters: all.length, redriven: all.filter(({ state }) => state === 'redriven').length }
  },
}

/** @returns the order that cannot be worked on because of the mistake */
async function strikeOne(tour: Tour): Promise<TourRecord> {
  const { pipeline, narrator } = tour
  const { records, database } = pipeline
  narrator.say(`To orders.raw, with the key ${BY_HAND}: no order. To the database:`)
  await sendByHand(pipeline, 'orders.raw', [{ key: BY_HAND, value: 'no order' }])
  narrator.statement(MISTAKE)
  await query(database, { text: MISTAKE })
  narrator.command(`npx tsx producer.ts --orders ${REDRIVEN_ORDERS} --max`)
  const placed = await narrator.waitFor('the orders are on their way', pipeline.place(REDRIVEN_ORDERS))
  const struck = placed.find(({ orderId }) => orderId!.endsWith('-3'))!
  const others = placed.filter((record) => record !== struck)
  await narrator.waitFor('the others are decided', pipeline.untilDecided(others))
  await narrator.waitFor('both are dead letters', untilLetters(pipeline, struck))
  const found = await list(tour, [])
  narrator.claim('there are two dead letters, with their reasons', found.length === 2)
  narrator.claim(
    `the ${others.length} orders beside them are decided, and this one is not`,
    records.of('orders.completed', struck.orderId).length === 0,
  )
  return struck
}

/** Mends the mistake and has both worked on again: one order is decided now, the other record is as bad as it was. */
async function redriveAll({ pipeline, narrator }: Tour, struck: TourRecord): Promise<void> {
  const { records, database } = pipeline
  narrator.say('The mistake is mended, and all that lies there is worked on again.')
  narrator.statement(MENDED)
  await query(database, { text: MENDED })
  narrator.command('npm run dlq -- redrive')
  const redriving = pipeline.run('tools/dlq.ts', ['redrive', '--yes'])
  narrator.show(await narrator.waitFor('they are redriven', redriving))
  await narrator.waitFor('the order is decided', pipeline.untilDecided([struck]))
  const isBack = () => records.of('validator.dlq', BY_HAND).length === 2
  await narrator.waitFor('the other is looked at', pipeline.until('it is a dead letter again', isBack))
  const answers = records.of('inventory.events', struck.orderId)
  const verdicts = answers.filter(({ source }) => source?.startsWith('orders.validated/'))
  const [validated] = records.of('orders.validated', struck.orderId)
  narrator.claim(
    `inventory has answered ${struck.orderId} once, for the position that it had at first`,
    verdicts.length === 1 && verdicts[0]?.source === validated?.position,
  )
  narrator.claim('what is no order became a dead letter again: a redrive mends nothing by itself', isBack())
}

function untilLetters(pipeline: TourPipeline, struck: TourRecord): Promise<void> {
  const { records } = pipeline
  return pipeline.until(
    'both are dead letters',
    () =>
      records.of('validator.dlq', BY_HAND).length === 1 &&
      records.of('inventory.dlq', struck.orderId).length === 1,
  )
}

interface ListedLetter {
  position: string
  order?: string
  attempts: number
  state: string
  reason: string
}

/** The dead letters as the tool lists them: of each what matters here. */
async function list({ pipeline, narrator }: Tour, flags: string[]): Promise<ListedLetter[]> {
  const args = ['list', ...flags, '--json']
  const lines = await narrator.waitFor('the dead letters are read', pipeline.run('tools/dlq.ts', args))
  const { letters } = JSON.parse(lines.join('')) as { letters: ListedLetter[] }
  narrator.command(`npm run dlq -- list ${flags.join(' ')}`.trimEnd())
  const rows = letters.map(({ position, order = '-', attempts, state, reason }) => [
    position,
    order,
    String(attempts),
    state,
    reason,
  ])
  narrator.table(['position', 'order', 'tried', 'state', 'reason'], rows, [2])
  return letters
}
