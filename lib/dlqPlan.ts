import { type DeadLetterSummary, orderIdIn } from './deadLetterQueue.ts'
import { ConfigurationError } from './errors.ts'
import { parseInstant } from './instant.ts'
import { parsePosition } from './record.ts'
import type { GroupName } from './topics.ts'

export const DLQ_COMMANDS = ['list', 'show', 'redrive', 'drop'] as const
export type DlqCommand = (typeof DLQ_COMMANDS)[number]

export const DLQ_FLAGS = {
  group: { type: 'string' },
  reason: { type: 'string' },
  order: { type: 'string' },
  since: { type: 'string' },
  until: { type: 'string' },
  position: { type: 'string' },
  all: { type: 'boolean' },
  limit: { type: 'string' },
  'max-redrives': { type: 'string' },
  why: { type: 'string' },
  yes: { type: 'boolean', short: 'y' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

export type DlqFlagValues = { [Flag in keyof typeof DLQ_FLAGS]?: string | boolean }

/** What the tool is asked to do. */
export interface DlqPlan {
  command: DlqCommand
  groups: readonly GroupName[]
  /** Whether a letter is meant; the value of its record is looked at only where the rest leaves a doubt. */
  matches(letter: DeadLetterSummary, value: Buffer | null): boolean
  limit: number | undefined
  maxRedrives: number
  why: string
  isConfirmed: boolean
  json: boolean
}

const DEFAULT_MAX_REDRIVES = 3

/**
 * What the command line asks for.
 *
 * @param known the groups of this wiring
 * @throws ConfigurationError for what cannot be, with a sentence on what can
 */
export function readDlqPlan(
  command: string | undefined,
  values: DlqFlagValues,
  known: readonly GroupName[],
): DlqPlan {
  const text = (flag: keyof DlqFlagValues) => values[flag] as string | undefined
  const isKnown = (name: string | undefined): name is DlqCommand => DLQ_COMMANDS.includes(name as DlqCommand)
  if (!isKnown(command)) {
    const said = command === undefined ? 'say what to do' : `'${command}' is not known`
    throw new ConfigurationError(`${said}: it takes ${DLQ_COMMANDS.join(', ')} (see --help)`)
  }
  refuseForeignFlags(command, values)
  const group = text('group')
  if (group !== undefined && !known.includes(group as GroupName)) {
    throw new ConfigurationError(`--group ${group} is not usable: it takes one of ${known.join(', ')}`)
  }
  return {
    command,
    groups: group === undefined ? known : [group as GroupName],
    matches: createFilter(command, values),
    limit: wholeNumber('limit', text('limit'), 1, 1_000_000),
    maxRedrives: wholeNumber('max-redrives', text('max-redrives'), 1, 1_000_000) ?? DEFAULT_MAX_REDRIVES,
    why: text('why')?.trim() || 'by hand',
    isConfirmed: values.yes === true,
    json: values.json === true,
  }
}

function refuseForeignFlags(command: DlqCommand, values: DlqFlagValues): void {
  const only: Partial<Record<keyof DlqFlagValues, readonly DlqCommand[]>> = {
    all: ['list', 'show'],
    'max-redrives': ['redrive'],
    why: ['drop'],
    yes: ['redrive', 'drop'],
  }
  for (const [flag, commands] of Object.entries(only)) {
    if (values[flag as keyof DlqFlagValues] !== undefined && !commands.includes(command)) {
      throw new ConfigurationError(`--${flag} goes with ${commands.join(' and ')}, not with ${command}`)
    }
  }
}

/** Letters are told by what they are, and by what became of them: only `list` and `show` look at settled ones. */
function createFilter(command: DlqCommand, values: DlqFlagValues): DlqPlan['matches'] {
  const text = (flag: keyof DlqFlagValues) => values[flag] as string | undefined
  const [since, until, position, reason, order] = [
    text('since'),
    text('until'),
    text('position'),
    text('reason')?.toLowerCase(),
    text('order'),
  ]
  const sinceMs = since === undefined ? Number.NEGATIVE_INFINITY : parseInstant('--since', since)
  const untilMs = until === undefined ? Number.POSITIVE_INFINITY : parseInstant('--until', until)
  if (sinceMs >= untilMs)
    throw new ConfigurationError('--since must be before --until: nothing is between them')
  if (position !== undefined && !parsePosition(position)) {
    throw new ConfigurationError(`--position ${position} is not usable: it takes topic/partition/offset`)
  }
  const isChange = command === 'redrive' || command === 'drop'
  const isMeant = (state: DeadLetterSummary['state']) =>
    state === 'open' || (!isChange && (state === 'under way' || values.all === true))
  return (letter, value) =>
    isMeant(letter.state) &&
    letter.whenMs >= sinceMs &&
    letter.whenMs < untilMs &&
    (position === undefined || letter.position === position || letter.source === position) &&
    (reason === undefined || letter.reason.toLowerCase().includes(reason)) &&
    (order === undefined || letter.order === order || orderIdIn(value) === order)
}

function wholeNumber(flag: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (value >= min && value <= max) return value
  throw new ConfigurationError(
    `--${flag} ${text} is not usable: it takes a whole number from ${min} to ${max}`,
  )
}
