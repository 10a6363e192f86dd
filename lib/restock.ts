import type { Receipt } from './products.ts'
import type { StockBatch, StockLevel, StockLine } from './stock.ts'

/** What is known of a product's stock, and how many come in when little is left; 0: none. */
export interface RestockLevel extends StockLevel {
  restockQuantity: number
}

/**
 * What comes in because of an order that has been looked at: for each of its products that is low now, whether this
 * order took some or was refused for want of it. The batch has it from here on, for the orders that follow.
 *
 * An order is looked at once (its outcome is stored in the same transaction), and the receipt bears its name: so goods
 * come in once for it.
 *
 * @param levels by sku; a product that is not in it has no stock and gets none
 * @param isOnSale a withdrawn product is sold out
 */
export function restock(
  stock: StockBatch,
  levels: ReadonlyMap<string, RestockLevel>,
  isOnSale: (sku: string) => boolean,
  { orderId, items }: { orderId: string; items: readonly StockLine[] },
): Receipt[] {
  const receipts: Receipt[] = []
  for (const sku of new Set(items.map(({ sku }) => sku))) {
    const level = levels.get(sku)
    if (!level || level.restockQuantity === 0 || stock.availableOf(sku) > level.lowLevel) continue
    if (!isOnSale(sku)) continue
    stock.receive(sku, level.restockQuantity)
    receipts.push({ cause: `restock:${orderId}`, sku, quantity: level.restockQuantity })
  }
  return receipts
}
