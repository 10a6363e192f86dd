/** Sums of money by currency, in minor units. Currencies are never added to one another. */
export type Amounts = Map<string, number>

export function addAmount(amounts: Amounts, currency: string, amountMinor: number): void {
  amounts.set(currency, (amounts.get(currency) ?? 0) + amountMinor)
}

export function addAmounts(amounts: Amounts, more: ReadonlyMap<string, number>): void {
  for (const [currency, amountMinor] of more) addAmount(amounts, currency, amountMinor)
}

/** As an object with its currencies in alphabetical order, so that the same amounts are the same text. */
export function toSortedObject(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}
