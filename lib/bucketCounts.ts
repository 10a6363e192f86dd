/** How many values fell at or below each of some bounds: a Prometheus histogram without the cost of one for each record. */
export class BucketCounts {
  /** Upper bounds, inclusive and ascending; above the last there is one more bucket. */
  readonly bounds: readonly number[]
  /** Values by bucket, not summed up. */
  readonly counts: Float64Array
  sum = 0
  count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  /** Negative values, of clocks that differ, count as zero. */
  add(value: number): void {
    const { bounds } = this
    let bucket = 0
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++
    this.counts[bucket]!++
    this.sum += Math.max(0, value)
    this.count++
  }
}
