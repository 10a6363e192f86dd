import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '../kafkaConfig.ts'
import { findReasons } from '../lib/orderRules.ts'
import { createSimulatedCatalogue } from '../lib/simulatedCatalogue.ts'
import {
  CONTENT_FAULTS,
  createSimulator,
  FAULTS,
  type SimulatedOrder,
  type SimulatorOptions,
} from '../lib/simulator.ts'
import { createZipf } from '../lib/zipf.ts'

const { ordersRaw } = parseConfig({}).topics
const NOW_MS = Date.UTC(2026, 3, 1, 12)

function simulate(count: number, options: Partial<SimulatorOptions> = {}): SimulatedOrder[] {
  const simulator = createSimulator({ seed: 7, badRatio: 0, runId: 'run', nowMs: () => NOW_MS, ...options })
  return Array.from({ length: count }, () => simulator.next())
}

/** Many of each kind, by kind. */
const faulty = new Map<SimulatedOrder['fault'], SimulatedOrder[]>()
for (const order of simulate(20_000, { badRatio: 0.5 })) {
  const some = faulty.get(order.fault)
  if (some) some.push(order)
  else faulty.set(order.fault, [order])
}
const decodeAll = (fault: SimulatedOrder['fault']) =>
  faulty.get(fault)!.map(({ value }) => ordersRaw.decode(value))
const sumOf = (items: { quantity: number; unitPrice: number }[]) =>
  items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)

test('the same seed gives the same orders, faulty ones too, and another seed gives others', () => {
  const text = (orders: SimulatedOrder[]) => orders.map(({ key, value }) => `${key} ${value}`)
  const options = { badRatio: 0.3 }
  assert.deepEqual(text(simulate(2_000, options)), text(simulate(2_000, options)))
  assert.notDeepEqual(text(simulate(10, { seed: 8 })), text(simulate(10)))
})

test('a second run with the same seed places the same orders under ids of its own', () => {
  const first = simulate(500, { badRatio: 0.3, runId: 'one' })
  const second = simulate(500, { badRatio: 0.3, runId: 'two' })
  assert.deepEqual(
    second.map(({ value }) => value.toString().replaceAll('ord-two-', 'ord-one-')),
    first.map(({ value }) => value.toString()),
  )
  assert.ok(second.every(({ value }) => !value.includes('ord-one-')))
})

test('an order without a fault keeps every promise of its topic and of the validator', () => {
  const { products, customers } = createSimulatedCatalogue()
  const prices = new Map(products.map(({ sku, unitPriceMinor }) => [sku, unitPriceMinor]))
  const welcome = new Set(customers.filter(({ blocked }) => !blocked).map(({ id }) => id))
  const ids = new Set<string>()
  for (const { key, value, fault } of simulate(5_000)) {
    const order = ordersRaw.decode(value)
    assert.equal(fault, undefined)
    assert.equal(key, order.orderId)
    assert.equal(order.eventId, `${order.orderId}/OrderPlaced`)
    assert.equal(order.placedAt, new Date(NOW_MS).toISOString())
    assert.ok(['EUR', 'GBP', 'USD'].includes(order.currency))
    assert.ok(welcome.has(order.customerId))
    assert.equal(order.total, sumOf(order.items))
    assert.ok(order.total > 0 && order.total < 1_000_000)
    assert.ok(
      order.items.every(({ sku, quantity, unitPrice }) => quantity > 0 && prices.get(sku) === unitPrice),
    )
    assert.equal(new Set(order.items.map(({ sku }) => sku)).size, order.items.length)
    ids.add(order.orderId)
  }
  assert.equal(ids.size, 5_000)
})

test('the share of faulty orders is what was asked for, and about the same for each kind', () => {
  for (const badRatio of [0, 0.02, 0.5, 1]) {
    const bad = simulate(20_000, { badRatio }).filter(({ fault }) => fault !== undefined)
    assert.ok(Math.abs(bad.length / 20_000 - badRatio) < 0.01, `${bad.length} for ${badRatio}`)
  }
  for (const fault of FAULTS) {
    const share = faulty.get(fault)!.length / 10_000
    assert.ok(Math.abs(share * FAULTS.length - 1) < 0.2, `${fault}: ${share}`)
  }
})

test('each fault of content is the one that it is called', () => {
  const { customers } = createSimulatedCatalogue()
  const blocked = new Map(customers.map((customer) => [customer.id, customer.blocked]))
  const everyOf = (
    fault: SimulatedOrder['fault'],
    isSo: (order: ReturnType<typeof ordersRaw.decode>) => boolean,
  ) => assert.ok(decodeAll(fault).every(isSo), fault)

  everyOf('unknown-customer', ({ customerId }) => !blocked.has(customerId))
  everyOf('blocked-customer', ({ customerId }) => blocked.get(customerId) === true)
  everyOf('unknown-product', ({ items }) => items.some(({ sku }) => sku.startsWith('NO-SUCH-')))
  everyOf('quantity-not-positive', ({ items }) => items.some(({ quantity }) => quantity <= 0))
  everyOf('negative-price', ({ items }) => items.some(({ unitPrice }) => unitPrice < 0))
  everyOf('total-mismatch', ({ total, items }) => total !== sumOf(items))
  everyOf('total-over-limit', ({ total, items }) => total >= 1_000_000 && total === sumOf(items))
  everyOf('unsupported-currency', ({ currency }) => currency === 'XAU')
  const quantities = decodeAll('quantity-not-positive').map(({ items }) => items[0]!.quantity)
  assert.ok(quantities.includes(0) && quantities.some((quantity) => quantity < 0))
})

test('the validator refuses each fault of content by the name that it has here, and nothing else', () => {
  const { products, customers } = createSimulatedCatalogue()
  const skus = new Set(products.map(({ sku }) => sku))
  const knowledge = {
    customer: (id: string) => {
      const customer = customers.find((candidate) => candidate.id === id)
      return customer && { customer, blocked: customer.blocked }
    },
    product: (sku: string) => (skus.has(sku) ? ('known' as const) : ('unknown' as const)),
  }
  for (const [fault, orders] of faulty) {
    for (const { value } of orders.slice(0, 50)) {
      if (fault === 'not-json' || fault === 'wrong-shape') continue
      const codes = findReasons(ordersRaw.decode(value), 'first', knowledge, 1_000_000).map(
        ({ code }) => code,
      )
      // Without a quantity or a price above nothing there is no total above nothing either, or there may not be.
      const named = codes.filter((code) => code !== 'total-not-positive')
      assert.deepEqual(named, CONTENT_FAULTS.some((name) => name === fault) ? [fault] : [], `${fault}`)
    }
  }
})

test('a duplicate is an earlier order to the byte, a conflict the same id with other content', () => {
  const placed = new Map<string, string>()
  const orders = simulate(20_000, { badRatio: 0.5 })
  for (const { key, value, fault } of orders) {
    if (fault === undefined) placed.set(key!, value.toString())
    if (fault === 'duplicate') assert.equal(value.toString(), placed.get(key!))
    if (fault !== 'conflict') continue
    const [now, before] = [value, placed.get(key!)!].map((text) => ordersRaw.decode(Buffer.from(text)))
    assert.equal(now!.orderId, before!.orderId)
    assert.notDeepEqual(now!.items, before!.items)
    assert.equal(now!.total, sumOf(now!.items))
  }
})

test('what is malformed is no order, or has no key or another than its id', () => {
  for (const fault of ['not-json', 'wrong-shape'] as const) {
    for (const { value } of faulty.get(fault)!) {
      assert.throws(() => ordersRaw.decode(value), fault === 'not-json' ? /not JSON/ : /wrong shape/)
    }
  }
  assert.ok(faulty.get('no-key')!.every(({ key, value }) => key === null && ordersRaw.decode(value)))
  assert.ok(faulty.get('wrong-key')!.every(({ key, value }) => key !== ordersRaw.decode(value).orderId))
})

test('with nothing to repeat yet, the first orders are faulty in another way', () => {
  const kinds = new Set(simulate(1_000, { badRatio: 1 }).map(({ fault }) => fault))
  assert.ok(!kinds.has('duplicate') && !kinds.has('conflict'))
})

test('few products and customers make up most of the orders, by the law of Zipf', () => {
  const orders = simulate(20_000).map(({ value }) => ordersRaw.decode(value))
  const products = countEach(orders.flatMap(({ items }) => items.map(({ sku }) => sku)))
  const customers = countEach(orders.map(({ customerId }) => customerId))
  const skus = createSimulatedCatalogue().products.map(({ sku }) => sku)
  assert.equal(products.get(skus[0]!), Math.max(...products.values()))
  assert.equal(products.size, skus.length)
  const top = (counts: Map<string, number>, share: number) => {
    const sorted = [...counts.values()].sort((a, b) => b - a)
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
    return sum(sorted.slice(0, Math.ceil(sorted.length * share))) / sum(sorted)
  }
  assert.ok(top(products, 0.2) > 0.6, `the top fifth sells ${top(products, 0.2)}`)
  assert.ok(top(customers, 0.2) > 0.45, `the top fifth buys ${top(customers, 0.2)}`)
})

test('the second of a Zipf distribution comes half as often as the first, the tenth a tenth', () => {
  let state = 0
  // An even sequence, so that the shares are exact.
  const draw = createZipf(100, () => (((state++ * 0.618_033_988_749_895) % 1) + 1) % 1)
  const counts = new Array<number>(100).fill(0)
  for (let round = 0; round < 100_000; round++) counts[draw()]!++
  assert.ok(Math.abs(counts[0]! / counts[1]! - 2) < 0.05)
  assert.ok(Math.abs(counts[0]! / counts[9]! - 10) < 0.5)
  assert.ok(counts.every((count) => count > 0))
})

test('in a demo of 5,000 orders one to three in a hundred meet scarce stock', () => {
  const { products } = createSimulatedCatalogue()
  for (const seed of [1, 2, 3, 4, 5]) {
    const left = new Map(products.map(({ sku, stock }) => [sku, { ...stock }]))
    const met = { limited: 0, unavailable: 0 }
    for (const { value } of simulate(5_000, { seed })) {
      const { items } = ordersRaw.decode(value)
      if (items.some(({ sku, quantity }) => left.get(sku)!.quantity < quantity)) {
        met.unavailable++
        continue
      }
      for (const { sku, quantity } of items) left.get(sku)!.quantity -= quantity
      if (items.some(({ sku }) => left.get(sku)!.quantity <= left.get(sku)!.lowLevel)) met.limited++
    }
    const share = (met.limited + met.unavailable) / 5_000
    assert.ok(share > 0.01 && share < 0.03, `${share} with seed ${seed}`)
    assert.ok(met.limited > 10 && met.unavailable > 10, JSON.stringify(met))
  }
})

test('four orders in a hundred send many pieces to another country: three of cheap goods, one of dear ones', () => {
  const { customers } = createSimulatedCatalogue()
  const countries = new Map(customers.map(({ id, country }) => [id, country]))
  const abroad = simulate(20_000)
    .map(({ value }) => ordersRaw.decode(value))
    .filter(
      ({ shippingAddress, customerId }) =>
        shippingAddress && shippingAddress.country !== countries.get(customerId),
    )
  const dear = abroad.filter(({ total }) => total > 100_000)
  assert.ok(abroad.every(({ items }) => items.length === 1 && items[0]!.quantity > 40))
  assert.ok(abroad.every(({ total }) => total < 50_000 || total > 240_000))
  assert.ok(Math.abs(dear.length / 20_000 - 0.01) < 0.003, `${dear.length}`)
  assert.ok(Math.abs((abroad.length - dear.length) / 20_000 - 0.03) < 0.005, `${abroad.length}`)
})

test('with a low limit no order of many pieces goes over it, nor its conflict', () => {
  const limitMinor = 100_000
  const totals = simulate(20_000, { limitMinor, badRatio: 0.3 })
    .filter(({ fault }) => fault === undefined || fault === 'conflict')
    .map(({ value }) => ordersRaw.decode(value))
    .filter(({ items }) => items.some(({ quantity }) => quantity > 5))
    .map(({ total }) => total)
  assert.ok(totals.some((total) => total > 80_000))
  assert.ok(totals.every((total) => total < limitMinor))
})

test('an order costs less than 20 microseconds', () => {
  const simulator = createSimulator({ seed: 1, badRatio: 0.02, runId: 'run' })
  const rounds = Array.from({ length: 5 }, () => {
    // Processor time, since the tests share the machine.
    const before = process.cpuUsage()
    for (let count = 0; count < 20_000; count++) simulator.next()
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 20_000
  })
  assert.ok(Math.min(...rounds) < 20, `${rounds.join(', ')} µs`)
})

function countEach(values: string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return counts
}
