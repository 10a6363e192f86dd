import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { pino } from 'pino'
import { createKafka } from '../kafkaConfig.ts'
import { ended, stopScript } from '../lib/childProcesses.ts'
import { STOPPED } from './fixtures/stopAtProbe.ts'
import { orderStop, readAll, runScript, runStoppable, until, wakeUp } from './harness.ts'
import { type PlacedOrder, type Said, type SettlingSetup, setUpSettling } from './settlingHarness.ts'

const IN_STOCK = 20
const BOTH = ['inventory', 'payment'] as const
const log = pino({ level: 'silent' })

test('decisions are carried out once, whenever they come, and however often', async (t) => {
  const setup = await setUpSettling(t, IN_STOCK)
  const { announce, place, confirm, cancel, untilIdle, gateway, config } = setup
  const services = ['inventoryService', 'paymentService'].map((name) => runScript(t, name, setup.environment))

  gateway.settings.declineRatio = 1
  const declined = announce('declined')
  await place(declined)
  await untilIdle(...BOTH)
  gateway.settings.declineRatio = 0
  const confirmed = announce('confirmed', 3)
  const cancelled = announce('cancelled', 2)
  const scarce = announce('scarce', 1_000)
  await place(confirmed, cancelled, scarce)
  await untilIdle(...BOTH)

  // Both will come after their decision; a zombie of ours has authorised the second in the meantime.
  const unheard = announce('unheard')
  const zombie = announce('zombie')
  const authorisationId = await authoriseLikeAZombie(setup, zombie)
  await confirm(confirmed, 2_700)
  for (const order of [cancelled, scarce, declined, unheard, zombie]) await cancel(order)
  await untilIdle(...BOTH)
  await place(unheard, zombie)
  await untilIdle(...BOTH)

  // Decided again at other positions: nothing. Not to be carried out at all: dead letters.
  await confirm(confirmed, 2_700)
  await cancel(cancelled)
  await cancel(unheard)
  const unknown = announce('unknown')
  await confirm(unknown)
  await untilIdle(...BOTH)

  const decided = (offset: number) => `${config.topics.ordersCompleted.name}/0/${offset}`
  const stockSaid = await setup.inventoryEvents()
  assert.deepEqual(
    stockSaid.map(({ event, source }) => [event.orderId, event.status, source]),
    [
      ['declined', 'RESERVED', declined.source],
      ['confirmed', 'RESERVED', confirmed.source],
      ['cancelled', 'RESERVED', cancelled.source],
      ['scarce', 'REJECTED', scarce.source],
      ['confirmed', 'COMMITTED', decided(0)],
      ['cancelled', 'RELEASED', decided(1)],
      ['declined', 'RELEASED', decided(3)],
      ['unheard', 'REJECTED', unheard.source],
      ['zombie', 'REJECTED', zombie.source],
    ],
  )
  const paymentSaid = await setup.paymentEvents()
  assert.deepEqual(
    paymentSaid.map(({ event, source }) => [event.orderId, event.type, event.amount, source]),
    [
      ['declined', 'PaymentFailed', 1_000, declined.source],
      ['confirmed', 'PaymentProcessed', 3_000, confirmed.source],
      ['cancelled', 'PaymentProcessed', 2_000, cancelled.source],
      ['scarce', 'PaymentProcessed', 1_000_000, scarce.source],
      ['confirmed', 'PaymentCaptured', 2_700, decided(0)],
      ['cancelled', 'PaymentVoided', 2_000, decided(1)],
      ['scarce', 'PaymentVoided', 1_000_000, decided(2)],
      ['zombie', 'PaymentVoided', 1_000, decided(5)],
      ['unheard', 'PaymentFailed', 1_000, unheard.source],
      ['zombie', 'PaymentProcessed', 1_000, zombie.source],
    ],
  )
  for (const { event } of paymentSaid.filter(({ event }) => event.orderId === 'zombie')) {
    assert.ok('authorisationId' in event && event.authorisationId === authorisationId, event.type)
  }
  assertEventIdsDiffer([...stockSaid, ...paymentSaid])
  await assertEndState(setup)
  const letters = BOTH.map((group) => config.topics.deadLetters[group].name)
  for (const [topic, records] of await readAll(config, letters)) {
    assert.deepEqual(
      records.map(({ key }) => key?.toString()),
      ['unknown'],
      topic,
    )
  }

  // From the first decision again, as after an end between the database's commit and Kafka's.
  await Promise.all(services.map(({ child }) => stopScript(child)))
  await readAgain(t, setup)
  for (const name of ['inventoryService', 'paymentService']) runScript(t, name, setup.environment)
  await untilIdle(...BOTH)
  const settled = <Event>(said: Said<Event>[]) =>
    said.filter(({ source }) => source.startsWith(config.topics.ordersCompleted.name))
  assert.deepEqual((await setup.inventoryEvents()).slice(stockSaid.length), settled(stockSaid))
  assert.deepEqual((await setup.paymentEvents()).slice(paymentSaid.length), settled(paymentSaid))
  await assertEndState(setup)
})

/** What a process that was fenced may do at any time: the gateway cannot tell it from us. */
async function authoriseLikeAZombie({ gateway }: SettlingSetup, { order }: PlacedOrder): Promise<string> {
  const { orderId, total: amount, currency } = order
  const response = await fetch(`${gateway.url}/authorisations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': `${orderId}:authorise` },
    body: JSON.stringify({ orderId, amount, currency }),
  })
  return ((await response.json()) as { authorisationId: string }).authorisationId
}

async function assertEndState({ database }: SettlingSetup): Promise<void> {
  const stock = await database.query('SELECT received, available, reserved, committed FROM stock')
  assert.deepEqual(stock.rows, [{ received: IN_STOCK, available: IN_STOCK - 3, reserved: 0, committed: 3 }])
  const ledger = await database.query(
    `SELECT idempotency_key AS key, status, amount_minor AS amount FROM gateway.ledger ORDER BY 1`,
  )
  assert.deepEqual(
    ledger.rows.map(({ key, status, amount }) => [key, status, amount]),
    [
      ['cancelled:authorise', 'authorised', 2_000],
      ['cancelled:void', 'voided', 2_000],
      ['confirmed:authorise', 'authorised', 3_000],
      ['confirmed:capture', 'captured', 2_700],
      ['declined:authorise', 'declined', 1_000],
      ['scarce:authorise', 'authorised', 1_000_000],
      ['scarce:void', 'voided', 1_000_000],
      ['unheard:void', 'voided', 1_000],
      ['zombie:authorise', 'authorised', 1_000],
      ['zombie:void', 'voided', 1_000],
    ],
  )
}

function assertEventIdsDiffer(said: Said<{ eventId: string }>[]): void {
  assert.equal(new Set(said.map(({ event }) => event.eventId)).size, said.length)
}

/** Lets both groups begin with the first decision again. They have to be stopped. */
async function readAgain(t: TestContext, { config }: SettlingSetup): Promise<void> {
  const admin = createKafka(config, 'test', log).admin()
  await admin.connect()
  t.after(() => admin.disconnect())
  for (const group of BOTH) {
    await admin.setOffsets({
      groupId: config.topicPrefix + group,
      topic: config.topics.ordersCompleted.name,
      partitions: [{ partition: 0, offset: '0' }],
    })
  }
}

test('a void whose answer was not written down is asked for again by whoever comes next, and nothing is charged', async (t) => {
  const setup = await setUpSettling(t, IN_STOCK)
  const { announce, place, cancel, untilIdle, database } = setup
  const service = runStoppable(t, 'paymentService', setup.environment)
  await until('it has its task', () => service.lines.some((line) => /has tasks/.test(line)))

  // It stands still with the answer to its void, and a zombie writes down what it had authorised before.
  const raced = announce('raced')
  const authorisationId = await authoriseLikeAZombie(setup, raced)
  await orderStop(service, { stopAt: 'charged', passes: 1 })
  await cancel(raced)
  await until('it has stopped itself', () => service.lines.includes(STOPPED))
  const { orderId, total: amount, currency, occurredAt } = raced.order
  const type = 'PaymentProcessed'
  const stored = { type, eventId: 'of-the-zombie', occurredAt, orderId, amount, currency, authorisationId }
  await database.query(
    `INSERT INTO payment_outcomes (order_id, operation, source, event, note) VALUES ($1, 'authorise', $2, $3, '')`,
    [orderId, raced.source, JSON.stringify(stored)],
  )
  await wakeUp(service)
  await place(raced)
  await untilIdle('payment')
  assert.deepEqual(
    (await setup.paymentEvents()).map(({ event }) => [event.orderId, event.type, event.eventId]).sort(),
    [
      ['raced', 'PaymentProcessed', 'of-the-zombie'],
      ['raced', 'PaymentVoided', 'raced/PaymentVoided'],
    ],
  )

  // It is killed at the same place.
  const killed = announce('killed')
  service.lines.splice(0)
  await orderStop(service, { stopAt: 'charged', passes: 1 })
  await cancel(killed)
  await until('it has stopped itself', () => service.lines.includes(STOPPED))
  service.child.kill('SIGKILL')
  await ended(service.child)
  runScript(t, 'paymentService', setup.environment)
  await untilIdle('payment')
  await place(killed)
  await untilIdle('payment')
  assert.deepEqual(
    (await setup.paymentEvents()).slice(2).map(({ event, source }) => [event.orderId, event.type, source]),
    [['killed', 'PaymentFailed', killed.source]],
  )
  const { rows } = await database.query('SELECT idempotency_key AS key FROM gateway.ledger ORDER BY 1')
  assert.deepEqual(
    rows.map(({ key }) => key),
    ['killed:void', 'raced:authorise', 'raced:void'],
  )
})
