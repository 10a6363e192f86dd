import { type DeadLetterSummary, Ledger, type QueueContext, readLetters } from './deadLetterQueue.ts'
import {
  formatLetter,
  formatLetters,
  formatSummary,
  lettersOf,
  printable,
  QueueSummary,
  summaryToJson,
  toJson,
} from './dlqDisplay.ts'
import type { DlqPlan } from './dlqPlan.ts'
import { selectLetters } from './dlqSelection.ts'
import { drop, redrive, settleLetters } from './dlqSettle.ts'
import { ConfigurationError } from './errors.ts'
import { Progress } from './progress.ts'
import type { TopicRecord } from './topicReader.ts'

/** Who asked, and sees what comes of it. */
export interface Terminal {
  /** Takes the result; resolves when it is out. */
  print(text: string): Promise<void>
  /** Takes what is said beside it: lines, progress. */
  notes: { isTTY?: boolean; columns?: number; write(text: string): unknown }
  /** Lines of a table are cut to so many columns, if it is known. */
  columns: number | undefined
  /** Asks yes or no; undefined where nobody can be asked. */
  ask: ((question: string) => Promise<boolean>) | undefined
}

const DEFAULT_ROWS = 50

/**
 * Does what was asked for.
 *
 * @returns whether nothing of it was refused
 * @throws ConfigurationError when there is nothing to show, or a question was answered with no or by nobody
 */
export async function runDlq(context: QueueContext, plan: DlqPlan, terminal: Terminal): Promise<boolean> {
  const ledger = await Ledger.read(context, plan.groups)
  if (plan.command === 'list') return list(context, plan, ledger, terminal)
  if (plan.command === 'show') return show(context, plan, ledger, terminal)
  return settle(context, plan, ledger, terminal)
}

/** The latest letters in a table, and all in a summary. */
async function list(
  context: QueueContext,
  plan: DlqPlan,
  ledger: Ledger,
  { print, columns }: Terminal,
): Promise<true> {
  const summary = new QueueSummary()
  const rows = plan.limit ?? DEFAULT_ROWS
  let latest: DeadLetterSummary[] = []
  const keepLatest = () => {
    latest = latest.sort((a, b) => a.whenMs - b.whenMs).slice(-rows)
  }
  await readLetters(context, plan.groups, ledger, (letter, { value }) => {
    if (!plan.matches(letter, value)) return
    summary.add(letter)
    latest.push(letter)
    if (latest.length > rows * 2) keepLatest()
  })
  keepLatest()
  if (plan.json) {
    const { total, states, kinds } = summary
    await print(`${JSON.stringify({ total, states, kinds, letters: latest.map(summaryToJson) })}\n`)
  } else {
    const table = latest.length > 0 ? `${formatLetters(latest, columns)}\n` : ''
    await print(table + formatSummary(summary, latest.length))
  }
  return true
}

/** One letter in full: the latest of those that match. */
async function show(
  context: QueueContext,
  plan: DlqPlan,
  ledger: Ledger,
  { print, notes }: Terminal,
): Promise<true> {
  let latest: [DeadLetterSummary, TopicRecord] | undefined
  let matches = 0
  await readLetters(context, plan.groups, ledger, (letter, record) => {
    if (!plan.matches(letter, record.value)) return
    matches++
    if (!latest || letter.whenMs >= latest[0].whenMs) latest = [letter, record]
  })
  if (!latest) throw new ConfigurationError('no dead letter matches (--all looks at settled ones too)')
  await print(plan.json ? `${JSON.stringify(toJson(...latest))}\n` : formatLetter(...latest))
  if (matches > 1) notes.write(`${matches - 1} more match: --position shows another one\n`)
  return true
}

/** Redrives or drops all that match, after a question where there are several. */
async function settle(
  context: QueueContext,
  plan: DlqPlan,
  ledger: Ledger,
  terminal: Terminal,
): Promise<boolean> {
  const { print, notes } = terminal
  const { chosen, refused, left, ends } = await selectLetters(context, plan, ledger)
  for (const { letter, why } of refused.slice(0, DEFAULT_ROWS)) {
    notes.write(`refused ${letter.position} (${printable(letter.order ?? 'no key')}): ${why}\n`)
  }
  if (refused.length > DEFAULT_ROWS) notes.write(`and ${refused.length - DEFAULT_ROWS} more were refused\n`)
  await confirm(plan, chosen.length, terminal)

  const isRedrive = plan.command === 'redrive'
  const { color } = context.config.log
  const progress = new Progress({ total: chosen.length, unit: 'dead letters', output: notes, color })
  const toSettlement = isRedrive ? redrive : drop(plan.why)
  const written = await settleLetters(context, chosen, ends, toSettlement, (total) => progress.update(total))
  if (chosen.length > 0) progress.finish(written)

  const done = isRedrive ? 'redriven' : 'dropped'
  const refusals = refused.map(({ letter, why }) => ({ position: letter.position, why }))
  const sentence = `${lettersOf(written)} ${done}${refused.length > 0 ? `, ${refused.length} refused` : ''}`
  await print(plan.json ? `${JSON.stringify({ [done]: written, refused: refusals })}\n` : `${sentence}\n`)
  const missing = chosen.length - written
  if (missing > 0) notes.write(`${missing} were not: it was asked to end, or they are gone meanwhile\n`)
  else if (left > 0)
    notes.write(`${lettersOf(left)} more ${left === 1 ? 'matches' : 'match'}: run it again for the rest\n`)
  return refused.length === 0 && missing === 0
}

/** @throws ConfigurationError when the answer is no, or nobody is there to be asked */
async function confirm(plan: DlqPlan, count: number, { ask }: Terminal): Promise<void> {
  // To drop is to give up: that is asked for a single one too.
  if (plan.isConfirmed || count === 0 || (count === 1 && plan.command === 'redrive')) return
  const what = `${plan.command} ${lettersOf(count)}`
  if (!ask) throw new ConfigurationError(`to ${what} it wants to be told so: add --yes`)
  if (!(await ask(`${what}?`))) throw new ConfigurationError('nothing was changed')
}
