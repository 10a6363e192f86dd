import type { DashboardSnapshot } from './dashboardSnapshot.ts'
import type { OrderEvent } from './orderStatistics.ts'

const MAX_ORDERS = 50
/** At a thousand orders a second each would be off the list before it came to its end, and before anybody could read it. */
const MOST_IN_A_SECOND = 5

type RecentOrder = DashboardSnapshot['recentOrders'][number]

/** Some of the orders seen lately and what became of them. Of many at once, the first few of each second. */
export class RecentOrders {
  /** In the order in which they were seen. */
  readonly #orders = new Map<string, RecentOrder>()
  #second = 0
  #inThisSecond = 0

  /** @param arrivedMs when the record was sent to Kafka */
  add(event: OrderEvent, arrivedMs: number): void {
    switch (event.type) {
      case 'OrderValidated':
        this.#take(event.orderId, arrivedMs, 'under way')
        break
      case 'OrderRejected':
        this.#take(event.orderId, arrivedMs, 'rejected')
        break
      case 'OrderConfirmed':
        this.#end(event.orderId, 'confirmed')
        break
      case 'OrderCancelled':
        this.#end(event.orderId, 'cancelled')
    }
  }

  /** Newest first. */
  get latest(): RecentOrder[] {
    return [...this.#orders.values()].reverse()
  }

  #take(orderId: string, atMs: number, end: string): void {
    const second = Math.floor(atMs / 1_000)
    if (second !== this.#second) this.#inThisSecond = 0
    this.#second = second
    const isFull = this.#orders.size >= MAX_ORDERS
    if (this.#orders.has(orderId) || (isFull && this.#inThisSecond >= MOST_IN_A_SECOND)) return
    this.#inThisSecond++
    this.#orders.set(orderId, { orderId, atMs, end })
    if (isFull) this.#orders.delete(this.#orders.keys().next().value!)
  }

  #end(orderId: string, end: string): void {
    const order = this.#orders.get(orderId)
    if (order) order.end = end
  }
}
