import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { freePort } from '../infra/ports.ts'
import { ControlError } from '../lib/controls.ts'
import { startHealthServer } from '../lib/health.ts'

const SERVICES = 15

test('as many services as there are find a port each, from one on, without a word', async (t) => {
  const warnings: string[] = []
  const note = ({ name, message }: Error) => warnings.push(`${name}: ${message}`)
  process.on('warning', note)
  t.after(() => process.off('warning', note))
  const first = await freePort()
  const ports: number[] = []
  for (let service = 0; service < SERVICES; service++) {
    const server = await startHealthServer(first, pino({ level: 'silent' }), () => ({ ready: true }))
    t.after(() => server.close())
    ports.push(server.port)
  }
  assert.equal(new Set(ports).size, SERVICES)
  for (const port of ports) {
    const response = await fetch(`http://127.0.0.1:${port}/health/ready`)
    assert.deepEqual([response.status, await response.json()], [200, { ready: true }])
  }
  assert.deepEqual(warnings, [])
})

test('what a process is told takes the token, comes from no other site, and is refused with what to do', async (t) => {
  const token = 'a-token-of-24-characters'
  const log = pino({ level: 'silent' })
  const told: unknown[] = []
  const controls = {
    rate(body: unknown) {
      if (Object.keys(body as object).length === 0) throw new ControlError('it takes a rate')
      told.push(body)
      return { done: true }
    },
    break() {
      throw new Error('a bug')
    },
  }
  const report = () => ({ ready: true })
  const server = await startHealthServer(0, log, report, {}, { token, controls })
  t.after(() => server.close())
  const post = async (name: string, body: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${server.port}/controls/${name}`, {
      ...{ method: 'POST', body },
      headers: { authorization: `Bearer ${token}`, ...headers },
    })
    return [response.status, await response.json()]
  }

  assert.deepEqual(await post('rate', '{"ratePerSecond":5}'), [200, { done: true }])
  assert.deepEqual(told, [{ ratePerSecond: 5 }])
  const own = `http://127.0.0.1:${server.port}`
  assert.deepEqual(await post('rate', '{"a":1}', { origin: own }), [200, { done: true }])
  told.length = 0
  const refusals: [string, string, Record<string, string>, number, RegExp][] = [
    ['rate', '{"a":1}', { authorization: 'Bearer wrong' }, 401, /DEMO_TOKEN/],
    ['rate', '{"a":1}', { authorization: '' }, 401, /DEMO_TOKEN/],
    ['rate', '{"a":1}', { origin: 'http://elsewhere.example' }, 403, /other sites/],
    ['rate', '', {}, 400, /it takes a rate/],
    ['rate', '{"a":', {}, 400, /no JSON/],
    ['rate', 'x'.repeat(5_000), {}, 400, /too large/],
    ['stop', '{}', {}, 404, /there is rate, break/],
    ['toString', '{}', {}, 404, /there is rate, break/],
    ['break', '{}', {}, 500, /the log says why/],
  ]
  for (const [name, body, headers, status, why] of refusals) {
    const [answered, { error }] = (await post(name, body, headers)) as [number, { error: string }]
    assert.equal(answered, status, error)
    assert.match(error, why)
  }
  assert.deepEqual(told, [])
  const off = await startHealthServer(0, log, report)
  t.after(() => off.close())
  const response = await fetch(`http://127.0.0.1:${off.port}/controls/rate`, { method: 'POST' })
  assert.equal(response.status, 404)
})
