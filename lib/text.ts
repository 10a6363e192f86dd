/** '12,345'. @param digits so many behind the point, where it is not a whole number */
export function formatCount(count: number, digits?: number): string {
  if (digits === undefined) return count.toLocaleString('en-GB')
  return count.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** What somebody else wrote, as far as a database and an event take it: without NUL, and not longer than this. */
export function storableText(text: string, maxLength: number): string {
  return text.replaceAll('\0', '').slice(0, maxLength)
}

/** '12.3 s'. */
export function formatSeconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}

/**
 * A line for each row, in columns.
 *
 * @param alignedRight the columns of numbers
 * @param width cut lines to so many columns; as long as they are without it
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  alignedRight: ReadonlySet<number>,
  width?: number,
): string {
  const table = [header, ...rows]
  const widths = header.map((_, column) =>
    table.reduce((widest, row) => Math.max(widest, row[column]!.length), 0),
  )
  const pad = (cell: string, column: number) =>
    alignedRight.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
  return table.map((row) => `${row.map(pad).join('  ').trimEnd().slice(0, width)}\n`).join('')
}
