/** Fields of requests. */
import Type, { type TString } from 'typebox'

/** As the event has it, but for NUL: PostgreSQL takes none, so what came of it would be a dead letter. */
export function withoutNul(text: TString): TString {
  return Type.String({ ...text, pattern: '^[^\\u0000]*$' })
}
