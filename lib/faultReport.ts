import type { AuditReport } from './auditReport.ts'
import type { Injection } from './faultInjection.ts'
import type { FaultRunOptions } from './faultRun.ts'
import { FAULT_KINDS, type FaultKind } from './faultSchedule.ts'
import { type Look, recoveryMs } from './recoveryWatch.ts'
import type { UnaskedEnd } from './trialPipeline.ts'

/** One fault as it was. Times are milliseconds since the load began. */
export interface ReportedFault {
  number: number
  kind: FaultKind
  target: string
  point?: string
  startedMs: number
  healedMs: number
  wasApplied: boolean
  note?: string
  /** For a fault that stood apart: until every partition was worked on again; null when that was not seen. */
  recoveryMs?: number | null
}

/** What came of all faults of one kind. */
export interface KindSummary {
  kind: FaultKind
  applied: number
  /** Of those that stood apart. */
  recoveriesMs: number[]
  recoveryP50Ms: number | null
  recoveryMaxMs: number | null
  /** Stood apart, and a partition still stood still when the next burst began. */
  notRecovered: number
}

/** What `npm run chaos -- --json` prints. */
export interface FaultReport {
  ok: boolean
  /** Why not, or why it counts for nothing. */
  failures: string[]
  seed: number
  seconds: number
  rate: number
  brokers: number
  guarantee: string
  faults: ReportedFault[]
  kinds: KindSummary[]
  /** From the end of the load until every group had done all; null when it had not by the deadline. */
  drainedMs: number | null
  unaskedEnds: UnaskedEnd[]
  audit: AuditReport
}

export interface RunResult {
  options: FaultRunOptions
  injections: readonly Injection[]
  looks: readonly Look[]
  failures: readonly string[]
  unaskedEnds: readonly UnaskedEnd[]
  drainedMs: number | undefined
  audit: AuditReport
}

/** With fewer, a run says little. */
const APPLIED_SHARE = 0.8

export function summariseRun(result: RunResult): FaultReport {
  const { options, audit, unaskedEnds } = result
  const { seed, seconds, rate, brokers, guarantee } = options
  const faults = reportFaults(result)
  const failures = [...result.failures]
  for (const { id, status } of unaskedEnds) failures.push(`${id} ended by itself (${status})`)
  const { validated, wentThrough } = audit.totals
  if (wentThrough * 2 < validated || validated === 0) {
    failures.push(`void: of ${validated} orders validated only ${wentThrough} were reserved and paid for`)
  }
  const applied = faults.filter(({ wasApplied }) => wasApplied).length
  if (applied < faults.length * APPLIED_SHARE) {
    failures.push(`void: of ${faults.length} faults only ${applied} came about`)
  }
  for (const { name, found } of audit.checks.filter(({ ok }) => !ok)) failures.push(`${name}: ${found}`)
  return {
    ok: failures.length === 0 && audit.ok,
    failures,
    seed,
    seconds,
    rate,
    brokers,
    guarantee,
    faults,
    kinds: FAULT_KINDS.map((kind) => summariseKind(kind, faults)),
    drainedMs: result.drainedMs === undefined ? null : Math.round(result.drainedMs),
    unaskedEnds: [...unaskedEnds],
    audit,
  }
}

/** In the order of the plan, each with its recovery where it stood apart. */
function reportFaults({ injections, looks }: RunResult): ReportedFault[] {
  const sorted = [...injections].sort((a, b) => a.fault.number - b.fault.number)
  return sorted.map(({ fault, startedMs, healedMs, wasApplied, note }, index) => {
    const { number, kind, target, point, isApart } = fault
    const nextMs = sorted[index + 1]?.startedMs ?? Number.POSITIVE_INFINITY
    const recovery =
      isApart && wasApplied ? { recoveryMs: roundOrNull(recoveryMs(looks, startedMs, nextMs)) } : {}
    return {
      number,
      kind,
      target,
      ...(point && { point }),
      startedMs: Math.round(startedMs),
      healedMs: Math.round(healedMs),
      wasApplied,
      ...(note && { note }),
      ...recovery,
    }
  })
}

function summariseKind(kind: FaultKind, faults: readonly ReportedFault[]): KindSummary {
  const applied = faults.filter((fault) => fault.kind === kind && fault.wasApplied)
  const measured = applied.flatMap((fault) => (fault.recoveryMs === undefined ? [] : [fault.recoveryMs]))
  const recoveriesMs = measured.filter((ms) => ms !== null).sort((a, b) => a - b)
  return {
    kind,
    applied: applied.length,
    recoveriesMs,
    recoveryP50Ms: recoveriesMs[Math.floor((recoveriesMs.length - 1) / 2)] ?? null,
    recoveryMaxMs: recoveriesMs.at(-1) ?? null,
    notRecovered: measured.length - recoveriesMs.length,
  }
}

function roundOrNull(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms)
}
