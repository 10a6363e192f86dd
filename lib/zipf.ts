/**
 * Draws ranks 0 to `size` - 1 by Zipf's law: the first is twice as likely as the second, three times as likely as
 * the third. Few products make up most of the sales.
 *
 * @param random gives numbers from 0 up to, not including, 1
 * @param exponent 1 for Zipf's law itself; less is flatter
 * @returns a draw, by binary search in the cumulated weights
 */
export function createZipf(size: number, random: () => number, exponent = 1): () => number {
  const cumulated = new Float64Array(size)
  let sum = 0
  for (let rank = 0; rank < size; rank++) {
    sum += 1 / (rank + 1) ** exponent
    cumulated[rank] = sum
  }
  return () => {
    const wanted = random() * sum
    let low = 0
    let high = size - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (cumulated[middle]! <= wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}
