import { ConfigurationError } from './errors.ts'

/**
 * The number that a flag was given.
 *
 * @throws ConfigurationError that names the flag, its value and what is allowed
 */
export function readNumberFlag(
  flag: string,
  text: string,
  { min, max, isWhole }: { min: number; max: number; isWhole: boolean },
): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (value >= min && value <= max && (!isWhole || Number.isInteger(value))) return value
  throw new ConfigurationError(
    `--${flag} ${text} is not usable: it takes a ${isWhole ? 'whole ' : ''}number from ${min} to ${max}`,
  )
}
