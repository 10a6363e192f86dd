import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { ended } from '../../lib/childProcesses.ts'
import { READ_ALL_POLL_MS, readAll, runScript, until } from '../harness.ts'
import { startReceiver } from '../traceReceiver.ts'
import { edgesOf, prepare } from '../tracingHarness.ts'

test('traces pass through the Command Center, and through a service that traces nothing', {
  timeout: 240_000,
}, async (t) => {
  const receiver = await startReceiver(t)
  const { env, config } = await prepare(t, {
    ROUTING: 'command-center',
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    BAD_ORDER_RATIO: '0',
  })
  const tracing = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint }
  const away = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }
  runScript(t, 'commandCenter', { ...env, ...tracing })
  runScript(t, 'validator', env)
  const place = async (orders: number, settings: Record<string, string>) => {
    const producer = runScript(t, 'producer', { ...env, ...settings }, ['--orders', String(orders), '--max'])
    assert.equal(await ended(producer.child), 0)
    return producer
  }
  const validated = async () => {
    const { name } = config.topics.ordersValidated
    return (await readAll(config, [name])).get(name)!.length
  }
  await place(1, tracing)
  await until('it is validated', async () => (await validated()) === 1, 60_000, READ_ALL_POLL_MS)

  await t.test('the way of a simulated order is one trace', async () => {
    const first = await receiver.span('of the simulator', ({ service, parentSpanId, kind, name }) => {
      const isOrder = service === 'producer' && kind === 'producer' && name.endsWith('command-center.inbox')
      return isOrder && parentSpanId === undefined
    })
    const expected = [
      'client -> producer: create command-center.inbox',
      'producer: create command-center.inbox -> command-center: process command-center.inbox',
      'command-center: process command-center.inbox -> command-center: create orders.raw',
      'command-center: create orders.raw -> command-center: process command-center.inbox',
      'command-center: process command-center.inbox -> command-center: create orders.validated',
    ]
    const edges = () => edgesOf(receiver, first.traceId, config.topicPrefix)
    await until('its spans have come', () => edges().size >= expected.length)
    assert.deepEqual([...edges()].sort(), expected.sort())
  })

  await t.test('a collector that is away costs no order, and is told of', async () => {
    const before = await validated()
    const { lines } = await place(200, away)
    const told = lines.filter((line) => line.includes('of the traces are lost'))
    assert.equal(told.length, 1, lines.join('\n'))
    const isValidated = async () => (await validated()) === before + 200
    await until('all are validated', isValidated, 60_000, READ_ALL_POLL_MS)
  })
})
