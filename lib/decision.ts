import type { OrderValidated, Reason } from './events.ts'
import type { Verdict } from './judges.ts'
import { storableText } from './text.ts'

/** What becomes of an order. `totalMinor` is what it was priced at. */
export type Decision =
  | { isConfirmed: true; totalMinor: number; warnings: Reason[] }
  | { isConfirmed: false; reasons: Reason[] }

/** What is said of an order has to fit into a record, whatever judges say. */
const MAX_REASONS = 100
const MAX_MESSAGE_LENGTH = 500
const MAX_CODE_LENGTH = 100

/**
 * Decides an order: confirmed when no judge fails it and none is missing, with the warnings as a mark; else cancelled,
 * with the reasons of all who fail it and the name of each who is missing.
 *
 * @param verdicts by the judge's name, in the order in which reasons are to stand; undefined for what did not come in time
 */
export function decide(
  { total }: Pick<OrderValidated, 'total'>,
  verdicts: readonly (readonly [judge: string, verdict: Verdict | undefined])[],
): Decision {
  const failures: Reason[] = []
  const warnings: Reason[] = []
  let totalMinor = total
  for (const [judge, verdict] of verdicts) {
    if (!verdict) failures.push({ code: 'decision-timeout', message: `${judge} did not answer in time` })
    else if (verdict.result === 'fail') failures.push(...reasonsOf(judge, verdict))
    else if (verdict.result === 'warning') warnings.push(...reasonsOf(judge, verdict))
    totalMinor = verdict?.totalMinor ?? totalMinor
  }
  if (failures.length > 0) return { isConfirmed: false, reasons: bound(failures) }
  return { isConfirmed: true, totalMinor, warnings: bound(warnings) }
}

/** A judge that says no has a reason, even if it does not tell it. */
function reasonsOf(judge: string, { reasons, result }: Verdict): Reason[] {
  return reasons.length > 0 ? reasons : [{ code: judge, message: `${judge} says ${result}` }]
}

function bound(reasons: Reason[]): Reason[] {
  return reasons.slice(0, MAX_REASONS).map(({ code, message }) => ({
    code: storableText(code, MAX_CODE_LENGTH),
    message: storableText(message, MAX_MESSAGE_LENGTH),
  }))
}
