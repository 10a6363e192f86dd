/** Numbers, money and times as people read them, in the way of their browser's language. */
import { element } from './dom.js'

/** Minor units and times as in lib/dashboardSnapshot.ts. @typedef {Record<string, number>} Money */

const counts = new Intl.NumberFormat()
const tenths = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 })
const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 })
const shares = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1 })
const times = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })
const minutes = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' })

export const formatCount = (/** @type {number} */ count) => counts.format(count)
/** '12.3K': where there is little room. */
export const formatCompact = (/** @type {number} */ count) => compact.format(count)
/** Tenths matter below a hundred. */
export const formatRate = (/** @type {number} */ rate) =>
  rate > 0 && rate < 100 ? tenths.format(rate) : counts.format(Math.round(rate))
export const formatShare = (/** @type {number} */ share) => shares.format(share)
export const formatTime = (/** @type {number} */ atMs) => times.format(atMs)
export const formatMinute = (/** @type {number} */ atMs) => minutes.format(atMs)

/** @param {number | undefined} durationMs */
export function formatDuration(durationMs) {
  if (durationMs === undefined) return '–'
  if (durationMs < 1_000) return `${counts.format(Math.round(durationMs))} ms`
  if (durationMs < 60_000) return `${tenths.format(durationMs / 1_000)} s`
  return `${tenths.format(durationMs / 60_000)} min`
}

/**
 * @typedef {object} CurrencyFormats
 * @property {Intl.NumberFormat} exact
 * @property {Intl.NumberFormat} whole without cents
 * @property {Intl.NumberFormat} amount without the currency
 * @property {number} units how many minor units make one: 100 cents, 1 yen
 */

/** Making them is slow, using them is not. @type {Map<string, CurrencyFormats>} */
const currencyFormats = new Map()
const MAX_CURRENCIES = 50

/** @param {string} currency */
function formatsOf(currency) {
  const known = currencyFormats.get(currency)
  if (known) return known
  if (currencyFormats.size >= MAX_CURRENCIES) currencyFormats.clear()
  const style = /** @type {const} */ ({ style: 'currency', currency, currencyDisplay: 'code' })
  const exact = new Intl.NumberFormat(undefined, style)
  const { maximumFractionDigits = 2 } = exact.resolvedOptions()
  const made = {
    exact,
    whole: new Intl.NumberFormat(undefined, { ...style, maximumFractionDigits: 0 }),
    amount: new Intl.NumberFormat(undefined, {
      minimumFractionDigits: maximumFractionDigits,
      maximumFractionDigits,
    }),
    units: 10 ** maximumFractionDigits,
  }
  currencyFormats.set(currency, made)
  return made
}

/** How many minor units make one of a currency. @param {string} currency */
export const minorUnits = (currency) => formatsOf(currency).units

/** @param {number} amountMinor @param {string} currency @param {{ isWhole?: boolean }} [options] without cents */
export function formatMoney(amountMinor, currency, { isWhole = false } = {}) {
  const { exact, whole, units } = formatsOf(currency)
  return (isWhole ? whole : exact).format(amountMinor / units)
}

/** Money where its currency stands above. @param {number} amountMinor @param {string} currency */
export function formatAmount(amountMinor, currency) {
  const { amount, units } = formatsOf(currency)
  return amount.format(amountMinor / units)
}

/** @param {Money} money @param {{ isWhole?: boolean }} [options] */
export function formatMoneys(money, options) {
  const amounts = Object.entries(money).map(([currency, minor]) => formatMoney(minor, currency, options))
  return amounts.length === 0 ? '–' : amounts.join(', ')
}

/** The time here, with UTC for whoever points at it. @param {number} atMs @param {(atMs: number) => string} [format] */
export function timeElement(atMs, format = formatTime) {
  const utc = new Date(atMs).toISOString()
  return element('time', { datetime: utc, title: `${utc.replace('T', ' ').slice(0, 19)} UTC` }, format(atMs))
}
