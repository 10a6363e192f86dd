/** Median, lowest and highest of some figures. */
export interface Spread {
  median: number
  min: number
  max: number
}

/** NaN throughout when there are none. */
export function spreadOf(figures: readonly number[]): Spread {
  if (figures.length === 0) return { median: Number.NaN, min: Number.NaN, max: Number.NaN }
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

/** '1.12 (1.05 to 1.20)', '1.12' for one alone, '' for none. */
export function describeSpread(figures: readonly number[], digits = 2): string {
  if (figures.length === 0) return ''
  const { median, min, max } = spreadOf(figures)
  const text = median.toFixed(digits)
  return figures.length === 1 ? text : `${text} (${min.toFixed(digits)} to ${max.toFixed(digits)})`
}
