/** The step of the tour in which processes are killed at the worst moments, and the audit after it. */
import { query } from './database.ts'
import { formatSeconds } from './text.ts'
import { readUncommittedKeys } from './tourBroker.ts'
import { countCharges } from './tourGateway.ts'
import type { TourPipeline } from './tourPipeline.ts'
import type { TourRecord } from './tourRecords.ts'
import type { Tour, TourStep } from './tourSteps.ts'

const ORDERS = 30
/** Answers of the gateway after which payment is killed. */
const CHARGES_BEFORE_KILL = 3
/** Guarantee, name, looked at, found, verdict. */
const CHECK_COLUMNS = 5
/** Lines of the audit that belong to what is shown here. */
const SHOWN_CHECKS = [
  'every order placed has its validation',
  'no order placed has a second validation',
  'every validated order has its payment verdict',
  'no order is authorised twice',
  'reserved and committed are what orders took',
]

export const killed: TourStep = {
  name: 'killed',
  title: 'killed in the middle, and audited',
  intro:
    'Payment is killed (kill -9) right after the gateway has charged and before that is written down; the validator in the middle of a transaction, with its results written and not committed. Both are started again, and an auditor recounts everything.',
  conclusion:
    'Results and the place in the log are one transaction, so both count or neither does. What lies outside of Kafka is keyed, so asking again changes nothing.',
  concept: 'delivery-guarantees',
  async run(tour) {
    const { pipeline, narrator } = tour
    const charged = await killPayment(tour)
    const sent = await killValidator(tour)
    const placed = [...charged, ...sent]

    narrator.say(
      'Both are started again. The group waits for the session of the dead to end, six seconds, before it hands out their partitions.',
    )
    narrator.command('npx tsx paymentService.ts & npx tsx validator.ts')
    const startedMs = performance.now()
    const successor = pipeline.members.start('validator')
    pipeline.members.start('paymentService')
    await narrator.waitFor(
      'the partitions change hands',
      pipeline.until('the validator has tasks', () => hasTasks(pipeline, successor)),
    )
    await narrator.waitFor('the rest is worked off', pipeline.untilDecided(placed))
    await narrator.waitFor('everything is settled', pipeline.untilDrained())
    const tookMs = Math.round(performance.now() - startedMs)
    const { all, visible } = await countValidated(tour, sent)
    narrator.claim(
      `after ${formatSeconds(tookMs)} each of the ${placed.length} orders is decided`,
      isEachDecidedOnce(pipeline, placed),
    )
    narrator.claim(
      `aborted for good: ${all - visible} records that are in the log, and that no reader gets`,
      all > visible && visible === sent.length,
    )
    const charges = await countCharges(pipeline, charged)
    narrator.claim(
      `${charged.length} orders, ${charges} charges in the gateway's ledger`,
      charges === charged.length,
    )

    const audit = await auditAll(tour)
    return { orders: placed.length, aborted: all - visible, charges, ...audit }
  },
}

async function killPayment({ pipeline, narrator }: Tour): Promise<TourRecord[]> {
  const [payment] = pipeline.members.instancesOf('paymentService')
  const ended = pipeline.members.killAt(payment!, 'charged', CHARGES_BEFORE_KILL)
  narrator.command(`npx tsx producer.ts --orders ${ORDERS} --max`)
  const pid = pipeline.members.pidOf(payment!)
  const placed = await narrator.waitFor('the orders are on their way', pipeline.place(ORDERS))
  const signal = await narrator.waitFor('payment is killed', pipeline.inTime('payment is killed', ended))
  const charges = await countCharges(pipeline, placed)
  const [row] = await query<{ stored: number }>(pipeline.database, {
    text: `SELECT count(*) AS stored FROM payment_outcomes WHERE operation = 'authorise' AND order_id = ANY ($1)`,
    values: [placed.map(({ orderId }) => orderId)],
  })
  narrator.show([
    `payment, pid ${pid}: ${signal} at the moment 'charged' (lib/probes.ts)`,
    `gateway.ledger: ${charges} of these orders charged   payment_outcomes: ${row!.stored} written down`,
  ])
  narrator.claim('more is charged than payment has written down', charges > row!.stored)
  return placed
}

async function killValidator(tour: Tour): Promise<TourRecord[]> {
  const { pipeline, narrator } = tour
  const [validator] = pipeline.members.instancesOf('validator')
  const ended = pipeline.members.killAt(validator!, 'records-sent', 1)
  const pid = pipeline.members.pidOf(validator!)
  narrator.command(`npx tsx producer.ts --orders ${ORDERS} --max`)
  const placed = await narrator.waitFor('more orders are on their way', pipeline.place(ORDERS))
  const signal = await narrator.waitFor(
    'the validator is killed',
    pipeline.inTime('the validator is killed', ended),
  )
  const { all, visible } = await countValidated(tour, placed)
  narrator.show([
    `validator, pid ${pid}: ${signal} at the moment 'records-sent' (lib/probes.ts)`,
    `orders.validated: ${all} of these orders lie in the log, ${visible} are committed, ${placed.length} were placed`,
  ])
  narrator.claim('results lie in the log that are not committed', all > visible)
  return placed
}

/** How many records of these orders lie in orders.validated, and how many of them a read-committed reader gets. */
async function countValidated({ pipeline, narrator }: Tour, placed: readonly TourRecord[]) {
  const { kafka, prefix, signal, records } = pipeline
  const topic = `${prefix}orders.validated`
  const reading = readUncommittedKeys({
    kafka,
    topic,
    groupPrefix: `${prefix}tour-uncommitted`,
    log: pipeline.log,
    signal,
  })
  const keys = await narrator.waitFor('the log is read, with what is not committed', reading)
  const orderIds = placed.map(({ orderId }) => orderId!)
  const wanted = new Set(orderIds)
  const all = (keys ?? []).filter((key) => wanted.has(key)).length
  const visible = [...records.countByOrder('orders.validated', orderIds).values()].reduce(
    (sum, count) => sum + count,
    0,
  )
  return { all, visible }
}

function hasTasks(pipeline: TourPipeline, id: string): boolean {
  return pipeline.members.linesOf(id).some((line) => /has tasks \d/.test(line))
}

function isEachDecidedOnce({ records }: TourPipeline, placed: readonly TourRecord[]): boolean {
  const counts = records.countByOrder(
    'orders.completed',
    placed.map(({ orderId }) => orderId!),
  )
  return [...counts.values()].every((count) => count === 1)
}

/** Runs the auditor over all that the tour has done. @returns what it found */
async function auditAll({ pipeline, narrator }: Tour) {
  narrator.say(
    'The auditor reads every topic, the database and the ledger of the gateway, and shares no code with the decisions:',
  )
  narrator.command('npm run verify -- --drained')
  const { lines, status } = await narrator.waitFor(
    'it reads and recounts everything',
    pipeline.tryRun('tools/verify.ts', ['--drained']),
  )
  const end = lines.indexOf('')
  const [header = '', ...checks] = lines.slice(0, end)
  const summary = lines.slice(end + 1)
  const isShown = (line: string) =>
    SHOWN_CHECKS.some((name) => line.includes(name)) || !/ (PASS|not made)$/.test(line)
  const shown = checks.filter(isShown)
  narrator.table(['', ...splitColumns(header), ''], shown.map(cellsOf), [2, 3])
  narrator.show([`(${checks.length - shown.length} more lines)`, ...summary])
  const figures = /lost ([\d,]+), duplicated ([\d,]+), charged twice ([\d,]+)/.exec(summary.join('\n')) ?? []
  const [lost, duplicated, chargedTwice] = figures.slice(1).map((text) => Number(text.replaceAll(',', '')))
  narrator.claim(
    'nothing lost, nothing twice, nobody charged twice',
    status === 0 && lost === 0 && duplicated === 0 && chargedTwice === 0,
  )
  return { lost: lost ?? -1, duplicated: duplicated ?? -1, chargedTwice: chargedTwice ?? -1 }
}

/** A line of the audit's table; one that only adds to the line before has fewer columns. */
function cellsOf(line: string): string[] {
  return Array.from({ ...splitColumns(line), length: CHECK_COLUMNS }, (cell?: string) => cell ?? '')
}

/** The columns stand at least two blanks apart. */
function splitColumns(line: string): string[] {
  return line.trim().split(/ {2,}/)
}
