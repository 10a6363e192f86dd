/**
 * How many orders came within the last minute, and how many usually do, in four numbers however many they are.
 *
 * It counts by minutes of event time, and what lies between two minutes is interpolated: the sliding window counter
 * that rate limiters use. What is usual is a moving average over the minutes in which there was an order at all, so a
 * week of silence does not make the next order a surprise.
 */
export interface OrderWindow {
  /** The minute that is being counted, in minutes since 1970; 0 before the first order. */
  minute: number
  /** Orders in that minute so far. */
  orders: number
  /** Orders in the minute before it. */
  previousOrders: number
  /** Orders in a minute that has any; 0 before the first one is over. */
  usualOrders: number
}

const MINUTE_MS = 60_000
/** What the last minute counts for in what is usual: after a lasting change three minutes bring it more than half there. */
const LATEST_SHARE = 0.25

export function createOrderWindow(): OrderWindow {
  return { minute: 0, orders: 0, previousOrders: 0, usualOrders: 0 }
}

/**
 * Counts an order.
 *
 * @param atMs when it was placed, in milliseconds since 1970
 * @returns how many there were in the minute up to then, itself included; 0 for one from before the minute that is being
 * counted, of which that can no longer be said
 */
export function countOrder(window: OrderWindow, atMs: number): number {
  const minute = Math.floor(atMs / MINUTE_MS)
  if (minute < window.minute) {
    if (minute === window.minute - 1) window.previousOrders++
    return 0
  }
  if (minute > window.minute) moveTo(window, minute)
  window.orders++
  const shareOfPrevious = 1 - (atMs - minute * MINUTE_MS) / MINUTE_MS
  return window.orders + window.previousOrders * shareOfPrevious
}

function moveTo(window: OrderWindow, minute: number): void {
  const { orders, usualOrders } = window
  if (usualOrders === 0) window.usualOrders = orders
  else if (orders > 0) window.usualOrders += LATEST_SHARE * (orders - usualOrders)
  window.previousOrders = minute === window.minute + 1 ? orders : 0
  window.minute = minute
  window.orders = 0
}
