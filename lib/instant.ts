import { ConfigurationError } from './errors.ts'

const FORM = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?)?$/

/**
 * Milliseconds since 1970 of a time in ISO 8601. Without a zone it is UTC, as everywhere in the pipeline.
 *
 * @param flag what the user called it, for the error
 * @throws ConfigurationError
 */
export function parseInstant(flag: string, text: string): number {
  const match = FORM.exec(text)
  const timeMs = match ? Date.parse(match[1] && !match[4] ? `${text}Z` : text) : Number.NaN
  if (!Number.isNaN(timeMs)) return timeMs
  throw new ConfigurationError(
    `${flag} ${text} is not usable: it takes a time such as 2026-11-21T07:36:00Z, or a date`,
  )
}
