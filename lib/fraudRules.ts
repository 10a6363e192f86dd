/**
 * How risky an order is: each rule that fires adds its points, 100 at most.
 *
 * | rule               | points | fires when |
 * |--------------------|--------|------------|
 * | first-order        |     10 | the customer has no order before it |
 * | unusual-amount     |     25 | it costs more than 4 times what the customer usually spends in its currency, or with fewer than 5 orders to go by more than 1,000.00; never below 500.00 |
 * | unusual-quantity   |     25 | it has more than 5 times the pieces of the customer's usual order, or with fewer than 5 orders to go by more than 40; never below 24 pieces |
 * | country-mismatch   |     30 | it is shipped to another country than the customer's |
 * | burst              |     40 | within a minute the customer orders more than 10 times as often as usual, beyond what the shop as a whole has sped up by |
 *
 *   0 to 39 pass, 40 to 69 warning, from 70 fail
 *
 * So no rule but the last warns by itself, and none fails an order by itself.
 *
 * What is usual is the mean of the customer's orders that did not fail: a thief does not get to teach us his habits.
 * The minute is one of event time, by when orders were placed. What is usual for a minute takes part in every change of
 * the shop's own pace, or a sale, a benchmark or a faster simulator would make suspects of all customers at once. An
 * order that comes so late that later minutes were counted before it is not held against its customer.
 *
 * The history of a customer depends on the order in which its orders are looked at, and these lie in several partitions;
 * so another run may judge otherwise. What was said once is stored and stays.
 */
import { countryCodeOf } from './countries.ts'
import type { FraudAssessed, OrderValidated } from './events.ts'
import { formatMoney, MINOR_UNIT_DIGITS } from './money.ts'
import { countOrder, createOrderWindow, type OrderWindow } from './orderWindow.ts'

const POINTS = {
  'first-order': 10,
  'unusual-amount': 25,
  'unusual-quantity': 25,
  'country-mismatch': 30,
  burst: 40,
} as const
type RuleName = keyof typeof POINTS

const WARNING_SCORE = 40
const FAIL_SCORE = 70
const MAX_SCORE = 100

/** With fewer orders to go by, a mean says little. */
const ENOUGH_ORDERS = 5
const AMOUNT_FACTOR = 4
/** In whole units of the currency. */
const MIN_UNUSUAL_AMOUNT = 500
const UNUSUAL_AMOUNT_OF_NEWCOMER = 1_000
/** What is worth one of the others: amounts in yen look a hundred times as large. */
const UNIT_VALUE: Readonly<Record<string, number>> = { JPY: 100 }
const QUANTITY_FACTOR = 5
const MIN_UNUSUAL_QUANTITY = 24
const UNUSUAL_QUANTITY_OF_NEWCOMER = 40
const BURST_FACTOR = 10
/** What counts as usual at least: twenty orders in a minute are still nothing. */
const MIN_USUAL_ORDERS = 2

/** What is remembered of a customer, and the same size however long it orders. */
export interface CustomerHistory {
  /** Orders that did not fail, and their pieces. */
  orders: number
  units: number
  /** The same orders by currency. */
  spent: Record<string, { orders: number; sumMinor: number }>
  /** All orders. */
  window: OrderWindow
}

export type Assessment = Pick<FraudAssessed, 'riskScore' | 'verdict' | 'rules'>

export function createCustomerHistory(): CustomerHistory {
  return { orders: 0, units: 0, spent: {}, window: createOrderWindow() }
}

/**
 * Assesses an order, and takes it into the history of its customer and into the shop's window: the next one is judged
 * with it.
 *
 * @param shop the orders of all customers, as far as they come this way
 */
export function assess(order: OrderValidated, history: CustomerHistory, shop: OrderWindow): Assessment {
  // A clock that is ahead must not put all later orders into the past.
  const atMs = Math.min(Date.parse(order.placedAt), Date.parse(order.validatedAt))
  countOrder(shop, atMs)
  const ordersInMinute = countOrder(history.window, atMs)
  const units = order.items.reduce((sum, { quantity }) => sum + quantity, 0)

  const rules: Assessment['rules'] = []
  const check = (rule: RuleName, message: string | undefined) => {
    if (message !== undefined) rules.push({ rule, points: POINTS[rule], message: message.slice(0, 500) })
  }
  check('first-order', history.orders === 0 ? 'the first order of this customer' : undefined)
  check('unusual-amount', findUnusualAmount(order, history))
  check('unusual-quantity', findUnusualQuantity(units, history))
  check('country-mismatch', findCountryMismatch(order))
  check('burst', findBurst(ordersInMinute, history.window, shop))

  const points = rules.reduce((sum, rule) => sum + rule.points, 0)
  const riskScore = Math.min(points, MAX_SCORE)
  const verdict = riskScore >= FAIL_SCORE ? 'fail' : riskScore >= WARNING_SCORE ? 'warning' : 'pass'
  if (verdict !== 'fail') learn(order, units, history)
  return { riskScore, verdict, rules }
}

function learn({ currency, total }: OrderValidated, units: number, history: CustomerHistory): void {
  history.orders++
  history.units += units
  history.spent[currency] ??= { orders: 0, sumMinor: 0 }
  const spent = history.spent[currency]
  spent.orders++
  spent.sumMinor += total
}

function findUnusualAmount(
  { currency, total }: OrderValidated,
  { spent }: CustomerHistory,
): string | undefined {
  const unitMinor = 10 ** (MINOR_UNIT_DIGITS[currency] ?? 2) * (UNIT_VALUE[currency] ?? 1)
  const { orders, sumMinor } = spent[currency] ?? { orders: 0, sumMinor: 0 }
  if (orders < ENOUGH_ORDERS) {
    const limitMinor = UNUSUAL_AMOUNT_OF_NEWCOMER * unitMinor
    if (total <= limitMinor) return undefined
    return `${formatMoney(total, currency)}, and little is known of what this customer spends`
  }
  const usualMinor = sumMinor / orders
  if (total <= Math.max(AMOUNT_FACTOR * usualMinor, MIN_UNUSUAL_AMOUNT * unitMinor)) return undefined
  return `${formatMoney(total, currency)}, ${timesOf(total, usualMinor)} what this customer usually spends`
}

function findUnusualQuantity(units: number, history: CustomerHistory): string | undefined {
  if (history.orders < ENOUGH_ORDERS) {
    if (units <= UNUSUAL_QUANTITY_OF_NEWCOMER) return undefined
    return `${units} pieces, and little is known of what this customer orders`
  }
  const usualUnits = history.units / history.orders
  if (units < MIN_UNUSUAL_QUANTITY || units <= QUANTITY_FACTOR * usualUnits) return undefined
  return `${units} pieces, ${timesOf(units, usualUnits)} what this customer usually orders`
}

/** Silent when the order does not say where it goes, or nobody knows where the customer is from. */
function findCountryMismatch({ shippingAddress, customer }: OrderValidated): string | undefined {
  const to = shippingAddress?.country ?? ''
  const from = customer.country
  const codes = [countryCodeOf(to), countryCodeOf(from)]
  if (codes.includes('') || codes[0] === codes[1]) return undefined
  return `shipped to ${to.slice(0, 100)}, and the customer is from ${from.slice(0, 100)}`
}

/** Silent until the shop has one whole minute behind it: before that nothing is usual. */
function findBurst(ordersInMinute: number, window: OrderWindow, shop: OrderWindow): string | undefined {
  if (shop.usualOrders === 0) return undefined
  const shopSpeedUp = Math.max(1, shop.orders / shop.usualOrders, shop.previousOrders / shop.usualOrders)
  const usualOrders = Math.max(window.usualOrders, MIN_USUAL_ORDERS)
  if (ordersInMinute <= BURST_FACTOR * usualOrders * shopSpeedUp) return undefined
  return `${Math.round(ordersInMinute)} orders in a minute, ${timesOf(ordersInMinute, usualOrders)} as many as usual`
}

function timesOf(value: number, usual: number): string {
  return `${(value / usual).toFixed(1)} times`
}
