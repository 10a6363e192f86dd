/**
 * What else is known of an order: a table for each kind of row.
 *
 * @import { OrderWayAnswer } from '../lib/orderWayRoutes.ts'
 */
import { element, keepChildren, setText } from './dom.js'
import { formatCount, formatDuration, formatMoney, timeElement } from './formats.js'
import { titleOf } from './stages.js'

/** @typedef {string | number | null | undefined} Cell a number is aligned as one */
/** @typedef {{ title: string, heads: string[], rows: { atMs?: number, cells: Cell[] }[] }} Table */

/** @param {HTMLElement} parent @param {OrderWayAnswer} way */
export function showRows(parent, way) {
  keepChildren(
    parent,
    tablesOf(way).filter(({ rows }) => rows.length > 0),
    { key: ({ title }) => title, create: createTable, update: showTable },
  )
}

/** @param {OrderWayAnswer} way @returns {Table[]} */
function tablesOf({ outcomes, ledger, stock, hops }) {
  return [
    {
      title: 'Outcomes that are stored',
      heads: ['When', 'Service', 'Operation', 'What was decided', 'Caused by'],
      rows: outcomes.map(({ decidedAtMs, service, operation, note, source }) => ({
        atMs: decidedAtMs,
        cells: [titleOf(service), operation, note, source],
      })),
    },
    {
      title: 'The books of the payment gateway',
      heads: ['When', 'Asked for', 'Answer', 'Amount', 'Authorisation', 'Why'],
      rows: ledger.map(
        ({ answeredAtMs, operation, status, amountMinor, currency, authorisationId, reason }) => ({
          atMs: answeredAtMs,
          cells: [operation, status, formatMoney(amountMinor, currency), authorisationId, reason],
        }),
      ),
    },
    {
      title: 'Stock of its products now',
      heads: ['Product', 'Received', 'Available', 'Reserved', 'Committed'],
      rows: stock.map(({ sku, received, available, reserved, committed }) => ({
        cells: [sku, received, available, reserved, committed],
      })),
    },
    {
      title: 'Hops through the Command Center',
      heads: ['When', 'From', 'For', 'To', 'Took', 'Refused because'],
      rows: hops.map(({ atMs, sender, workerName, targetTopic, processingTimeMs, error }) => ({
        atMs,
        cells: [sender, workerName, targetTopic, formatDuration(processingTimeMs), error],
      })),
    },
  ]
}

/** @param {Table} table */
function createTable({ title, heads, rows }) {
  const first = rows[0]?.atMs === undefined ? 0 : 1
  const isNumber = (/** @type {number} */ index) => typeof rows[0]?.cells[index - first] === 'number'
  const head = element(
    'tr',
    {},
    ...heads.map((name, index) =>
      element('th', isNumber(index) ? { scope: 'col', class: 'number' } : { scope: 'col' }, name),
    ),
  )
  const shown = element(
    'table',
    {},
    element('caption', {}, title),
    element('thead', {}, head),
    element('tbody'),
  )
  return element('section', { class: 'scrolling', tabindex: '0', 'aria-label': title }, shown)
}

/** @param {HTMLElement} section @param {Table} table */
function showTable(section, { rows }) {
  const body = /** @type {HTMLElement} */ (section.querySelector('tbody'))
  keepChildren(
    body,
    rows.map((row, index) => ({ ...row, index })),
    {
      key: ({ index }) => String(index),
      create: ({ atMs, cells }) => {
        const row = element('tr')
        if (atMs !== undefined) row.append(element('td', {}, timeElement(atMs)))
        for (const cell of cells)
          row.append(element('td', typeof cell === 'number' ? { class: 'number' } : {}))
        return row
      },
      update: (row, { atMs, cells }) => {
        const first = atMs === undefined ? 0 : 1
        for (const [index, cell] of cells.entries()) {
          const text = typeof cell === 'number' ? formatCount(cell) : (cell ?? '')
          setText(/** @type {Element} */ (row.cells[first + index]), text)
        }
      },
    },
  )
}
