import { ConfigurationError } from './errors.ts'
import type { SummaryBy } from './hopStore.ts'
import { parseInstant } from './instant.ts'

export const TRAIL_FLAGS = {
  by: { type: 'string' },
  since: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

export type TrailFlagValues = { [Flag in keyof typeof TRAIL_FLAGS]?: string | boolean }

/** What the tool is asked: the way of one request, or figures of all since a time. */
export type TrailPlan = { json: boolean } & ({ requestId: string } | { by: SummaryBy; sinceMs: number })

const SUMMARIES: readonly SummaryBy[] = ['worker', 'route']
const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/**
 * What the command line asks for.
 *
 * @param words what stands on it beside the flags
 * @throws ConfigurationError for what cannot be, with a sentence on what can
 */
export function readTrailPlan(words: readonly string[], values: TrailFlagValues, nowMs: number): TrailPlan {
  const [requestId, ...more] = words
  const { by, since } = values as { by?: string; since?: string }
  const json = values.json === true
  if (more.length > 0)
    throw new ConfigurationError(`one order at a time: '${more[0]}' is one too many (see --help)`)
  if ((requestId === undefined) === (by === undefined)) {
    throw new ConfigurationError('say either the id of an order, or --by worker or --by route (see --help)')
  }
  if (requestId !== undefined) {
    if (since !== undefined)
      throw new ConfigurationError('--since goes with --by: the way of an order is told whole')
    return { json, requestId }
  }
  if (!SUMMARIES.includes(by as SummaryBy)) {
    throw new ConfigurationError(`--by ${by} is not usable: it takes ${SUMMARIES.join(' or ')}`)
  }
  return { json, by: by as SummaryBy, sinceMs: since === undefined ? 0 : parseSince(since, nowMs) }
}

/** Milliseconds since 1970 of '90s', '30m', '1h' or '7d' ago, or of a time in ISO 8601. */
function parseSince(text: string, nowMs: number): number {
  const ago = /^(\d{1,6})([smhd])$/.exec(text)
  if (ago) return Math.max(0, nowMs - Number(ago[1]) * UNITS_MS[ago[2] as keyof typeof UNITS_MS])
  if (/^\d{4}-/.test(text)) return parseInstant('--since', text)
  throw new ConfigurationError(
    `--since ${text} is not usable: it takes how long ago, such as 30m, 1h or 7d, or a time such as 2026-11-21T07:36:00Z`,
  )
}
