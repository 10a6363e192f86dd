/** '12,345'. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-GB')
}

/** '12.3 s'. */
export function formatSeconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
