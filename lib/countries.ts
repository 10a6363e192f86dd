/**
 * Countries as people write them. Orders name them in English, in the ways of whoever placed them; what is to be
 * compared or looked up is the code (ISO 3166-1 alpha-2).
 */

/** Names by code: the usual one first, then others that are in use. The Channel Islands have two codes: the larger's. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  AE: ['United Arab Emirates'],
  AT: ['Austria'],
  AU: ['Australia'],
  BE: ['Belgium'],
  BG: ['Bulgaria'],
  BH: ['Bahrain'],
  BR: ['Brazil'],
  CA: ['Canada'],
  CH: ['Switzerland'],
  CY: ['Cyprus'],
  CZ: ['Czechia', 'Czech Republic'],
  DE: ['Germany'],
  DK: ['Denmark'],
  EE: ['Estonia'],
  ES: ['Spain'],
  FI: ['Finland'],
  FR: ['France'],
  GB: ['United Kingdom', 'UK', 'Great Britain'],
  GR: ['Greece', 'EL'],
  HK: ['Hong Kong'],
  HR: ['Croatia'],
  HU: ['Hungary'],
  IE: ['Ireland', 'EIRE'],
  IL: ['Israel'],
  IS: ['Iceland'],
  IT: ['Italy'],
  JE: ['Jersey', 'Channel Islands'],
  JP: ['Japan'],
  LB: ['Lebanon'],
  LT: ['Lithuania'],
  LU: ['Luxembourg'],
  LV: ['Latvia'],
  MT: ['Malta'],
  NL: ['Netherlands', 'The Netherlands'],
  NO: ['Norway'],
  PL: ['Poland'],
  PT: ['Portugal'],
  RO: ['Romania'],
  SA: ['Saudi Arabia'],
  SE: ['Sweden'],
  SG: ['Singapore'],
  SI: ['Slovenia'],
  SK: ['Slovakia'],
  US: ['United States', 'USA', 'United States of America'],
  ZA: ['South Africa', 'RSA'],
}

/** What stands where nobody said. */
const NOT_SAID = 'UNSPECIFIED'

const codes = new Map(
  Object.entries(NAMES).flatMap(([code, names]) =>
    [code, ...names].map((name) => [fold(name), code] as const),
  ),
)

/**
 * The code of a country, by its name or by its code, whatever the case. What is not in the table stands for itself,
 * folded, so that two writings of it are still the same country; empty when nothing is said.
 */
export function countryCodeOf(name: string): string {
  const folded = fold(name)
  if (folded === NOT_SAID) return ''
  return codes.get(folded) ?? folded
}

function fold(name: string): string {
  return name.trim().toUpperCase()
}
