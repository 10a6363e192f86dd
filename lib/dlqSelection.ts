import { type DeadLetterSummary, type Ledger, type QueueContext, readLetters } from './deadLetterQueue.ts'
import type { DlqPlan } from './dlqPlan.ts'
import type { OffsetsByPartition, TopicRecord } from './topicReader.ts'
import { sizeOfHeaders } from './transaction.ts'

export interface Selection {
  /** What is to be settled, oldest first. */
  chosen: DeadLetterSummary[]
  refused: { letter: DeadLetterSummary; why: string }[]
  /** The positions that the letters were read to. */
  ends: OffsetsByPartition
}

/** What a redriven record has more than its letter: two headers, and the batch around it. */
const REDRIVE_OVERHEAD_BYTES = 4_096

/** The letters that are meant, without their bodies. Reads all letters once. */
export async function selectLetters(
  context: QueueContext,
  plan: DlqPlan,
  ledger: Ledger,
): Promise<Selection> {
  const matching: { letter: DeadLetterSummary; why: string | undefined }[] = []
  const ends = await readLetters(context, plan.groups, ledger, (letter, record) => {
    if (!plan.matches(letter, record.value)) return
    matching.push({
      letter,
      why: plan.command === 'redrive' ? whyNot(letter, record, plan, context) : undefined,
    })
  })
  const oldestFirst = matching.sort((a, b) => a.letter.whenMs - b.letter.whenMs).slice(0, plan.limit)
  const chosen: DeadLetterSummary[] = []
  const refused: Selection['refused'] = []
  for (const { letter, why } of oldestFirst) {
    if (why === undefined) chosen.push(letter)
    else refused.push({ letter, why })
  }
  return { chosen, refused, ends }
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
