import type { FaultReport, ReportedFault } from './faultReport.ts'
import type { Fault } from './faultSchedule.ts'
import { formatCount, formatSeconds } from './text.ts'

/** The schedule as a table, a line for each fault. */
export function formatSchedule(faults: readonly Fault[]): string {
  const rows = faults.map(({ number, atMs, kind, target, point, forMs, isApart }) => [
    String(number),
    formatSeconds(atMs),
    kind,
    point ? `${target} at ${point}` : target,
    formatSeconds(forMs),
    isApart ? 'apart' : '',
  ])
  return toTable(['fault', 'at', 'kind', 'target', 'for', ''], rows)
}

/** The whole report as Markdown, which also reads well on a terminal. */
export function formatReport(report: FaultReport): string {
  const { audit, drainedMs } = report
  const { totals } = audit
  const applied = report.faults.filter(({ wasApplied }) => wasApplied).length
  return [
    '# Fault run',
    '',
    `\`${commandOf(report)}\``,
    '',
    `**${report.ok ? 'Passed' : 'Failed'}**: ${totals.lost} lost, ${totals.duplicated} duplicated, ${totals.chargedTwice} charged twice.`,
    ...report.failures.map((failure) => `- ${failure}`),
    '',
    toTable(
      ['', ''],
      [
        ['faults', `${applied} of ${report.faults.length} planned, ${kindsOf(report)} kinds`],
        ['orders placed', formatCount(totals.placed)],
        ['validated, rejected', `${formatCount(totals.validated)}, ${formatCount(totals.rejected)}`],
        ['reserved and paid for', formatCount(totals.wentThrough)],
        ['drained after the load', drainedMs === null ? 'not by the deadline' : formatSeconds(drainedMs)],
        [
          'records and rows audited',
          `${formatCount(sum(Object.values(audit.records)))}, ${formatCount(audit.rows)}`,
        ],
      ],
    ),
    '',
    '## Time to recover',
    '',
    'From the fault until every partition with work to do was worked on again, for faults that stood apart.',
    '',
    formatRecoveries(report),
    '',
    '## Audit',
    '',
    toTable(
      ['check', 'looked at', 'found', ''],
      audit.checks.map(({ name, lookedAt, found, ok, skipped }) => [
        name,
        formatCount(lookedAt),
        formatCount(found),
        skipped ? `not made: ${skipped}` : ok ? 'PASS' : 'FAIL',
      ]),
    ),
    '',
    '## Faults',
    '',
    toTable(['fault', 'at', 'healed', 'kind', 'target', 'recovered', ''], report.faults.map(faultRow)),
    '',
  ].join('\n')
}

function formatRecoveries({ kinds }: FaultReport): string {
  const rows = kinds.map(({ kind, applied, recoveriesMs, recoveryP50Ms, recoveryMaxMs, notRecovered }) => [
    kind,
    String(applied),
    String(recoveriesMs.length + notRecovered),
    recoveryP50Ms === null ? '-' : formatSeconds(recoveryP50Ms),
    recoveryMaxMs === null ? '-' : formatSeconds(recoveryMaxMs),
    notRecovered > 0 ? `${notRecovered} not before the next burst` : '',
  ])
  return toTable(['kind', 'faults', 'apart', 'p50', 'max', ''], rows)
}

function faultRow(fault: ReportedFault): string[] {
  const { number, startedMs, healedMs, kind, target, point, wasApplied, note, recoveryMs } = fault
  return [
    String(number),
    formatSeconds(startedMs),
    wasApplied ? formatSeconds(healedMs) : '-',
    kind,
    point ? `${target} at ${point}` : target,
    recoveryMs === undefined ? '' : recoveryMs === null ? 'not seen' : formatSeconds(recoveryMs),
    [wasApplied ? '' : 'not applied', note ?? ''].filter(Boolean).join(': '),
  ]
}

function commandOf({ seconds, seed, rate, brokers, guarantee, faults }: FaultReport): string {
  const flags = [`--seconds ${seconds}`, `--seed ${seed}`, `--faults ${faults.length}`, `--rate ${rate}`]
  if (brokers > 1) flags.push(`--brokers ${brokers}`)
  if (guarantee === 'naive') flags.push('--naive')
  return `npm run chaos -- ${flags.join(' ')}`
}

function kindsOf({ kinds }: FaultReport): number {
  return kinds.filter(({ applied }) => applied > 0).length
}

/** A Markdown table with its columns in line. */
function toTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  )
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join(
    '\n',
  )
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
