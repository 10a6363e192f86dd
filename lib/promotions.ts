import { readFileSync } from 'node:fs'
import Type, { type Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { ConfigurationError, describe } from './errors.ts'

/**
 * A line of the promotion table: so many percent off these products, or off all when it names none. The days are those
 * of UTC on which an order is placed, first and last included; without one it has always begun, or never ends.
 */
const PromotionLine = Type.Object(
  {
    code: Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,63}$' }),
    message: Type.String({ minLength: 1, maxLength: 200 }),
    percent: Type.Integer({ minimum: 1, maximum: 100 }),
    skus: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { minItems: 1 })),
    from: Type.Optional(Type.String({ format: 'date' })),
    to: Type.Optional(Type.String({ format: 'date' })),
  },
  // A misspelt 'skus' must not make it a promotion of everything.
  { additionalProperties: false },
)
type PromotionLine = Static<typeof PromotionLine>

const isTable = Compile(Type.Array(PromotionLine))

/** A promotion, ready to be asked about an order. */
export interface Promotion {
  code: string
  message: string
  percent: number
  /** Whether it holds for an order placed then: ISO 8601 in UTC. */
  isOn(placedAt: string): boolean
  covers(sku: string): boolean
}

/**
 * The promotion table in a file: a JSON array, see `data/promotions.json`.
 *
 * @throws ConfigurationError that names the file, the line of the table and what is wrong with it
 */
export function loadPromotions(file: string): Promotion[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigurationError(`the promotions cannot be read: ${describe(error)}`, { cause: error })
  }
  return parsePromotions(text, file)
}

/**
 * The text of a promotion table.
 *
 * @param file what an error calls it
 * @throws ConfigurationError
 */
export function parsePromotions(text: string, file: string): Promotion[] {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new ConfigurationError(`${file} is no promotion table: ${problem}`, { cause })
  }
  let table: unknown
  try {
    table = JSON.parse(text)
  } catch (error) {
    refuse(`not JSON, ${describe(error)}`, error)
  }
  if (!isTable.Check(table)) {
    const problems = isTable.Errors(table).slice(0, 3)
    return refuse(problems.map(({ instancePath, message }) => `${instancePath || '/'} ${message}`).join('; '))
  }
  const seen = new Set<string>()
  for (const { code, from, to } of table) {
    if (seen.has(code)) refuse(`the code '${code}' stands there twice`)
    seen.add(code)
    if (from !== undefined && to !== undefined && from > to)
      refuse(`'${code}' ends (${to}) before it begins (${from})`)
  }
  return table.map(makePromotion)
}

function makePromotion({ code, message, percent, skus, from = '', to }: PromotionLine): Promotion {
  const covered = skus && new Set(skus)
  return {
    code,
    message,
    percent,
    isOn(placedAt) {
      const day = placedAt.slice(0, 10)
      return day >= from && (to === undefined || day <= to)
    },
    covers: (sku) => covered === undefined || covered.has(sku),
  }
}
