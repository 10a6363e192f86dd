import type { InventoryUpdated, OrderItem } from './events.ts'

/** What is known of a product's stock while a batch is decided. */
export interface StockLevel {
  available: number
  /** At or below this many left, an order that got its goods is told 'limited'. */
  lowLevel: number
}

export type Reservation = Pick<InventoryUpdated, 'status' | 'availability' | 'shortages'>

/**
 * Reserves all lines of an order, or none: a part of an order is of no use to anybody. Takes what it reserves off
 * `levels`, so that the next order sees what is left.
 *
 * @param levels by sku; a product that is not in it has no stock
 */
export function reserve(levels: ReadonlyMap<string, StockLevel>, items: readonly OrderItem[]): Reservation {
  const requested = quantities(items)
  const shortages = [...requested]
    .map(([sku, quantity]) => ({ sku, requested: quantity, available: levels.get(sku)?.available ?? 0 }))
    .filter(({ requested, available }) => requested > available)
  if (shortages.length > 0) return { status: 'REJECTED', availability: 'unavailable', shortages }

  let isLimited = false
  for (const [sku, quantity] of requested) {
    const level = levels.get(sku)!
    level.available -= quantity
    isLimited ||= level.available <= level.lowLevel
  }
  return { status: 'RESERVED', availability: isLimited ? 'limited' : 'available', shortages: [] }
}

/** How many of each product an order asks for; a product can stand in several lines. */
function quantities(items: readonly OrderItem[]): Map<string, number> {
  const bySku = new Map<string, number>()
  for (const { sku, quantity } of items) bySku.set(sku, (bySku.get(sku) ?? 0) + quantity)
  return bySku
}
