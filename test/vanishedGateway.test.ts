import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { pino } from 'pino'
import { UnavailableError } from '../lib/errors.ts'
import { createGatewayClient } from '../lib/gatewayClient.ts'
import { until } from './harness.ts'

const CONNECTIONS = 40
/** So many failures in a row open the breaker. */
const TRIED = 20
const AUTHORISED = JSON.stringify({ status: 'authorised', authorisationId: 'a-1' })

test('connections to a gateway that vanished without a word are not tried one by one when it is back', async (t) => {
  const sockets = new Set<Socket>()
  const waiting: ServerResponse[] = []
  /** Their host is gone: nothing is answered on them, nor are they ever closed. */
  const vanished = new Set<Socket>()
  let isAway = false
  const server = createServer(({ socket }, response) => {
    sockets.add(socket)
    if (isAway) vanished.add(socket)
    if (vanished.has(socket)) return
    // The first are answered together, so that each is a connection of its own.
    waiting.push(response)
    if (sockets.size >= CONNECTIONS) for (const one of waiting.splice(0)) one.end(AUTHORISED)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  let inVain = 0
  const client = createGatewayClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    timeoutMs: 2_000,
    concurrency: 64,
    log: pino({ level: 'silent' }),
    onRetry: () => inVain++,
  })
  t.after(() => client.close())
  const ask = (count: number) =>
    Promise.allSettled(
      Array.from({ length: count }, (_, i) =>
        client.authorise({ orderId: `ord-${i}`, amountMinor: 1, currency: 'EUR' }),
      ),
    )

  await ask(CONNECTIONS)
  assert.equal(sockets.size, CONNECTIONS)
  isAway = true
  for (const socket of sockets) vanished.add(socket)
  for (const answer of await ask(TRIED)) {
    assert.ok(answer.status === 'rejected' && answer.reason instanceof UnavailableError)
  }
  assert.ok(client.isBreakerOpen)
  // It is there again, under the same address: the other connections to the one before have not been tried.
  isAway = false
  inVain = 0
  await until('it answers', async () => (await ask(1))[0]!.status === 'fulfilled')
  assert.equal(inVain, 0)
})
