import type { AuditBook } from './auditBook.ts'
import { Finding, plain } from './auditReport.ts'
import type { AuditRows } from './auditRows.ts'
import { Kind } from './auditSlots.ts'

/**
 * Whether the stock adds up. Rows, receipts and stored outcomes are of one snapshot, and a service changes stock and
 * outcome in one transaction: so this holds exactly, also while orders are under way.
 */
export function checkStock(book: AuditBook, rows: AuditRows): Finding[] {
  const received = new Finding('received is the sum of the receipts', 3)
  const conserved = new Finding('received = available + reserved + committed', 3)
  const negative = new Finding('no count of stock is negative', 3)
  const taken = new Finding('reserved and committed are what orders took', 3)
  if (book.isWhole) bookStock(book, rows)
  else taken.skipped = 'the oldest records are deleted'
  for (const [sku, product] of book.stock.products) {
    const { row, receipts, reserved, committed } = book.stock.booksOf(product)
    const add = (finding: Finding, what: string) =>
      finding.add(() => ({ id: plain(sku), what, seen: [`stock[${plain(sku)}]`] }))
    if (row || receipts > 0) received.lookedAt++
    if ((row?.received ?? 0) !== receipts) {
      add(received, `received ${row?.received ?? 'nothing'}, the receipts are ${receipts}`)
    }
    if (row) {
      conserved.lookedAt++
      negative.lookedAt++
      const sum = row.available + row.reserved + row.committed
      if (row.received !== sum) add(conserved, `received ${row.received}, and ${sum} are there`)
      const counts = [row.available, row.reserved, row.committed].join(', ')
      if (Math.min(row.available, row.reserved, row.committed) < 0) {
        add(negative, `available, reserved, committed: ${counts}`)
      }
    }
    if (taken.skipped !== undefined) continue
    taken.lookedAt++
    if ((row?.reserved ?? 0) !== reserved || (row?.committed ?? 0) !== committed) {
      const stands = `${row?.reserved ?? 0} and ${row?.committed ?? 0}`
      add(taken, `reserved and committed are ${stands}, by the orders ${reserved} and ${committed}`)
    }
  }
  return [received, conserved, negative, taken]
}

/** What the orders hold, by their stored outcomes and the lines of the records that caused these. */
function bookStock({ orders, validated, lines, stock }: AuditBook, { outcomes }: AuditRows): void {
  for (let order = 0; order < orders.size; order++) {
    if (!orders.hasStored(order, Kind.reserved) && !orders.hasStored(order, Kind.notReserved)) continue
    const cell = orders.stockCell[order]! - 1
    if (cell < 0 || validated.orderAt(cell) !== order || lines[cell] === 0) {
      const id = plain(orders.idOf(order))
      const what = 'its source is no validated record of the order'
      outcomes.add(() => ({ id, what, seen: [`inventory_outcomes[${id}]`] }))
    } else if (orders.hasStored(order, Kind.reserved) && !orders.hasStored(order, Kind.released)) {
      stock.book(lines[cell]!, orders.hasStored(order, Kind.committed) ? 'committed' : 'reserved')
    }
  }
}
