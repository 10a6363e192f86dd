import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended, runScript as runToEnd, type ScriptRun } from '../lib/childProcesses.ts'
import { migrateDatabase, openDatabase } from '../lib/database.ts'
import { ConfigurationError } from '../lib/errors.ts'
import type { HopsRecorded } from '../lib/events.ts'
import { JUDGE_NAMES } from '../lib/judges.ts'
import { createLogger } from '../lib/log.ts'
import { OrderSender } from '../lib/orderSender.ts'
import { registerAll } from '../lib/registration.ts'
import { readStoredSums } from '../lib/runChecks.ts'
import { missingAnswers, type Said } from '../lib/sendAnswers.ts'
import { parseRequest } from '../lib/sendRequest.ts'
import { RequestTrail } from '../lib/sendTrail.ts'
import { createSimulatedCatalogue } from '../lib/simulatedCatalogue.ts'
import { runScript, testEnvironment, until } from './harness.ts'

const EXAMPLES = 'examples/requests'
const exampleOf = (worker: string) => `${EXAMPLES}/${worker}.json`
const readExample = (worker: string) => JSON.parse(readFileSync(exampleOf(worker), 'utf8'))
const catalogue = createSimulatedCatalogue()

test('every example is for products and customers that the simulator registers', () => {
  const names = readdirSync(EXAMPLES).filter((name) => name.endsWith('.json'))
  assert.deepEqual(names.sort(), [...JUDGE_NAMES, 'judges', 'validator'].map((name) => `${name}.json`).sort())
  for (const name of names) {
    const { customerId, customer, items, total } = readExample(name.slice(0, -'.json'.length))
    const { id, email, tier, country, blocked, ...known } = catalogue.customers.find(
      ({ id }) => id === customerId,
    )!
    assert.equal(blocked, false)
    if (customer) assert.deepEqual(customer, { id, name: known.name, email, tier, country })
    let sum = 0
    for (const { sku, name, quantity, unitPrice } of items) {
      const product = catalogue.products.find((each) => each.sku === sku)!
      assert.deepEqual({ name, unitPrice }, { name: product.name, unitPrice: product.unitPriceMinor })
      sum += quantity * unitPrice
    }
    assert.equal(total, sum)
  }
})

test('a request is one of its own and as of now, or keeps what the file has', () => {
  const nowMs = Date.parse('2026-11-21T10:00:00.000Z')
  const parse = (content: object, keepId = false) =>
    parseRequest('it.json', JSON.stringify(content), { worker: 'fraud', keepId, nowMs })
  const example = readExample('fraud')
  const now = new Date(nowMs).toISOString()
  const first = parse(example)
  assert.match(first.orderId, /^req-[0-9a-f]{16}$/)
  assert.notEqual(parse(example).orderId, first.orderId)
  const fresh = { orderId: first.orderId, eventId: `${first.orderId}/OrderValidated`, occurredAt: now }
  assert.deepEqual(first, { ...example, ...fresh, placedAt: now, validatedAt: now })
  const placedAt = '2026-11-20T10:00:00.000Z'
  const given = { ...example, orderId: 'mine', eventId: 'mine too', placedAt }
  assert.equal((parse(given) as unknown as typeof given).placedAt, placedAt)
  assert.match(parse(given).eventId, /^req-/)
  assert.deepEqual(parse(given, true), { ...given, occurredAt: now, validatedAt: now })
})

test('what is no request is refused with the file, the path in it and what is wrong', () => {
  const parse = (text: string, worker: string, keepId = false) =>
    parseRequest('it.json', text, { worker, keepId, nowMs: 0 })
  const spoilt = { ...readExample('fraud'), items: [{ ...readExample('fraud').items[0], quantity: 'many' }] }
  for (const [text, worker, sentence] of [
    ['{"type":', 'fraud', /^it\.json is not usable: not JSON/],
    ['[]', 'fraud', /^it\.json is not usable: it takes one event/],
    [JSON.stringify(spoilt), 'fraud', /^it\.json is not usable: .*\/items\/0\/quantity must be integer/],
    [JSON.stringify(readExample('validator')), 'judges', /^it\.json is not usable: .*'OrderPlaced'.*\/type/],
    [
      JSON.stringify(readExample('judges')),
      'validator',
      /^it\.json is not usable: .*'OrderValidated'.*\/type/,
    ],
    ['{}', 'of-another-house', /^it\.json is not usable: .*type/],
  ] as const) {
    assert.throws(
      () => parse(text, worker),
      (error) => error instanceof ConfigurationError && sentence.test(error.message),
      text,
    )
  }
  assert.throws(() => parse(JSON.stringify(readExample('fraud')), 'fraud', true), /orderId/)
  assert.equal(parse('{"type": "Anything"}', 'of-another-house').type, 'Anything')
})

test('an answer is told after the hop that brought it, whichever is seen first', () => {
  const trail = new RequestTrail('req-1')
  const labels = { workerName: 'requester', sender: 'fraud', processingTimeMs: 3 }
  const record: HopsRecorded = {
    ...{ type: 'HopsRecorded', eventId: 'e', occurredAt: '2026-11-21T10:00:00.000Z', sourceTopic: 'inbox' },
    hops: [
      { ...labels, offset: 6, requestId: 'req-2' },
      { ...labels, offset: 7, requestId: 'req-1' },
    ],
  }
  const hop = { kind: 'hop', atMs: Date.parse(record.occurredAt), ...labels }
  const event = { type: 'FraudAssessed' } as Said['event']
  const answer = { kind: 'answer', from: 'fraud', atMs: 1, event } as const
  assert.deepEqual(trail.takeAnswer('inbox/2/7', answer), [])
  assert.deepEqual(trail.takeHops(1, record), [hop])
  assert.deepEqual(trail.takeHops(2, record), [hop, answer])
  assert.deepEqual(trail.takeAnswer('inbox/2/7', answer), [answer])
})

test('all has been said when verdicts, decision and what is done about it are there', () => {
  const said: Said[] = []
  const say = (from: Said['from'], event: object) => said.push({ from, event } as Said)
  assert.deepEqual(missingAnswers('validator', said), ['the answer of validator'])
  say('validator', { type: 'OrderValidated' })
  say('pricing', { type: 'OrderPriced', total: 1 })
  say('fraud', { type: 'FraudAssessed', verdict: 'pass', rules: [] })
  say('payment', { type: 'PaymentFailed', reason: 'no' })
  assert.deepEqual(missingAnswers('payment', said), [])
  say('inventory', { type: 'InventoryUpdated', status: 'RESERVED' })
  assert.deepEqual(missingAnswers('inventory', said), ['what inventory did about the decision'])
  assert.deepEqual(missingAnswers('judges', said), ['the decision of fulfilment'])
  say('fulfilment', { type: 'OrderCancelled' })
  assert.deepEqual(missingAnswers('validator', said), ['what inventory did about the decision'])
  say('inventory', { type: 'InventoryUpdated', status: 'RELEASED' })
  for (const worker of ['validator', 'judges', 'inventory'])
    assert.deepEqual(missingAnswers(worker, said), [])
  assert.deepEqual(
    missingAnswers('validator', [{ from: 'validator', event: { type: 'OrderRejected' } } as Said]),
    [],
  )
})

async function setUp(t: TestContext) {
  const env = await testEnvironment(t, {
    ROUTING: 'command-center',
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    ...{ GATEWAY_DECLINE_RATIO: '0', GATEWAY_LATENCY_MS: '0' },
  })
  const config = parseConfig(env)
  await ensureTopics(config, () => undefined)
  const log = createLogger('test', config.log)
  const database = openDatabase(config.databaseUrl, 4, log)
  t.after(() => database.end())
  await migrateDatabase(database, log)
  const { signal } = new AbortController()
  const sender = new OrderSender({
    ...{ createKafka: () => createKafka(config, 'test', log), brokers: config.kafka.brokers, log, signal },
    topics: [config.topics.products.name],
  })
  await registerAll({ config, database, sender, log, signal }, catalogue)
  await sender.close()
  const send = async (worker: string, file: string, args: string[] = [], settings = {}) => {
    const said: string[] = []
    const run = await runToEnd({
      script: 'tools/send.ts',
      args: ['--worker', worker, '--file', file, '--timeout', '100', ...args],
      env: { ...process.env, ...env, ...settings },
      print: (line) => said.push(line),
    })
    if (process.env.TEST_VERBOSE) console.error([...run.lines, ...said].join('\n'))
    return { ...run, said: said.join('\n') }
  }
  const stored = async () => {
    const { rows } = await database.query(
      'SELECT sku, available, reserved, committed FROM stock ORDER BY sku',
    )
    return { stock: rows, sums: await readStoredSums(database) }
  }
  const isUndone = async (requestId: string) => {
    const text = `SELECT 1 FROM inventory_outcomes WHERE order_id = $1 AND event ~ '"(REJECTED|RELEASED)"'`
    return (await database.query(text, [requestId])).rowCount === 1
  }
  return { env, send, stored, isUndone }
}

/** Without times and request ids. */
const plain = ({ lines }: ScriptRun) =>
  lines.slice(1).map((line) => line.replace(/^ *\+\d+ ms {2}/, '').replace(/ {2}\d+ ms(?= )/, ''))

test('each worker answers what it is sent, and no stock and no money stays with a judge alone', async (t) => {
  const { env, send, stored, isUndone } = await setUp(t)
  const before = await stored()
  const start = (name: string) => runScript(t, name, env)
  start('commandCenter')

  // Nobody is there to answer: whoever comes later finds that it was taken back.
  const given = runScript(t, 'tools/send', env, ['--worker', 'inventory', '--file', exampleOf('inventory')])
  await until('it was forwarded', () => given.lines.some((line) => /send -> inventory .* ok$/.test(line)))
  given.child.kill('SIGINT')
  assert.equal(await ended(given.child), 1)
  await until('it has said so', () => given.lines.some((line) => /was told to take back/.test(line)))
  assert.match(given.lines.at(-1)!, /missing the verdict of inventory/)

  for (const name of ['validator', 'fulfilmentService', ...JUDGE_NAMES.map((judge) => `${judge}Service`)])
    start(name)
  const { TOPIC_PREFIX } = env
  const [inventory, payment, fraud, pricing, unknown, bad, direct] = await Promise.all([
    ...JUDGE_NAMES.map((judge) => send(judge, exampleOf(judge))),
    send('nobody', exampleOf('fraud')),
    send('fraud', 'package.json'),
    send('fraud', exampleOf('fraud'), [], { ROUTING: 'direct' }),
  ])
  const routes = (run: ScriptRun) => plain(run).map((line) => line.replace(/route \d+/, 'route N'))
  const there = (judge: string) => `send -> ${judge}  ${TOPIC_PREFIX}${judge}.requests  route N  ok`
  const back = (judge: string) => `${judge} -> requester  ${TOPIC_PREFIX}command-center.answers  route N  ok`
  const undone = /^all came within \d+ ms, and what was done is taken back$/
  const settled = (judge: string, verdict: string, settlement: string) => [
    ...[there(judge), back(judge), verdict],
    ...[there(judge), back(judge), settlement],
  ]
  assert.deepEqual(
    routes(inventory!).slice(0, -1),
    settled(
      'inventory',
      'inventory: InventoryUpdated  RESERVED available',
      'inventory: InventoryUpdated  RELEASED available',
    ),
  )
  assert.match(inventory!.lines.at(-1)!, undone)
  assert.deepEqual(
    routes(payment!).slice(0, -1),
    settled('payment', 'payment: PaymentProcessed  117.59 EUR', 'payment: PaymentVoided  117.59 EUR'),
  )
  assert.match(payment!.lines.at(-1)!, undone)
  const rules = 'first-order unusual-quantity country-mismatch'
  const assessed = `fraud: FraudAssessed  warning 65 ${rules}`
  assert.deepEqual(routes(fraud!).slice(0, -1), [there('fraud'), back('fraud'), assessed])
  assert.match(fraud!.lines.at(-1)!, /^all came within \d+ ms$/)
  assert.deepEqual(routes(pricing!).slice(0, -2), [there('pricing'), back('pricing')])
  assert.match(pricing!.lines.at(-2)!, /pricing: OrderPriced {2}\d+\.\d\d EUR .*favourites/)
  for (const { status, said } of [inventory!, payment!, fraud!, pricing!]) assert.equal(status, 0, said)

  assert.equal(unknown!.status, 1)
  assert.match(unknown!.said, /the Command Center refused send -> nobody: no route for worker 'nobody'/)
  assert.match(unknown!.lines.at(-1)!, /refused: no route for worker 'nobody'$/)
  assert.equal(bad!.status, 1)
  assert.match(bad!.said, /^send: package\.json is not usable: wrong shape/)
  assert.equal(direct!.status, 1)
  assert.match(direct!.said, /set ROUTING=command-center, as for the services/)

  const requestId = /req-\w+/.exec(given.lines[0]!)![0]
  await until('what nobody waited for is taken back, too', () => isUndone(requestId))
  const after = await stored()
  assert.deepEqual(after.stock, before.stock)
  const money = { authorisations: 1, voids: 1 }
  assert.deepEqual(after.sums, { ...before.sums, ...money })

  const [judges, validator] = await Promise.all([
    send('judges', exampleOf('judges'), ['--json']),
    send('validator', exampleOf('validator')),
  ])
  for (const { status, said } of [judges, validator]) assert.equal(status, 0, said)
  const { steps, ...whole } = JSON.parse(judges.lines.at(-1)!)
  assert.deepEqual([judges.lines.length, whole.ok, whole.missing], [1, true, []])
  const typesOf = (from: string) =>
    steps
      .filter((step: { kind: string; from?: string }) => step.kind === 'answer' && step.from === from)
      .map(({ event }: Said) => ('status' in event ? event.status : event.type))
  assert.deepEqual(['inventory', 'payment', 'fraud', 'pricing', 'fulfilment'].map(typesOf), [
    ['RESERVED', 'COMMITTED'],
    ['PaymentProcessed', 'PaymentCaptured'],
    ['FraudAssessed'],
    ['OrderPriced'],
    ['OrderConfirmed'],
  ])
  const said = plain(validator)
  assert.match(said[0]!, /^send -> validator .*orders\.raw/)
  // An answer is told after its hop; other hops may come between.
  const hop = said.findIndex((line) => /^validator -> judges/.test(line))
  const answer = said.findIndex((line) => /^validator: OrderValidated/.test(line))
  assert.ok(hop > 0 && answer > hop, said.join('\n'))
  for (const what of [
    /fulfilment: OrderConfirmed .*SHP-/,
    /inventory: .*COMMITTED/,
    /payment: PaymentCaptured/,
  ]) {
    assert.equal(said.filter((line) => what.test(line)).length, 1, String(what))
  }
  const end = await stored()
  const units = [readExample('judges'), readExample('validator')].flatMap(({ items }) => items)
  const committed = units.reduce((sum, { quantity }) => sum + quantity, 0)
  assert.deepEqual([end.sums.reserved, end.sums.committed, end.sums.captures], [0, committed, 2])
})
