import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { freePort } from '../infra/ports.ts'
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
