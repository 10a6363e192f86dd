import type { Line } from './auditEvents.ts'
import { grown } from './auditOrderIds.ts'

export interface StockRow {
  sku: string
  received: number
  available: number
  reserved: number
  committed: number
}

/** What is kept of one product: its row, and what the receipts and the orders say that must stand there. */
export interface ProductBooks {
  row: StockRow | undefined
  receipts: number
  reserved: number
  committed: number
}

const FIRST_LENGTH = 1 << 16

/** The stock by product, and the lines of all orders in one column: count, then pairs of product and quantity. */
export class StockBooks {
  readonly #products = new Map<string, number>()
  readonly #books: ProductBooks[] = []
  #lines = new Int32Array(FIRST_LENGTH)
  /** 0 is kept free, so that it can mean none. */
  #end = 1

  get products(): ReadonlyMap<string, number> {
    return this.#products
  }

  booksOf(product: number): ProductBooks {
    return this.#books[product]!
  }

  takeRow(row: StockRow): void {
    this.booksOf(this.#numberOf(row.sku)).row = row
  }

  takeReceipts({ sku, quantity }: { sku: string; quantity: number }): void {
    this.booksOf(this.#numberOf(sku)).receipts += quantity
  }

  /** @returns where the lines stand, above 0 */
  keepLines(items: readonly Line[]): number {
    const start = this.#end
    this.#end += 1 + items.length * 2
    if (this.#end > this.#lines.length) {
      this.#lines = grown(this.#lines, Math.max(this.#end, Math.ceil(this.#lines.length * 1.5)))
    }
    this.#lines[start] = items.length
    let at = start
    for (const { sku, quantity } of items) {
      this.#lines[++at] = this.#numberOf(sku)
      this.#lines[++at] = quantity
    }
    return start
  }

  /** Books the lines that stand there. */
  book(start: number, column: 'reserved' | 'committed'): void {
    const end = start + this.#lines[start]! * 2
    for (let at = start; at < end; at += 2) {
      this.#books[this.#lines[at + 1]!]![column] += this.#lines[at + 2]!
    }
  }

  #numberOf(sku: string): number {
    let product = this.#products.get(sku)
    if (product === undefined) {
      product = this.#books.length
      this.#products.set(sku, product)
      this.#books.push({ row: undefined, receipts: 0, reserved: 0, committed: 0 })
    }
    return product
  }
}
