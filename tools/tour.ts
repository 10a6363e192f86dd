/**
 * A tour (npm run tour): what the pipeline promises, shown on a pipeline of its own in three narrated minutes. What is
 * shown is what lies in Kafka, what the broker and the database tell, and what the tools print; each step asserts what it
 * says. Uses the Kafka and the PostgreSQL that are configured, where they run (with topics by a prefix and a database of
 * its own), and else brings some up; leaves nothing behind.
 *
 *   --step NAME   this step alone; may be given several times     --list   the steps by name
 *   --fast        no pauses to read   --json   the narration on standard error, and one line of JSON on standard output
 *
 * Exit status: 0 when each step has shown what it says, else 1.
 */
import { ConfigurationError } from '../lib/errors.ts'
import { runMain } from '../lib/service.ts'
import { wantsColor } from '../lib/terminal.ts'
import { takeTour } from '../lib/tour.ts'
import { Narrator } from '../lib/tourNarrator.ts'
import { TOUR_STEPS } from '../lib/tourSteps.ts'

const FLAGS = {
  step: { type: 'string', multiple: true },
  list: { type: 'boolean' },
  fast: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

await runMain(
  'tour',
  'Shows what the pipeline promises, in three narrated minutes.',
  FLAGS,
  async (service, flags) => {
    const { step = [], list, fast, json } = flags
    if (list) {
      const width = Math.max(...TOUR_STEPS.map(({ name }) => name.length))
      for (const { name, title } of TOUR_STEPS) console.log(`${name.padEnd(width)}  ${title}`)
      return
    }
    const names = TOUR_STEPS.map(({ name }) => name)
    const unknown = step.filter((name) => !names.includes(name))
    if (unknown.length > 0) {
      throw new ConfigurationError(`--step ${unknown[0]} is not known: it takes one of ${names.join(', ')}`)
    }
    const steps = TOUR_STEPS.filter(({ name }) => step.length === 0 || step.includes(name))
    const { config, log, signal } = service
    const screen = json ? process.stderr : process.stdout
    // Whoever read what we print has gone: `| head` is no error, and is told once.
    screen.once('error', () => process.emit('SIGTERM')).on('error', () => undefined)
    const isWatched = process.stdin.isTTY && screen.isTTY && !fast
    const narrator = new Narrator({
      screen,
      keys: isWatched ? process.stdin : undefined,
      color: wantsColor(screen),
      signal,
    })
    const result = await takeTour(steps, { config, log, signal, narrator })
    if (json) await new Promise((resolve) => process.stdout.write(`${JSON.stringify(result)}\n`, resolve))
    if (!result.ok) process.exitCode = 1
  },
)
