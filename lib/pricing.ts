/**
 * What an order costs in the end. Prices include tax, so nothing is ever added to what was placed and authorised:
 *
 *   subtotal - discounts = total = net + tax
 *
 * Each discount is taken from what those before it have left, line by line, and is rounded down to the minor unit:
 *
 *   1. quantity    5 % of a line of 10 pieces or more, 10 % of one of 50 or more
 *   2. tier        silver 2 %, gold 5 %
 *   3. promotion   the one of the table that takes off the most; of equals, the first
 *
 * At least one minor unit is left to pay: a gateway takes no payment of nothing.
 *
 * The tax is that of the country where the goods go, the customer's own when the order does not say:
 * total × rate / (100 % + rate), for the order as a whole, rounded half up to the minor unit; net is the rest.
 */
import { countryCodeOf } from './countries.ts'
import type { OrderPriced, OrderValidated } from './events.ts'
import type { Promotion } from './promotions.ts'

export type Price = Omit<OrderPriced, 'type' | 'eventId' | 'occurredAt'>
type Discount = Price['discounts'][number]

/** The first that an order line reaches counts. */
const QUANTITY_STEPS = [
  { pieces: 50, percent: 10 },
  { pieces: 10, percent: 5 },
] as const
const TIER_PERCENT: Readonly<Record<OrderValidated['customer']['tier'], number>> = {
  standard: 0,
  silver: 2,
  gold: 5,
}

/**
 * Standard rates of value added tax in hundredths of a percent, as of January 2026, whenever the order was placed.
 * Sources: European Commission, "VAT rates" (Taxes in Europe database, taxation-customs.ec.europa.eu); GOV.UK, "VAT
 * rates"; Skatteetaten (Norway), ESTV (Switzerland), Skatturinn (Iceland). Reduced rates and regions with rates of
 * their own are left out.
 */
const TAX_RATES: Readonly<Record<string, number>> = {
  AT: 2000,
  BE: 2100,
  BG: 2000,
  CH: 810,
  CY: 1900,
  CZ: 2100,
  DE: 1900,
  DK: 2500,
  EE: 2400,
  ES: 2100,
  FI: 2550,
  FR: 2000,
  GB: 2000,
  GR: 2400,
  HR: 2500,
  HU: 2700,
  IE: 2300,
  IS: 2400,
  IT: 2200,
  LT: 2100,
  LU: 1700,
  LV: 2100,
  MT: 1800,
  NL: 2100,
  NO: 2500,
  PL: 2300,
  PT: 2300,
  RO: 2100,
  SE: 2500,
  SI: 2200,
  SK: 2300,
}
/** Everywhere else, and where the country is not known: an export, free of our tax. */
const EXPORT_RATE = 0
const WHOLE = 10_000

/** Prices an order; the same order and promotions always give the same price. */
export function priceOrder(order: OrderValidated, promotions: readonly Promotion[]): Price {
  const { orderId, currency, items, total: subtotal } = order
  const left = items.map(({ quantity, unitPrice }) => quantity * unitPrice)
  const discounts: Discount[] = []
  let total = subtotal
  const grant = (code: string, message: string, percents: readonly number[]) => {
    const taken = left.map((lineMinor, line) => percentOf(lineMinor, percents[line]!))
    const amount = Math.min(sum(taken), total - 1)
    if (amount <= 0) return
    for (const [line, minor] of taken.entries()) left[line]! -= minor
    total -= amount
    discounts.push({ code, message, amount })
  }

  const quantityPercents = items.map(({ quantity }) => quantityPercentOf(quantity))
  grant('quantity', `${Math.max(...quantityPercents)} % off lines of many pieces`, quantityPercents)

  const tierPercent = TIER_PERCENT[order.customer.tier]
  grant('tier', `${tierPercent} % for ${order.customer.tier} customers`, fill(items, tierPercent))

  const promotion = findBest(promotions, order, left)
  if (promotion) grant(promotion.code, promotion.message, percentsOf(promotion, order))

  const destination = order.shippingAddress?.country ?? ''
  const taxCountry = countryCodeOf(destination) === '' ? order.customer.country : destination
  const taxRate = TAX_RATES[countryCodeOf(taxCountry)] ?? EXPORT_RATE
  const tax = taxIn(total, taxRate)
  return { orderId, currency, subtotal, discounts, total, net: total - tax, tax, taxRate, taxCountry }
}

function quantityPercentOf(quantity: number): number {
  return QUANTITY_STEPS.find(({ pieces }) => quantity >= pieces)?.percent ?? 0
}

function findBest(
  promotions: readonly Promotion[],
  order: OrderValidated,
  left: readonly number[],
): Promotion | undefined {
  let best: Promotion | undefined
  let most = 0
  for (const promotion of promotions) {
    if (!promotion.isOn(order.placedAt)) continue
    const percents = percentsOf(promotion, order)
    const amount = sum(left.map((lineMinor, line) => percentOf(lineMinor, percents[line]!)))
    if (amount > most) [best, most] = [promotion, amount]
  }
  return best
}

/** For each line of the order, how many percent the promotion takes off it. */
function percentsOf({ percent, covers }: Promotion, { items }: OrderValidated): number[] {
  return items.map(({ sku }) => (covers(sku) ? percent : 0))
}

function fill(items: readonly unknown[], percent: number): number[] {
  return items.map(() => percent)
}

/** Rounded down, without leaving what a number holds exactly: hundreds and the rest apart. */
function percentOf(amountMinor: number, percent: number): number {
  const hundreds = Math.floor(amountMinor / 100)
  return hundreds * percent + Math.floor(((amountMinor - hundreds * 100) * percent) / 100)
}

/** The tax that a price contains; in whole numbers of any size, since a price times its rate can be beyond 2^53. */
function taxIn(totalMinor: number, taxRate: number): number {
  const divisor = BigInt(WHOLE + taxRate)
  return Number((2n * BigInt(totalMinor) * BigInt(taxRate) + divisor) / (2n * divisor))
}

function sum(amounts: readonly number[]): number {
  let total = 0
  for (const amount of amounts) total += amount
  return total
}
