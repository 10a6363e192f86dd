import { type Amounts, addAmount, addAmounts } from './amounts.ts'
import type { OrderItem } from './events.ts'

export interface ProductTotal {
  name: string
  /** When the order was placed that said the name: the latest counts. */
  namedMs: number
  quantity: number
  revenue: Amounts
}

/** Far above any catalogue that the pipeline is made for. */
const MAX_PRODUCTS = 100_000

/** What was sold of each product. Beyond the bound, products that are new are counted together. */
export class ProductTotals {
  readonly bySku = new Map<string, ProductTotal>()
  /** Quantity of the products that found no place. */
  otherQuantity = 0
  readonly #maxProducts: number

  constructor(maxProducts = MAX_PRODUCTS) {
    this.#maxProducts = maxProducts
  }

  add({ sku, name, quantity, unitPrice }: OrderItem, currency: string, placedMs: number): void {
    const total = this.#totalOf(sku)
    if (!total) {
      this.otherQuantity += quantity
      return
    }
    total.quantity += quantity
    addAmount(total.revenue, currency, quantity * unitPrice)
    rename(total, name, placedMs)
  }

  /** Adds the products of another partition. */
  addAll(other: ProductTotals): void {
    this.otherQuantity += other.otherQuantity
    for (const [sku, { name, namedMs, quantity, revenue }] of other.bySku) {
      const total = this.#totalOf(sku)
      if (!total) {
        this.otherQuantity += quantity
        continue
      }
      total.quantity += quantity
      addAmounts(total.revenue, revenue)
      rename(total, name, namedMs)
    }
  }

  #totalOf(sku: string): ProductTotal | undefined {
    let total = this.bySku.get(sku)
    if (!total && this.bySku.size < this.#maxProducts) {
      total = { name: '', namedMs: Number.NEGATIVE_INFINITY, quantity: 0, revenue: new Map() }
      this.bySku.set(sku, total)
    }
    return total
  }
}

/** The latest name, and of two at the same time always the same one, in whatever order they come. */
function rename(total: ProductTotal, name: string, namedMs: number): void {
  if (namedMs < total.namedMs || (namedMs === total.namedMs && name <= total.name)) return
  total.name = name
  total.namedMs = namedMs
}
