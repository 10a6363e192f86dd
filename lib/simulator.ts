import { generateMersenne53Randomizer } from '@faker-js/faker'
import { eventIdOf, type OrderPlaced } from './events.ts'
import type { CatalogueProduct } from './registration.ts'
import {
  createSimulatedCatalogue,
  type SimulatedAddress,
  type SimulatedCatalogue,
  type SimulatedCustomer,
} from './simulatedCatalogue.ts'
import { createZipf } from './zipf.ts'

/** What can be wrong with an order that is one: the validator refuses it and says why. */
export const CONTENT_FAULTS = [
  'unknown-customer',
  'blocked-customer',
  'unknown-product',
  'quantity-not-positive',
  'negative-price',
  'total-mismatch',
  'total-over-limit',
  'unsupported-currency',
] as const
/** The same order id again, with the same content or with another. */
const REPEATS = ['duplicate', 'conflict'] as const
/** What is no order at all: a dead letter. */
const MALFORMED = ['not-json', 'wrong-shape', 'no-key', 'wrong-key'] as const

export const FAULTS = [...CONTENT_FAULTS, ...REPEATS, ...MALFORMED] as const
export type Fault = (typeof FAULTS)[number]
type ContentFault = (typeof CONTENT_FAULTS)[number]

export interface SimulatedOrder {
  key: string | null
  value: Buffer
  /** What is wrong with it on purpose. */
  fault?: Fault
}

export interface SimulatorOptions {
  /** The same seed gives the same orders, but for their ids and times. */
  seed: number
  /** The share of orders with a fault, 0 to 1. */
  badRatio: number
  /** Part of every order id, so that a second run with the same seed places orders of its own. */
  runId: string
  /** An order of this total or above is refused; in minor units. */
  limitMinor?: number
  nowMs?: () => number
}

export interface Simulator {
  catalogue: SimulatedCatalogue
  next(): SimulatedOrder
}

const DEFAULT_LIMIT_MINOR = 1_000_000
/** Of how many orders back one is repeated: well within the validator's window. */
const REMEMBERED_ORDERS = 1_000
const WITH_ADDRESS_RATIO = 0.9
/**
 * Orders that are in order and look risky: many pieces, sent to another country. Whoever sends cheap ones may be
 * giving a party, which is worth a second look; whoever sends dear ones has somebody else's account. By share of
 * orders, unit price, and pieces: more than anybody has in an ordinary order.
 */
const GIFT = { ratio: 0.03, minPriceMinor: 0, maxPriceMinor: 800 }
const THEFT = { ratio: 0.01, minPriceMinor: 6_000, maxPriceMinor: 15_000 }
const BULK_PIECES = { least: 41, most: 60 }
/** How many lines an order has, and how many of each product: the index is drawn, so 1 is the most frequent. */
const LINE_COUNTS = [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5] as const
const QUANTITIES = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 4] as const

interface Basket {
  items: OrderPlaced['items']
  address: SimulatedAddress | undefined
}

/**
 * Makes orders, one call each, without Kafka and without waiting: a few microseconds per order, since the choices
 * come from a seeded generator and only the catalogue from faker.
 */
export function createSimulator(options: SimulatorOptions): Simulator {
  const { badRatio, runId, limitMinor = DEFAULT_LIMIT_MINOR, nowMs = Date.now } = options
  const catalogue = createSimulatedCatalogue()
  const generator = generateMersenne53Randomizer(options.seed)
  const random = () => generator.next()
  const choose = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!

  const welcome = catalogue.customers.filter(({ blocked }) => !blocked)
  const blocked = catalogue.customers.filter(({ blocked }) => blocked)
  const drawProduct = createZipf(catalogue.products.length, random)
  const drawCustomer = createZipf(welcome.length, random, 0.8)

  const gifts = findBulkGoods(catalogue, GIFT)
  const loot = findBulkGoods(catalogue, THEFT)

  let orders = 0
  const remembered: { order: OrderPlaced; sent: SimulatedOrder }[] = []
  let oldest = 0

  function makeOrder(): OrderPlaced {
    const customer = welcome[drawCustomer()]!
    const orderId = `ord-${runId}-${++orders}`
    const now = new Date(nowMs()).toISOString()
    const { items, address } = makeBasket(customer)
    return {
      type: 'OrderPlaced',
      eventId: eventIdOf(orderId, 'OrderPlaced'),
      occurredAt: now,
      orderId,
      customerId: customer.id,
      placedAt: now,
      currency: customer.currency,
      items,
      total: totalOf(items),
      ...(address ? { shippingAddress: address } : {}),
    }
  }

  function makeBasket(customer: SimulatedCustomer): Basket {
    const mood = random()
    if (mood < THEFT.ratio) return makeBulk(customer, choose(loot))
    if (mood < THEFT.ratio + GIFT.ratio) return makeBulk(customer, choose(gifts))
    return {
      items: makeItems(drawProducts(choose(LINE_COUNTS)), () => choose(QUANTITIES)),
      address: random() < WITH_ADDRESS_RATIO ? customer.address : undefined,
    }
  }

  function makeBulk(customer: SimulatedCustomer, product: CatalogueProduct): Basket {
    const { least, most } = BULK_PIECES
    const wanted = least + Math.floor(random() * (most - least + 1))
    // With room for one more, which a conflict adds.
    const affordable = Math.floor((limitMinor - 1) / product.unitPriceMinor) - 1
    const quantity = Math.max(1, Math.min(wanted, affordable))
    let host = choose(welcome)
    while (host.country === customer.country) host = choose(welcome)
    return { items: makeItems([product], () => quantity), address: host.address }
  }

  function drawProducts(count: number): CatalogueProduct[] {
    const drawn: CatalogueProduct[] = []
    while (drawn.length < count) {
      const product = catalogue.products[drawProduct()]!
      if (!drawn.includes(product)) drawn.push(product)
    }
    return drawn
  }

  function remember(order: OrderPlaced, sent: SimulatedOrder): void {
    remembered[oldest] = { order, sent }
    oldest = (oldest + 1) % REMEMBERED_ORDERS
  }

  function makeFaulty(fault: Fault): SimulatedOrder {
    if (fault === 'duplicate' || fault === 'conflict') {
      const earlier = remembered.length > 0 ? choose(remembered) : undefined
      if (earlier === undefined) return makeFaulty('unknown-customer')
      if (fault === 'duplicate') return { ...earlier.sent, fault }
      return { ...seal(contradict(earlier.order)), fault }
    }
    const order = makeOrder()
    if (isContentFault(fault)) {
      spoil(order, fault, { blocked: choose(blocked), limitMinor, orders })
      return { ...seal(order), fault }
    }
    return { ...malform(order, fault), fault }
  }

  return {
    catalogue,
    next() {
      if (random() < badRatio) return makeFaulty(choose(FAULTS))
      const order = makeOrder()
      const sealed = seal(order)
      remember(order, sealed)
      return sealed
    },
  }
}

/** Nothing scarce: a few of these orders would take all that there is. */
function findBulkGoods(
  { products }: SimulatedCatalogue,
  { minPriceMinor, maxPriceMinor }: typeof GIFT,
): CatalogueProduct[] {
  return products.filter(
    ({ unitPriceMinor, stock }) =>
      unitPriceMinor >= minPriceMinor &&
      unitPriceMinor <= maxPriceMinor &&
      stock.quantity > 10 * BULK_PIECES.most,
  )
}

function isContentFault(fault: Fault): fault is ContentFault {
  return (CONTENT_FAULTS as readonly string[]).includes(fault)
}

function seal(order: OrderPlaced): SimulatedOrder {
  return { key: order.orderId, value: Buffer.from(JSON.stringify(order)) }
}

function makeItems(products: CatalogueProduct[], quantity: () => number): OrderPlaced['items'] {
  return products.map(({ sku, name, unitPriceMinor }) => ({
    sku,
    name,
    quantity: quantity(),
    unitPrice: unitPriceMinor,
  }))
}

function totalOf(items: OrderPlaced['items']): number {
  let total = 0
  for (const { quantity, unitPrice } of items) total += quantity * unitPrice
  return total
}

/** Spoils one thing about an order, and only that as far as it goes: no quantity means a total that is none. */
function spoil(
  order: OrderPlaced,
  fault: ContentFault,
  { blocked, limitMinor, orders }: { blocked: SimulatedCustomer; limitMinor: number; orders: number },
): void {
  const first = order.items[0]!
  switch (fault) {
    case 'unknown-customer':
      order.customerId = `nobody-${orders}`
      return
    case 'blocked-customer':
      order.customerId = blocked.id
      return
    case 'unknown-product':
      first.sku = `NO-SUCH-${orders}`
      return
    case 'unsupported-currency':
      order.currency = 'XAU'
      return
    case 'total-mismatch':
      order.total += orders % 2 === 0 ? 1 : 1_000
      return
    case 'quantity-not-positive':
      first.quantity = orders % 2 === 0 ? 0 : -first.quantity
      break
    case 'negative-price':
      first.unitPrice = -first.unitPrice
      break
    case 'total-over-limit':
      first.quantity = Math.ceil(limitMinor / first.unitPrice)
      break
  }
  order.total = totalOf(order.items)
}

/** The same order id with one piece more. */
function contradict(order: OrderPlaced): OrderPlaced {
  const items = order.items.map((item, line) =>
    line === 0 ? { ...item, quantity: item.quantity + 1 } : item,
  )
  return { ...order, items, total: totalOf(items) }
}

function malform(order: OrderPlaced, fault: (typeof MALFORMED)[number]): SimulatedOrder {
  const { key, value } = seal(order)
  switch (fault) {
    case 'not-json':
      return { key, value: value.subarray(0, value.length >> 1) }
    case 'wrong-shape':
      return {
        key,
        value: Buffer.from(JSON.stringify({ orderId: order.orderId, basket: order.items.length })),
      }
    case 'no-key':
      return { key: null, value }
    case 'wrong-key':
      return { key: order.customerId, value }
  }
}
