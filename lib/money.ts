/**
 * Money is an integer in the minor unit of its currency (pence, cents, yen) with an ISO 4217 code. It is never
 * a fraction, so sums are exact up to 2^53.
 */

/** Number of decimal places of the minor unit, by ISO 4217. These are the currencies that orders may use. */
export const MINOR_UNIT_DIGITS: Readonly<Record<string, number>> = { EUR: 2, GBP: 2, JPY: 0, USD: 2 }

/** Thrown by {@link parseDecimal} for text that is no decimal number. */
export class NotADecimalError extends Error {}

/**
 * Minor units of a decimal in text, rounded half up (away from zero for negatives, as accountants do), without
 * a detour through binary fractions: '2.55' is 255, '0.001' is 0, '-11062.06' is -1106206.
 *
 * @throws NotADecimalError when the text is no plain decimal number or is beyond 2^53
 */
export function parseDecimal(text: string, fractionDigits = 2): number {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text.trim())
  if (!match) throw new NotADecimalError(`'${text}' is not a decimal number`)
  const [, sign, whole = '', fraction = ''] = match
  const kept = fraction.slice(0, fractionDigits).padEnd(fractionDigits, '0')
  const roundUp = (fraction[fractionDigits] ?? '0') >= '5' ? 1 : 0
  const minor = Number(whole + kept) + roundUp
  if (!Number.isSafeInteger(minor)) throw new NotADecimalError(`'${text}' is too large`)
  return sign && minor !== 0 ? -minor : minor
}

/** Making one is slow, using it is not. */
const formats = new Map<number, Intl.NumberFormat>()

/** '1,234.56 EUR' for people. */
export function formatMoney(amountMinor: number, currency: string): string {
  const digits = MINOR_UNIT_DIGITS[currency] ?? 2
  let format = formats.get(digits)
  if (!format) {
    format = new Intl.NumberFormat('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits })
    formats.set(digits, format)
  }
  return `${format.format(amountMinor / 10 ** digits)} ${currency}`
}
