import { type DeadLetterSummary, type Ledger, type QueueContext, readLetters } from './deadLetterQueue.ts'
import type { DlqPlan } from './dlqPlan.ts'
import type { OffsetsByPartition, TopicRecord } from './topicReader.ts'
import { sizeOfHeaders } from './transaction.ts'

export interface Selection {
  /** What is to be settled, oldest first. */
  chosen: DeadLetterSummary[]
  refused: { letter: DeadLetterSummary; why: string }[]
  /** How many more could be settled, above the limit. */
  left: number
  /** The positions that the letters were read to. */
  ends: OffsetsByPartition
}

/** Most letters that one run settles when it is not told. */
const DEFAULT_LIMIT = 100_000
/** What a redriven record has more than its letter: two headers, and the batch around it. */
const REDRIVE_OVERHEAD_BYTES = 4_096

/** The letters that are meant, without their bodies. Reads all letters once. */
export async function selectLetters(
  context: QueueContext,
  plan: DlqPlan,
  ledger: Ledger,
): Promise<Selection> {
  const limit = plan.limit ?? DEFAULT_LIMIT
  let chosen: DeadLetterSummary[] = []
  let matches = 0
  const keepOldest = () => {
    chosen = chosen.sort((a, b) => a.whenMs - b.whenMs).slice(0, limit)
  }
  const refused: Selection['refused'] = []
  const ends = await readLetters(context, plan.groups, ledger, (letter, record) => {
    if (!plan.matches(letter, record.value)) return
    const why = plan.command === 'redrive' ? whyNot(letter, record, plan, context) : undefined
    // Those that are refused stay where they are: counted in, they would take the places of the others run after run.
    if (why !== undefined) {
      refused.push({ letter, why })
      return
    }
    matches++
    chosen.push(letter)
    if (chosen.length > limit * 2) keepOldest()
  })
  keepOldest()
  refused.sort((a, b) => a.letter.whenMs - b.letter.whenMs)
  return { chosen, refused, left: matches - chosen.length, ends }
}

/** Why a letter cannot be redriven, if it cannot. */
function whyNot(
  { group, redrives, bytes }: DeadLetterSummary,
  { headers }: TopicRecord,
  { maxRedrives }: DlqPlan,
  { config }: QueueContext,
): string | undefined {
  if (redrives >= maxRedrives) {
    return `redriven ${redrives} of ${maxRedrives} times: mend the cause and raise --max-redrives, or drop it`
  }
  const { name, maxMessageBytes } = config.topics.retries[group]
  const total = bytes + sizeOfHeaders(headers)
  if (total > maxMessageBytes - REDRIVE_OVERHEAD_BYTES) {
    return `its ${total} bytes are more than ${name} takes: drop it`
  }
  return undefined
}
