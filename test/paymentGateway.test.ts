import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { type Database, migrateDatabase, openDatabase } from '../lib/database.ts'
import { UnavailableError } from '../lib/errors.ts'
import { createGatewayClient, type GatewayClientOptions } from '../lib/gatewayClient.ts'
import { decideRequest } from '../lib/gatewayLedger.ts'
import { type Gateway, type GatewaySettings, startGateway } from '../lib/gatewayServer.ts'
import { testEnvironment, until } from './harness.ts'

const log = pino({ level: 'silent' })
const NO_FAULTS: GatewaySettings = {
  latencyMs: 0,
  declineRatio: 0,
  errorRatio: 0,
  throttleRatio: 0,
  dropRatio: 0,
}
const PAYMENT = { orderId: 'ord-1', amount: 1_999, currency: 'EUR' }

async function openLedger(t: TestContext): Promise<Database> {
  const { DATABASE_URL } = await testEnvironment(t)
  const database = openDatabase(DATABASE_URL!, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  return database
}

async function openGateway(
  t: TestContext,
  database: Database,
  faults: Partial<GatewaySettings> = {},
): Promise<Gateway> {
  const gateway = await startGateway({
    database,
    settings: { ...NO_FAULTS, ...faults },
    port: 0,
    metrics: new Registry(),
    log,
  })
  t.after(() => gateway.close())
  return gateway
}

async function post(url: string, path: string, idempotencyKey: string | undefined, body: unknown) {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
    },
    body: JSON.stringify(body),
  })
  const answer = (await response.json()) as Record<string, unknown>
  return { code: response.status, retryAfter: response.headers.get('retry-after'), ...answer } as Answer
}

interface Answer {
  code: number
  retryAfter: string | null
  status?: string
  authorisationId?: string
  reason?: string
  error?: string
}

async function ledgerRows(
  database: Database,
): Promise<{ status: string; order_id: string; write: string }[]> {
  return (await database.query('SELECT *, xmin::text AS write FROM gateway.ledger ORDER BY answered_at')).rows
}

test('the gateway gives the same answer to the same key again and writes it once', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  const first = await post(url, '/authorisations', 'key-1', PAYMENT)
  assert.equal(first.code, 200)
  assert.equal(first.status, 'authorised')
  assert.deepEqual(await post(url, '/authorisations', 'key-1', PAYMENT), first)
  assert.equal((await ledgerRows(database)).length, 1)
})

test('the same key twenty times at once over two front ends is one authorisation', async (t) => {
  const database = await openLedger(t)
  const fronts = [await openGateway(t, database), await openGateway(t, database)]
  for (let round = 0; round < 10; round++) {
    const payment = { ...PAYMENT, orderId: `ord-${round}` }
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        post(fronts[i % 2]!.url, '/authorisations', `key-${round}`, payment),
      ),
    )
    for (const answer of answers) assert.deepEqual(answer, answers[0])
    assert.equal(answers[0]!.status, 'authorised')
  }
  assert.equal((await ledgerRows(database)).length, 10)
})

test('twenty keys for one order are twenty authorisations: it is the key that keeps from charging twice', async (t) => {
  const database = await openLedger(t)
  const fronts = [await openGateway(t, database), await openGateway(t, database)]
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => post(fronts[i % 2]!.url, '/authorisations', `key-${i}`, PAYMENT)),
  )
  assert.equal(new Set(answers.map(({ authorisationId }) => authorisationId)).size, 20)
  assert.equal((await ledgerRows(database)).filter(({ status }) => status === 'authorised').length, 20)
})

test('a key that was used is refused for any other request, and the first answer stands', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  const first = await post(url, '/authorisations', 'key-1', PAYMENT)
  for (const other of [{ amount: 2_000 }, { currency: 'USD' }, { orderId: 'ord-2' }]) {
    assert.equal((await post(url, '/authorisations', 'key-1', { ...PAYMENT, ...other })).code, 422)
  }
  assert.equal((await post(url, '/voids', 'key-1', PAYMENT)).code, 422)
  assert.deepEqual(await post(url, '/authorisations', 'key-1', PAYMENT), first)
  assert.equal((await ledgerRows(database)).length, 1)
})

test('a void without an authorisation stays as a tombstone: a late authorisation is declined', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  assert.equal((await post(url, '/voids', 'void-1', PAYMENT)).status, 'voided')
  const late = await post(url, '/authorisations', 'key-1', PAYMENT)
  assert.equal(late.status, 'declined')
  assert.equal(late.reason, 'order voided')
})

test('an order that is voided or captured is neither captured nor voided again', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  const captured = { ...PAYMENT, orderId: 'captured' }
  const voided = { ...PAYMENT, orderId: 'voided' }
  await post(url, '/authorisations', 'key-1', captured)
  await post(url, '/authorisations', 'key-2', voided)
  assert.equal((await post(url, '/captures', 'key-3', { ...captured, amount: 2_000 })).code, 409)
  assert.equal((await post(url, '/captures', 'key-4', captured)).status, 'captured')
  assert.equal((await post(url, '/captures', 'key-5', captured)).code, 409)
  assert.equal((await post(url, '/voids', 'key-6', captured)).code, 409)
  assert.equal((await post(url, '/voids', 'key-7', { ...voided, amount: 1 })).code, 409)
  assert.equal((await post(url, '/voids', 'key-8', voided)).status, 'voided')
  assert.equal((await post(url, '/voids', 'key-9', voided)).code, 409)
  assert.equal((await post(url, '/captures', 'key-10', voided)).code, 409)
  const unknown = await post(url, '/captures', 'key-11', { ...PAYMENT, orderId: 'unknown' })
  assert.equal(unknown.reason, 'the order is not authorised')
})

test('of a capture and a void at once over two front ends one is done', async (t) => {
  const database = await openLedger(t)
  const fronts = [await openGateway(t, database), await openGateway(t, database)]
  for (let round = 0; round < 20; round++) {
    const payment = { ...PAYMENT, orderId: `ord-${round}` }
    await post(fronts[0]!.url, '/authorisations', `authorise-${round}`, payment)
    const answers = await Promise.all([
      post(fronts[0]!.url, '/captures', `capture-${round}`, payment),
      post(fronts[1]!.url, '/voids', `void-${round}`, payment),
    ])
    assert.deepEqual(answers.map(({ code }) => code).sort(), [200, 409])
  }
})

test('a connection dropped after the charge, and asked again, is one charge', async (t) => {
  const database = await openLedger(t)
  const gateway = await openGateway(t, database, { dropRatio: 1 })
  await assert.rejects(post(gateway.url, '/authorisations', 'key-1', PAYMENT))
  assert.equal((await ledgerRows(database)).length, 1)
  gateway.settings.dropRatio = 0
  assert.equal((await post(gateway.url, '/authorisations', 'key-1', PAYMENT)).status, 'authorised')
  assert.equal((await ledgerRows(database)).length, 1)
})

test('a 429 and a 500 do nothing and are not remembered', async (t) => {
  const database = await openLedger(t)
  const gateway = await openGateway(t, database, { throttleRatio: 1 })
  const throttled = await post(gateway.url, '/authorisations', 'key-1', PAYMENT)
  assert.equal(throttled.code, 429)
  assert.equal(throttled.retryAfter, '1')
  Object.assign(gateway.settings, { throttleRatio: 0, errorRatio: 1 })
  assert.equal((await post(gateway.url, '/authorisations', 'key-1', PAYMENT)).code, 500)
  assert.equal((await ledgerRows(database)).length, 0)
  gateway.settings.errorRatio = 0
  assert.equal((await post(gateway.url, '/authorisations', 'key-1', PAYMENT)).status, 'authorised')
})

test('which orders are declined depends on their id alone, in the ratio asked for', () => {
  const declined = () =>
    Array.from({ length: 2_000 }, (_, i) => `ord-${i}`).filter((orderId) => {
      const request = { idempotencyKey: orderId, operation: 'authorise', orderId } as const
      return decideRequest({ ...request, amountMinor: 1, currency: 'EUR' }, [], 0.1).status === 'declined'
    })
  assert.deepEqual(declined(), declined())
  assert.ok(declined().length > 150 && declined().length < 250, `${declined().length} of 2000 declined`)
})

test('a decline is kept when the ratio has changed', async (t) => {
  const database = await openLedger(t)
  const gateway = await openGateway(t, database, { declineRatio: 1 })
  const first = await post(gateway.url, '/authorisations', 'key-1', PAYMENT)
  assert.equal(first.status, 'declined')
  gateway.settings.declineRatio = 0
  assert.deepEqual(await post(gateway.url, '/authorisations', 'key-1', PAYMENT), first)
})

test('the faults can be read and changed over HTTP, within their bounds', async (t) => {
  const gateway = await openGateway(t, await openLedger(t))
  const put = (body: unknown) =>
    fetch(`${gateway.url}/faults`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  assert.deepEqual(await (await put({ errorRatio: 1, latencyMs: 5 })).json(), {
    ...NO_FAULTS,
    errorRatio: 1,
    latencyMs: 5,
  })
  assert.equal((await post(gateway.url, '/authorisations', 'key-1', PAYMENT)).code, 500)
  for (const wrong of [{ errorRatio: 2 }, { errorRatio: '0' }, { latencyMs: -1 }, { other: 1 }, {}]) {
    assert.equal((await put(wrong)).status, 400, JSON.stringify(wrong))
  }
  assert.equal(((await (await fetch(`${gateway.url}/faults`)).json()) as GatewaySettings).errorRatio, 1)
})

test('what is no request for a payment is refused', async (t) => {
  const { url } = await openGateway(t, await openLedger(t))
  assert.equal((await post(url, '/authorisations', undefined, PAYMENT)).code, 400)
  for (const wrong of [
    { amount: '1999' },
    { amount: 0 },
    { amount: 1.5 },
    { orderId: '' },
    { currency: 'e' },
  ]) {
    const { code } = await post(url, '/authorisations', 'key-1', { ...PAYMENT, ...wrong })
    assert.equal(code, 400, JSON.stringify(wrong))
  }
})

test('requests that come during a write are written together', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      post(url, '/authorisations', `key-${i}`, { ...PAYMENT, orderId: `ord-${i}` }),
    ),
  )
  const rows = await ledgerRows(database)
  assert.equal(rows.length, 200)
  const writes = new Set(rows.map(({ write }) => write)).size
  assert.ok(writes < 100, `${writes} transactions for 200 requests`)
})

test('without its database the gateway answers 503', async (t) => {
  const database = openDatabase('postgres://nobody@127.0.0.1:1/none', 1, log)
  const { url } = await openGateway(t, database)
  assert.equal((await post(url, '/authorisations', 'key-1', PAYMENT)).code, 503)
  assert.equal((await fetch(`${url}/health`)).status, 503)
})

// The client

const ORDER = { orderId: 'ord-1', amountMinor: 1_999, currency: 'EUR' }
const AUTHORISED = JSON.stringify({ status: 'authorised', authorisationId: 'a-1' })

/** A gateway that does what the test says. */
async function openStub(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
) {
  const server = createServer((request, response) => {
    request.resume()
    request.on('end', () => answer(request, response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function openClient(t: TestContext, url: string, options: Partial<GatewayClientOptions> = {}) {
  const client = createGatewayClient({ url, timeoutMs: 5_000, concurrency: 64, log, ...options })
  t.after(() => client.close())
  return client
}

test('through errors, dropped connections and slowness each order is authorised once', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database, { errorRatio: 0.1, dropRatio: 0.2, latencyMs: 5 })
  let retries = 0
  const client = openClient(t, url, { onRetry: () => retries++ })
  const orders = Array.from({ length: 300 }, (_, i) => ({ ...ORDER, orderId: `ord-${i}` }))
  const ask = () => Promise.all(orders.map((order) => client.authorise(order).catch(() => undefined)))
  // One in a thousand is given up; whoever asked asks again.
  await ask()
  const answers = await ask()
  assert.ok(answers.filter((answer) => answer?.status === 'authorised').length > 290)
  assert.ok(retries > 0)
  assert.equal((await ledgerRows(database)).length, 300)
})

test('an answer that does not come in time is asked for again', async (t) => {
  let seen = 0
  const url = await openStub(t, (_, response) => {
    if (++seen > 1) response.end(AUTHORISED)
  })
  const reasons: string[] = []
  const client = openClient(t, url, { timeoutMs: 50, onRetry: ({ message }) => reasons.push(message) })
  assert.deepEqual(await client.authorise(ORDER), { status: 'authorised', authorisationId: 'a-1' })
  assert.equal(reasons[0], 'no answer within 50 ms')
})

test('a gateway that says when to come back is not asked before', async (t) => {
  const seenAtMs: number[] = []
  const url = await openStub(t, (_, response) => {
    seenAtMs.push(performance.now())
    if (seenAtMs.length > 1) response.end(AUTHORISED)
    else response.writeHead(429, { 'retry-after': '1' }).end()
  })
  await openClient(t, url).authorise(ORDER)
  assert.ok(seenAtMs[1]! - seenAtMs[0]! >= 990)
})

test('the breaker opens when nothing is answered, lets next to nothing through, and closes again', async (t) => {
  let isBroken = true
  let seen = 0
  const url = await openStub(t, (_, response) => {
    seen++
    if (isBroken) response.writeHead(500).end()
    else response.end(AUTHORISED)
  })
  const client = openClient(t, url)
  const askAll = () =>
    Promise.allSettled(
      Array.from({ length: 100 }, (_, i) => client.authorise({ ...ORDER, orderId: `o-${i}` })),
    )
  for (const result of await askAll()) {
    assert.ok(result.status === 'rejected' && result.reason instanceof UnavailableError)
    assert.match(result.reason.message, /^payment gateway is not available: it answers 500/)
  }
  assert.equal(client.isBreakerOpen, true)
  const seenWhenOpened = seen
  await askAll()
  assert.ok(seen - seenWhenOpened <= 5, `${seen - seenWhenOpened} requests while open`)

  isBroken = false
  await until('the breaker closed', async () => {
    await client.authorise(ORDER).catch(() => undefined)
    return !client.isBreakerOpen
  })
  assert.equal((await client.authorise(ORDER)).status, 'authorised')
})

test('no more requests are under way at once than allowed', async (t) => {
  let underWay = 0
  let most = 0
  const url = await openStub(t, (_, response) => {
    most = Math.max(most, ++underWay)
    setTimeout(() => {
      underWay--
      response.end(AUTHORISED)
    }, 5)
  })
  const client = openClient(t, url, { concurrency: 4 })
  await Promise.all(Array.from({ length: 60 }, (_, i) => client.authorise({ ...ORDER, orderId: `ord-${i}` })))
  assert.equal(most, 4)
})

test('a request that the gateway refuses is an error that names it, and is not repeated', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  let retries = 0
  const client = openClient(t, url, { onRetry: () => retries++ })
  await client.authorise(ORDER)
  await assert.rejects(
    client.authorise({ ...ORDER, amountMinor: 1 }),
    (error: Error) =>
      !(error instanceof UnavailableError) && /refused \/authorisations for ord-1: 422/.test(error.message),
  )
  assert.equal(retries, 0)
})

test('a gateway that is not there is unavailable', async (t) => {
  const url = await openStub(t, () => undefined)
  const client = openClient(t, url.replace(/\d+$/, '1'))
  await assert.rejects(client.authorise(ORDER), UnavailableError)
})

test('captures and voids are made once, and an answer tells what became of the authorisation', async (t) => {
  const database = await openLedger(t)
  const { url } = await openGateway(t, database)
  const client = openClient(t, url)
  const [taken, dropped, never] = ['taken', 'dropped', 'never'].map((orderId) => ({ ...ORDER, orderId }))
  const authorised = await Promise.all([client.authorise(taken!), client.authorise(dropped!)])
  const [takenId, droppedId] = authorised.map(
    (answer) => 'authorisationId' in answer && answer.authorisationId,
  )
  for (let time = 0; time < 2; time++) {
    assert.deepEqual(await client.capture({ ...taken!, amountMinor: 1_500 }), {
      status: 'captured',
      authorisationId: takenId,
    })
    assert.deepEqual(await client.void(dropped!), { status: 'voided', authorisationId: droppedId })
    assert.deepEqual(await client.void(never!), { status: 'voided' })
    assert.deepEqual(await client.authorise(never!), { status: 'declined', reason: 'order voided' })
  }
  const isBug = (what: RegExp) => (error: Error) =>
    !(error instanceof UnavailableError) && what.test(error.message)
  await assert.rejects(client.void(taken!), isBug(/refused \/voids for taken: 409/))
  await assert.rejects(
    client.capture({ ...taken!, amountMinor: 1 }),
    isBug(/refused \/captures for taken: 422/),
  )
  assert.equal((await ledgerRows(database)).filter(({ status }) => status !== 'refused').length, 6)
})
