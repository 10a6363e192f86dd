/**
 * How orders end, top products and the event-time table.
 *
 * @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { element, find, keepChildren, setText } from './dom.js'
import { formatAmount, formatCount, formatMinute, formatMoneys, formatShare, timeElement } from './formats.js'
import { titleOf } from './stages.js'

/** Reasons of an end that get a row of their own; the rest share one. */
const MAX_REASONS = 12
const SHOWN_MINUTES = 12

/** `count` is undefined while it is not known. @typedef {{ name: string, count: number | undefined, isHead?: boolean }} EndRow */
/** `isOrders`: an end of orders, of all of which each row is a share. @typedef {{ name: string, isOrders: boolean, rows: EndRow[] }} EndGroup */

/** @param {Record<string, number>} deadLettered by group @returns {number | undefined} while they are being counted */
export function sumDeadLetters(deadLettered) {
  const counts = Object.values(deadLettered)
  return counts.length === 0 ? undefined : counts.reduce((sum, letters) => sum + letters, 0)
}

/** @param {HTMLElement} section @param {DashboardSnapshot} snapshot */
export function showEnds(section, { ends }) {
  const { confirmed, cancelled, rejected, deadLettered } = ends
  // A dead letter is no end of its order: redriven, it comes to one of these.
  const all = confirmed + cancelled.orders + rejected.orders
  const letters = Object.fromEntries(
    Object.entries(deadLettered).map(([group, count]) => [titleOf(group), count]),
  )
  /** @type {EndGroup[]} */
  const groups = [
    endGroup('confirmed', confirmed, {}),
    endGroup('cancelled', cancelled.orders, cancelled.reasons),
    endGroup('rejected', rejected.orders, rejected.reasons),
    { ...endGroup('dead letters, ever', sumDeadLetters(deadLettered), letters), isOrders: false },
  ]
  keepGroups(find(section, 'table'), groups, all)
}

/** @param {string} name @param {number | undefined} count @param {Record<string, number>} reasons @returns {EndGroup} */
function endGroup(name, count, reasons) {
  const sorted = Object.entries(reasons)
    .filter(([, orders]) => orders > 0)
    .sort(([a, first], [b, second]) => second - first || (a < b ? -1 : 1))
  const rows = sorted.slice(0, MAX_REASONS).map(([reason, orders]) => ({ name: reason, count: orders }))
  const rest = sorted.slice(MAX_REASONS).reduce((sum, [, orders]) => sum + orders, 0)
  if (rest > 0) rows.push({ name: 'other reasons', count: rest })
  /** @type {EndRow[]} */
  const all = [{ name, count, isHead: true }, ...rows]
  return { name, isOrders: true, rows: all }
}

/** @param {HTMLElement} table @param {EndGroup[]} groups @param {number} all */
function keepGroups(table, groups, all) {
  for (const group of groups) {
    let body = /** @type {HTMLElement | null} */ (table.querySelector(`tbody[data-end="${group.name}"]`))
    if (!body) {
      body = element('tbody', { 'data-end': group.name })
      table.append(body)
    }
    keepChildren(body, group.rows, {
      key: ({ name, isHead }) => (isHead ? '' : `/${name}`),
      create: ({ name, isHead }) =>
        element(
          'tr',
          { class: isHead ? 'bar-head' : 'bar-part' },
          element('th', { scope: 'row' }, name),
          group.isOrders ? barCell() : element('td'),
          element('td', { class: 'number' }),
        ),
      update: (row, { count }) => {
        if (group.isOrders) setShare(row, all === 0 ? 0 : (count ?? 0) / all)
        setText(
          /** @type {Element} */ (row.lastElementChild),
          count === undefined ? 'counting…' : formatCount(count),
        )
      },
    })
  }
}

function barCell() {
  return element('td', {}, element('span', { class: 'bar' }, element('span', { class: 'visually-hidden' })))
}

/** @param {HTMLElement} row @param {number} share */
function setShare(row, share) {
  const bar = find(row, '.bar')
  const percent = `${(share * 100).toFixed(1)}%`
  if (bar.style.getPropertyValue('--share') !== percent) bar.style.setProperty('--share', percent)
  setText(/** @type {Element} */ (bar.firstElementChild), formatShare(share))
}

/** @param {HTMLElement} section @param {DashboardSnapshot} snapshot */
export function showProducts(section, { topProducts }) {
  const most = topProducts[0]?.quantity ?? 1
  find(section, '.empty').hidden = topProducts.length > 0
  keepChildren(find(section, 'tbody'), topProducts, {
    key: ({ sku }) => sku,
    create: ({ sku }) =>
      element(
        'tr',
        { class: 'bar-head' },
        element(
          'th',
          { scope: 'row' },
          element('span', { class: 'product-name' }),
          element('span', { class: 'quiet sku' }, sku),
        ),
        barCell(),
        element('td', { class: 'number' }),
        element('td', { class: 'number money' }),
      ),
    update: (row, { name, quantity, bookedRevenueMinor }) => {
      setText(find(row, '.product-name'), name)
      setShare(row, quantity / most)
      setText(find(row, '.number'), formatCount(quantity))
      setText(find(row, '.money'), formatMoneys(bookedRevenueMinor, { isWhole: true }))
    },
  })
}

/** @param {HTMLElement} section @param {DashboardSnapshot} snapshot */
export function showMinutes(section, { minutes }) {
  const shown = minutes.slice(-SHOWN_MINUTES).reverse()
  const currencies = [
    ...new Set(shown.flatMap(({ bookedRevenueMinor }) => Object.keys(bookedRevenueMinor))),
  ].sort()
  find(section, '.empty').hidden = shown.length > 0
  find(section, '.scrolling').hidden = shown.length === 0
  keepChildren(find(section, 'thead tr'), ['Placed', 'Orders', ...currencies], {
    key: (name) => name,
    create: (name) =>
      element('th', name === 'Placed' ? { scope: 'col' } : { scope: 'col', class: 'number' }, name),
    update: () => undefined,
  })
  keepChildren(find(section, 'tbody'), shown, {
    key: ({ minute }) => minute,
    create: ({ minute }) =>
      element('tr', {}, element('th', { scope: 'row' }, timeElement(Date.parse(minute), formatMinute))),
    update: (row, { orders, bookedRevenueMinor }) => {
      const cells = [
        formatCount(orders),
        ...currencies.map((currency) => formatAmount(bookedRevenueMinor[currency] ?? 0, currency)),
      ]
      while (row.cells.length > cells.length + 1) row.deleteCell(-1)
      while (row.cells.length < cells.length + 1) row.append(element('td', { class: 'number' }))
      for (const [index, text] of cells.entries()) {
        setText(/** @type {Element} */ (row.cells[index + 1]), text)
      }
    },
  })
}
