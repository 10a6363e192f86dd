/**
 * The big numbers on top.
 *
 * @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { element, find, keepChildren, setText } from './dom.js'
import { formatCount, formatMoney, formatMoneys, formatRate, formatShare, formatTime } from './formats.js'
import { sumDeadLetters } from './tables.js'

/** @typedef {{ name: string, label: string, values: string[], note: string }} Tile */
/** @typedef {Record<string, number>} Money */

/** @param {HTMLElement} section @param {DashboardSnapshot} snapshot */
export function showTotals(section, snapshot) {
  keepChildren(find(section, 'dl'), tilesOf(snapshot), {
    key: ({ name }) => name,
    create: ({ name, label }) =>
      element(
        'div',
        { class: 'tile', 'data-figure': name },
        element('dt', {}, label),
        element('dd', { class: 'tile-values' }),
        element('dd', { class: 'tile-note' }),
      ),
    update: (tile, { values, note }) => {
      keepChildren(
        find(tile, '.tile-values'),
        values.map((text, index) => ({ text, index })),
        {
          key: ({ index }) => String(index),
          create: () => element('span'),
          update: (value, { text }) => setText(value, text),
        },
      )
      setText(find(tile, '.tile-note'), note)
    },
  })
}

/** @param {DashboardSnapshot} snapshot @returns {Tile[]} */
function tilesOf({ ends, ...figures }) {
  const { confirmed, cancelled, rejected, deadLettered } = ends
  const decided = confirmed + cancelled.orders
  const ended = decided + rejected.orders
  const dead = sumDeadLetters(deadLettered)
  const since = figures.sinceMs === undefined ? '' : ` since ${formatTime(figures.sinceMs)}`
  const share = (/** @type {number} */ orders, /** @type {number} */ of) =>
    formatShare(of === 0 ? 0 : orders / of)
  return [
    {
      name: 'orders',
      label: 'Orders per second',
      values: [formatRate(figures.ordersPerSecond)],
      note: `${formatCount(figures.orders)} validated${since}`,
    },
    {
      name: 'booked',
      label: 'Booked per minute',
      values: perMinute(figures.bookedPerMinuteMinor),
      note: `in all ${formatMoneys(figures.bookedMinor)}`,
    },
    {
      name: 'captured',
      label: 'Captured per minute',
      values: perMinute(figures.capturedPerMinuteMinor),
      note: `in all ${formatMoneys(figures.capturedMinor)}`,
    },
    {
      name: 'confirmed',
      label: 'Confirmed',
      values: [formatCount(confirmed)],
      note: `${share(confirmed, decided)} of decided`,
    },
    {
      name: 'cancelled',
      label: 'Cancelled',
      values: [formatCount(cancelled.orders)],
      note: `${share(cancelled.orders, decided)} of decided`,
    },
    {
      name: 'rejected',
      label: 'Rejected',
      values: [formatCount(rejected.orders)],
      note: `${share(rejected.orders, ended)} of all`,
    },
    {
      name: 'dead-lettered',
      label: 'Dead letters',
      values: [dead === undefined ? '–' : formatCount(dead)],
      note: dead === undefined ? 'counting…' : dead === 0 ? 'none ever' : 'ever; npm run dlq lists them',
    },
  ]
}

/** A line for each currency. @param {Money} money */
function perMinute(money) {
  const values = Object.entries(money).map(([currency, minor]) =>
    formatMoney(minor, currency, { isWhole: true }),
  )
  return values.length === 0 ? ['–'] : values
}
