import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseConfig } from '../kafkaConfig.ts'
import { ConfigurationError, UnusableRecordError } from '../lib/errors.ts'
import { type HistoricalOrder, readOrders, surveyFile } from '../lib/onlineRetail.ts'

const { ordersRaw, products: productsTopic } = parseConfig({}).topics
const HEADER = 'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country'
const LINE = '536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom'
/** Real data, which is not part of the project. */
const HISTORY = fileURLToPath(
  new URL('../../shared/data/online-retail/online-retail-2010-12-to-2011-09.csv.gz', import.meta.url),
)

async function read(t: TestContext, lines: string[], header = HEADER) {
  const directory = await mkdtemp(join(tmpdir(), 'online-retail-'))
  t.after(() => rm(directory, { recursive: true }))
  const file = join(directory, 'orders.csv')
  await writeFile(file, `${[header, ...lines].join('\n')}\n`)
  const survey = await surveyFile(file)
  const problems: [line: number, problem: string][] = []
  const orders: HistoricalOrder[] = []
  for await (const order of readOrders(survey, (line, problem) => problems.push([line, problem]))) {
    orders.push(order)
  }
  const decoded = () => orders.map(({ value }) => ordersRaw.decode(value))
  const parsed = () => orders.map(({ value }) => JSON.parse(value.toString()))
  return { survey, orders, problems, decoded, parsed }
}

/** The line above with some of its columns changed, by position. */
function lineWith(changes: Record<number, string>): string {
  return LINE.split(',')
    .map((field, index) => changes[index] ?? field)
    .join(',')
}

test('an invoice is one order, with the sum of its lines', async (t) => {
  const { orders, decoded, survey, problems } = await read(t, [
    LINE,
    '536365,22752,"BOXES, SET OF ""7""",2,2010-12-01 08:27:00,7.65,17850.0,United Kingdom',
  ])
  assert.deepEqual(problems, [])
  const { occurredAt, ...order } = decoded()[0]!
  assert.match(occurredAt, /Z$/)
  assert.deepEqual(order, {
    type: 'OrderPlaced',
    eventId: '536365/OrderPlaced',
    orderId: '536365',
    customerId: '17850',
    placedAt: '2010-12-01T08:26:00.000Z',
    currency: 'GBP',
    shippingAddress: {
      name: 'Customer 17850',
      street: '',
      city: '',
      postcode: '',
      country: 'United Kingdom',
    },
    items: [
      { sku: '85123A', name: 'HEART', quantity: 6, unitPrice: 255 },
      { sku: '22752', name: 'BOXES, SET OF "7"', quantity: 2, unitPrice: 765 },
    ],
    total: 6 * 255 + 2 * 765,
  })
  assert.deepEqual([orders.length, orders[0]!.key, orders[0]!.lines, survey.lines], [1, '536365', 2, 2])
})

test('times are those of the shop: an hour behind in summer, none in winter, either way of writing them', async (t) => {
  const times: Record<string, string> = {
    '2011-01-10 09:00:00': '2011-01-10T09:00:00.000Z',
    '2011-07-10 09:00:00': '2011-07-10T08:00:00.000Z',
    '2011-03-27 00:59:00': '2011-03-27T00:59:00.000Z',
    '2011-03-27 02:00:00': '2011-03-27T01:00:00.000Z',
    '2011-10-30 02:00:00': '2011-10-30T02:00:00.000Z',
    '7/10/2011 9:05': '2011-07-10T08:05:00.000Z',
  }
  const { decoded, survey } = await read(
    t,
    Object.keys(times).map((text, index) => lineWith({ 0: `${index}`, 4: text })),
  )
  assert.deepEqual(
    decoded().map(({ placedAt }) => placedAt),
    Object.values(times),
  )
  assert.equal(new Date(survey.firstMs).toISOString(), '2011-01-10T09:00:00.000Z')
  assert.equal(new Date(survey.lastMs).toISOString(), '2011-10-30T02:00:00.000Z')
})

test('an invoice that others interrupt is one order, placed when its last line is read', async (t) => {
  const { orders } = await read(t, [
    lineWith({ 0: '1' }),
    lineWith({ 0: '2' }),
    lineWith({ 0: '1', 1: 'B' }),
    lineWith({ 0: '2' }),
    lineWith({ 0: '3' }),
  ])
  assert.deepEqual(
    orders.map(({ key, lines }) => [key, lines]),
    [
      ['1', 2],
      ['2', 2],
      ['3', 1],
    ],
  )
})

test('prices below a penny are rounded half up, and totals are sums of what was rounded', async (t) => {
  const prices = { '0.001': 0, '0.005': 1, '0.0049': 0, '2.555': 256, '-0.005': -1, '-11062.06': -1_106_206 }
  const { decoded } = await read(
    t,
    Object.keys(prices).map((price) => lineWith({ 3: '3', 5: price })),
  )
  assert.deepEqual(
    decoded()[0]!.items.map(({ unitPrice }) => unitPrice),
    Object.values(prices),
  )
  assert.equal(decoded()[0]!.total, 3 * Object.values(prices).reduce((sum, price) => sum + price, 0))
})

test('who is not named is the guest, and the guest is a customer like the others', async (t) => {
  const { decoded, survey } = await read(t, [lineWith({ 6: '', 7: 'EIRE' }), lineWith({ 0: '2' })])
  assert.equal(decoded()[0]!.customerId, 'guest')
  assert.equal(decoded()[0]!.shippingAddress!.country, 'EIRE')
  assert.deepEqual(
    survey.catalogue.customers.map(({ id, blocked }) => [id, blocked]),
    [
      ['guest', false],
      ['17850', false],
    ],
  )
})

test('a product without a description has the name of another line, before or after, or else its code', async (t) => {
  const { decoded, survey } = await read(t, [
    lineWith({ 1: 'A', 2: '' }),
    lineWith({ 1: 'A', 2: ' LANTERN ' }),
    lineWith({ 1: 'B', 2: '', 5: '0' }),
    lineWith({ 1: 'b', 2: 'other case, other product'.replace(',', '') }),
  ])
  assert.deepEqual(
    decoded()[0]!.items.map(({ name }) => name),
    ['LANTERN', 'LANTERN', 'B', 'other case other product'],
  )
  assert.deepEqual(
    survey.catalogue.products.map(({ sku, name, unitPriceMinor }) => [sku, name, unitPriceMinor]),
    [
      ['A', 'LANTERN', 255],
      ['B', 'B', 0],
      ['b', 'other case other product', 255],
    ],
  )
})

test('cancellations and adjustments are orders as they stand: to refuse them is for the validator', async (t) => {
  const { decoded, problems } = await read(t, [lineWith({ 0: 'C536379', 3: '-1', 5: '27.50', 1: 'D' })])
  assert.deepEqual(problems, [])
  assert.equal(decoded()[0]!.orderId, 'C536379')
  assert.equal(decoded()[0]!.total, -2_750)
})

test('a line that cannot be understood is reported, and its whole invoice is a record that is no order', async (t) => {
  const garbage: [line: string, problem: RegExp][] = [
    [lineWith({ 3: 'six' }), /quantity 'six'/],
    [lineWith({ 3: '1.5' }), /quantity '1.5'/],
    [lineWith({ 3: '' }), /quantity ''/],
    [lineWith({ 3: '99999999999' }), /quantity '99999999999'/],
    [lineWith({ 5: '2.5.5' }), /'2.5.5'/],
    [lineWith({ 5: '' }), /''/],
    [lineWith({ 4: '2011-02-30 08:00:00' }), /date '2011-02-30 08:00:00'/],
    [lineWith({ 4: 'yesterday' }), /date 'yesterday'/],
    [lineWith({ 1: ' ' }), /stock code/],
    [lineWith({ 1: 'x'.repeat(65) }), /stock code/],
    [lineWith({ 6: 'nobody at all' }), /customer number/],
    [`${LINE},one more`, /9 columns, not 8/],
    ['536365,85123A', /2 columns, not 8/],
    [`${lineWith({ 2: '"HEART' })}`, /quotes/],
    [lineWith({ 2: 'HE\0ART' }), /zero byte/],
  ]
  for (const [line, problem] of garbage) {
    // A good line of the same invoice before it and another invoice behind it.
    const { orders, problems, parsed, survey } = await read(t, [LINE, line, lineWith({ 0: '2' })])
    assert.deepEqual(
      orders.map(({ key, lines, isBroken }) => [key, lines, isBroken]),
      [
        ['536365', 2, true],
        ['2', 1, false],
      ],
    )
    assert.equal(problems.length, 1)
    assert.equal(problems[0]![0], 3)
    assert.match(problems[0]![1], problem)
    assert.deepEqual(parsed()[0].items[1], { line: 3, text: line })
    assert.throws(() => ordersRaw.decode(orders[0]!.value), UnusableRecordError)
    assert.equal(survey.records, 2)
  }
})

test('a line without an invoice number is a record of its own', async (t) => {
  const { orders, problems, survey } = await read(t, [LINE, 'utter nonsense', lineWith({ 0: '' }), LINE])
  assert.deepEqual(
    orders.map(({ key }) => key),
    ['line-3', 'line-4', '536365'],
  )
  assert.deepEqual(
    problems.map(([line]) => line),
    [3, 4],
  )
  assert.equal(survey.records, 3)
  assert.throws(() => ordersRaw.decode(orders[0]!.value), UnusableRecordError)
})

test('an invoice too large for a record is reported, and a record that says so stands in its place', async (t) => {
  const long = lineWith({ 2: 'x'.repeat(490) })
  const { orders, problems } = await read(t, [...Array<string>(4_500).fill(long), lineWith({ 0: '2' })])
  assert.deepEqual(
    orders.map(({ key, lines, isBroken }) => [key, lines, isBroken]),
    [
      ['536365', 4_500, true],
      ['2', 1, false],
    ],
  )
  assert.ok(orders[0]!.value.length < 1_000)
  assert.match(problems[0]![1], /too large/)
})

test('the columns may be named as the second edition has them, in any order', async (t) => {
  const { decoded } = await read(
    t,
    ['United Kingdom,13085,2.55,12/1/2010 8:26,6,HEART,85123A,536365'],
    'Country,Customer ID,Price,InvoiceDate,Quantity,Description,StockCode,Invoice',
  )
  assert.equal(decoded()[0]!.customerId, '13085')
  assert.equal(decoded()[0]!.total, 1_530)
})

test('a file with other columns, or with no order in it, is refused by name', async (t) => {
  await assert.rejects(read(t, [LINE], 'id,name'), ConfigurationError)
  await assert.rejects(read(t, []), /holds no order/)
})

test('the real history gives every invoice, every line and the sum to the penny', async (t) => {
  if (!existsSync(HISTORY)) return t.skip('the history is not here')
  const survey = await surveyFile(HISTORY)
  const { products, customers } = survey.catalogue
  assert.equal(survey.lines, 370_931)
  assert.equal(survey.records, 18_786)
  assert.equal(products.length, 3_887)
  for (const { sku, name, unitPriceMinor: unitPrice, currency } of products) {
    const event = { type: 'ProductCreated' as const, eventId: sku, occurredAt: new Date().toISOString() }
    productsTopic.decode(Buffer.from(productsTopic.encode({ ...event, sku, name, unitPrice, currency })))
  }

  let lines = 0
  let total = 0
  const keys = new Set<string>()
  const ids = new Set(customers.map(({ id }) => id))
  for await (const { value, key, lines: count } of readOrders(survey, (_, problem) => assert.fail(problem))) {
    const order = ordersRaw.decode(value)
    keys.add(key)
    lines += count
    total += order.total
    assert.ok(ids.has(order.customerId))
  }
  assert.equal(keys.size, 18_786)
  assert.equal(lines, 370_931)
  assert.equal(total, sumByAwk(HISTORY))
})

/** Pence, from the ends of the lines, where no quoted field is: prices rounded half up, away from zero. */
function sumByAwk(file: string): number {
  const program =
    'NR > 1 { p = $(NF-2); s = p < 0 ? -1 : 1; sum += $(NF-4) * s * int(s * p * 100 + 0.5 + 1e-9) } END { printf "%d", sum }'
  const command = 'gzip -dc "$1" | awk -F, "$2"'
  return Number(execFileSync('sh', ['-c', command, 'sh', file, program], { encoding: 'utf8' }))
}
