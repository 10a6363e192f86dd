import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended } from '../lib/childProcesses.ts'
import { JUDGE_NAMES, type JudgeName } from '../lib/judges.ts'
import { headerText } from '../lib/record.ts'
import { lagOf, prepareStage, SAYS, summary } from './fulfilmentStage.ts'
import { readAll, runScript, until } from './harness.ts'

test('orders are decided by their verdicts, and without them when their time is over; each once', async (t) => {
  const { env, config, place, judge, decisions, send } = await prepareStage(t)
  const others = (...without: JudgeName[]) => JUDGE_NAMES.filter((name) => !without.includes(name))
  await place({ id: 'good' }, { id: 'warned' }, { id: 'refused' })
  const first = runScript(t, 'fulfilmentService', env)
  await judge('good', [...JUDGE_NAMES].reverse())
  await judge('good', JUDGE_NAMES)
  await judge('warned', JUDGE_NAMES, ['fraud'])
  await judge('refused', JUDGE_NAMES, ['inventory', 'payment'])
  await until('three are decided', async () => (await decisions()).length === 3)

  // Killed with an order half judged, and another one that nobody has judged yet.
  await place({ id: 'half' }, { id: 'late' }, { id: 'silent' })
  await judge('half', others('payment'))
  await judge('late', ['fraud'])
  const half = config.topics.fraudEvents.name
  await until('it has read them', () => lagOf(config).then((lag) => lag === 0))
  first.child.kill('SIGKILL')
  await ended(first.child)
  const second = runScript(t, 'fulfilmentService', env)
  await judge('half', ['payment'])
  await until('the half judged one is decided', async () => 'half' in summary(await decisions()))
  await until('the time of the others is over', async () => (await decisions()).length === 6)
  // Their verdicts come now, and change nothing; nor does one that is of no order.
  await judge('late', others('fraud'))
  await judge('silent', JUDGE_NAMES)
  await send(half, 'nobody', SAYS.fraud('nobody', false))
  await place({ id: 'last' })
  await judge('last', JUDGE_NAMES)
  await until('the last one is decided', async () => 'last' in summary(await decisions()))

  const said = await decisions()
  assert.deepEqual(summary(said), {
    good: ['OrderConfirmed'],
    warned: ['OrderConfirmed', 'fraud-warning: odd indeed'],
    refused: ['OrderCancelled', 'out-of-stock: not in stock: A', 'payment-declined: card expired'],
    half: ['OrderConfirmed'],
    late: [
      'OrderCancelled',
      ...others('fraud').map((name) => `decision-timeout: ${name} did not answer in time`),
    ],
    silent: [
      'OrderCancelled',
      ...JUDGE_NAMES.map((name) => `decision-timeout: ${name} did not answer in time`),
    ],
    last: ['OrderConfirmed'],
  })
  const confirmed = said.filter((event) => event.type === 'OrderConfirmed')
  assert.deepEqual(new Set(confirmed.map(({ total }) => total)), new Set([900]), 'at the priced total')
  assert.equal(new Set(confirmed.map(({ shipmentNumber }) => shipmentNumber)).size, confirmed.length)
  const letters = config.topics.deadLetters.fulfilment.name
  const [letter, ...more] = (await readAll(config, [letters])).get(letters)!
  assert.match(headerText(letter!.headers, 'reason')!, /its cause is no record of .*orders.validated/)
  assert.equal(more.length, 0)
  assert.equal(second.child.exitCode, null)
})
