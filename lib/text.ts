/** '12,345'. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-GB')
}

/** What somebody else wrote, as far as a database and an event take it: without NUL, and not longer than this. */
export function storableText(text: string, maxLength: number): string {
  return text.replaceAll('\0', '').slice(0, maxLength)
}

/** '12.3 s'. */
export function formatSeconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
