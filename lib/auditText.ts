import type { AuditReport, CheckResult } from './auditReport.ts'
import { formatMoney } from './money.ts'
import { formatCount } from './text.ts'

const GREEN = 32
const RED = 31
const YELLOW = 33

/** The report as a table for people. */
export function formatAudit(report: AuditReport, color: boolean): string {
  const paint = (text: string, code: number) => (color ? `\u001b[${code}m${text}\u001b[0m` : text)
  const width = Math.max(...report.checks.map(({ name }) => name.length))
  const lines = [`   ${'check'.padEnd(width)}  ${'looked at'.padStart(12)}  ${'found'.padStart(9)}`]
  for (const check of report.checks) {
    const { guarantee, name, lookedAt, found } = check
    const cells = `${guarantee}  ${name.padEnd(width)}  ${formatCount(lookedAt).padStart(12)}  ${formatCount(found).padStart(9)}`
    lines.push(`${cells}  ${paint(verdictOf(check), colorOf(check))}`)
    if (check.skipped) lines.push(`     ${check.skipped}`)
    if (check.note) lines.push(`     ${check.note}`)
    for (const { id, what, seen } of check.offenders) {
      lines.push(`     ${paint(id, RED)}: ${what}${seen.length > 0 ? `  (${seen.join(', ')})` : ''}`)
    }
    if (found > check.offenders.length)
      lines.push(`     and ${formatCount(found - check.offenders.length)} more`)
  }
  lines.push('', ...summaryOf(report))
  const verdict = report.ok ? paint('PASS', GREEN) : paint('FAIL', RED)
  const failed = report.checks.filter(({ ok }) => !ok).length
  const skipped = report.checks.filter(({ skipped }) => skipped !== undefined).length
  const made = `${report.checks.length - skipped} checks`
  const notMade = skipped > 0 ? `, ${skipped} not made` : ''
  lines.push(`${verdict}: ${report.ok ? '' : `${failed} of `}${made}${notMade}`)
  return `${lines.join('\n')}\n`
}

function verdictOf({ ok, skipped }: CheckResult): string {
  if (skipped !== undefined) return 'not made'
  return ok ? 'PASS' : 'FAIL'
}

function colorOf({ ok, skipped }: CheckResult): number {
  if (skipped !== undefined) return YELLOW
  return ok ? GREEN : RED
}

function summaryOf({ totals, records, rows, seconds, drained }: AuditReport): string[] {
  const read = Object.values(records).reduce((sum, number) => sum + number, 0)
  const { placed, validated, rejected, confirmed, cancelled, underWay, deadLettersOpen } = totals
  const { lost, duplicated, chargedTwice } = totals
  return [
    `${formatCount(read)} records and ${formatCount(rows)} rows in ${seconds.toFixed(1)} s`,
    `placed ${formatCount(placed)}, validated ${formatCount(validated)}, rejected ${formatCount(rejected)}, confirmed ${formatCount(confirmed)}, cancelled ${formatCount(cancelled)}`,
    `${drained ? 'drained' : `under way ${formatCount(underWay)}`}, open dead letters ${formatCount(deadLettersOpen)}`,
    `lost ${formatCount(lost)}, duplicated ${formatCount(duplicated)}, charged twice ${formatCount(chargedTwice)}`,
    `validated ${money(totals.validatedMinor)}, authorised ${money(totals.authorisedMinor)}, captured ${money(totals.capturedMinor)}`,
  ]
}

function money(amounts: Record<string, number>): string {
  const parts = Object.entries(amounts).map(([currency, amountMinor]) => formatMoney(amountMinor, currency))
  return parts.length === 0 ? 'nothing' : parts.join(' + ')
}
