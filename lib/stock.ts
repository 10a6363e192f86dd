import { UnusableRecordError } from './errors.ts'
import type { InventoryUpdated, OrderCompleted } from './events.ts'

/** What is known of a product's stock before a batch is decided. */
export interface StockLevel {
  available: number
  /** At or below this many left, an order that got its goods is told 'limited'. */
  lowLevel: number
}

/** By how much the counts of a product change. */
export interface StockChange {
  available: number
  reserved: number
  committed: number
}

export interface StockLine {
  sku: string
  quantity: number
}

export type StockOutcome = Pick<InventoryUpdated, 'status' | 'availability' | 'shortages'>

export type Settlement = 'COMMITTED' | 'RELEASED'

/** The verdict on an order that was cancelled before it was looked at. */
export const CANCELLED_UNHEARD: StockOutcome = {
  status: 'REJECTED',
  availability: 'unavailable',
  shortages: [],
}

/**
 * What a decision asks for, by the verdict that was given before it: `unheard` when there is none and there must never
 * be a reservation; undefined when there is nothing to do.
 *
 * @throws UnusableRecordError for an order that is confirmed and has no stock reserved: fulfilment never decides so
 */
export function settlementOf(
  { type, orderId }: OrderCompleted,
  verdict: InventoryUpdated | undefined,
): Settlement | 'unheard' | undefined {
  const isReserved = verdict?.status === 'RESERVED'
  if (type === 'OrderConfirmed') {
    if (isReserved) return 'COMMITTED'
    throw new UnusableRecordError(
      `${orderId} is confirmed, and its stock is ${verdict?.status ?? 'not decided'}`,
    )
  }
  if (isReserved) return 'RELEASED'
  return verdict === undefined ? 'unheard' : undefined
}

/** The stock that a batch concerns while the batch is decided: what it had before, and all changes since. */
export class StockBatch {
  readonly #levels: ReadonlyMap<string, StockLevel>
  readonly #changes = new Map<string, StockChange>()
  readonly #received = new Map<string, number>()

  /** @param levels by sku; a product that is not in it has no stock */
  constructor(levels: ReadonlyMap<string, StockLevel>) {
    this.#levels = levels
  }

  /** Reserves all lines of an order, or none: a part of an order is of no use to anybody. */
  reserve(lines: readonly StockLine[]): StockOutcome {
    const requested = quantities(lines)
    const shortages = [...requested]
      .map(([sku, quantity]) => ({ sku, requested: quantity, available: this.availableOf(sku) }))
      .filter(({ requested, available }) => requested > available)
    if (shortages.length > 0) return { status: 'REJECTED', availability: 'unavailable', shortages }

    let isLimited = false
    for (const [sku, quantity] of requested) {
      this.#change(sku, { available: -quantity, reserved: quantity, committed: 0 })
      isLimited ||= this.availableOf(sku) <= this.#levels.get(sku)!.lowLevel
    }
    return { status: 'RESERVED', availability: isLimited ? 'limited' : 'available', shortages: [] }
  }

  /** What an order had reserved leaves the house, or can be had again, by the next order of this batch too. */
  settle(status: Settlement, lines: readonly StockLine[]): StockOutcome {
    for (const { sku, quantity } of lines) {
      const [available, committed] = status === 'RELEASED' ? [quantity, 0] : [0, quantity]
      this.#change(sku, { available, reserved: -quantity, committed })
    }
    return { status, availability: 'available', shortages: [] }
  }

  /** Goods came in, for the orders that follow. Their receipt raises the stock, so they are not among the changes. */
  receive(sku: string, quantity: number): void {
    this.#received.set(sku, (this.#received.get(sku) ?? 0) + quantity)
  }

  /** By sku, without those that came out even. */
  changes(): [sku: string, change: StockChange][] {
    return [...this.#changes].filter(
      ([, { available, reserved, committed }]) => available !== 0 || reserved !== 0 || committed !== 0,
    )
  }

  availableOf(sku: string): number {
    const before = (this.#levels.get(sku)?.available ?? 0) + (this.#received.get(sku) ?? 0)
    return before + (this.#changes.get(sku)?.available ?? 0)
  }

  #change(sku: string, { available, reserved, committed }: StockChange): void {
    const change = this.#changes.get(sku)
    if (change) {
      change.available += available
      change.reserved += reserved
      change.committed += committed
    } else {
      this.#changes.set(sku, { available, reserved, committed })
    }
  }
}

/** How many of each product an order asks for; a product can stand in several lines. */
function quantities(lines: readonly StockLine[]): Map<string, number> {
  const bySku = new Map<string, number>()
  for (const { sku, quantity } of lines) bySku.set(sku, (bySku.get(sku) ?? 0) + quantity)
  return bySku
}
