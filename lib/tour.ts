/** The tour as a whole: servers, pipeline, steps one after the other, and everything gone again. */
import type { Config } from '../kafkaConfig.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'
import { formatSeconds } from './text.ts'
import { healGateway } from './tourGateway.ts'
import type { Narrator } from './tourNarrator.ts'
import { TourInterruptedError, TourPipeline } from './tourPipeline.ts'
import { findServers } from './tourServers.ts'
import { type Facts, TOUR_STEPS, type TourStep } from './tourSteps.ts'

export interface TourOptions {
  config: Config
  narrator: Narrator
  log: Logger
  signal: AbortSignal
}

export interface TourResult {
  ok: boolean
  seconds: number
  steps: { name: string; ok: boolean; seconds: number; facts?: Facts }[]
}

/**
 * Takes these steps, each whether those before it have failed or not, unless a process has crashed.
 *
 * @throws ConfigurationError when there is no Kafka or PostgreSQL to be had; TourInterruptedError
 */
export async function takeTour(steps: readonly TourStep[], options: TourOptions): Promise<TourResult> {
  const { config, narrator, log, signal } = options
  const startedMs = performance.now()
  narrator.heading('a tour of the order pipeline')
  narrator.say(
    `${steps.length === 1 ? 'One step' : `${steps.length} steps`}. All output is real: it comes from a pipeline of its own, and each step checks what it says. Ctrl-C ends it and takes everything away.`,
  )
  const servers = await narrator.waitFor(
    'Kafka and PostgreSQL',
    findServers(config, (line) => narrator.note(line)),
  )
  try {
    const starting = TourPipeline.start({ servers, log, signal })
    const pipeline = await narrator.waitFor('topics are made, services start', starting)
    try {
      narrator.say(
        `Commands are shown as one would type them, and were run with TOPIC_PREFIX=${pipeline.prefix} and a database of the tour's own; the prefix is left out below.`,
      )
      const taken = []
      for (const [index, step] of steps.entries()) {
        taken.push(await takeStep(step, index, { pipeline, ...options }))
        if (pipeline.isBroken) break
      }
      const seconds = (performance.now() - startedMs) / 1_000
      const ok = taken.length === steps.length && taken.every((step) => step.ok)
      const result = { ok, seconds, steps: taken }
      summarise(narrator, result)
      return result
    } finally {
      await narrator.waitFor('processes end, topics are deleted', pipeline.close())
    }
  } finally {
    await narrator.waitFor('the database is dropped', servers.close())
  }
}

async function takeStep(
  step: TourStep,
  index: number,
  { pipeline, narrator, log }: TourOptions & { pipeline: TourPipeline },
): Promise<TourResult['steps'][number]> {
  const { name, title, intro } = step
  if (index > 0) await narrator.pause()
  narrator.heading(`${TOUR_STEPS.indexOf(step) + 1}/${TOUR_STEPS.length} ${name}: ${title}`)
  narrator.say(intro)
  const startedMs = performance.now()
  const elapsed = () => (performance.now() - startedMs) / 1_000
  try {
    await narrator.waitFor('the services start', pipeline.ready())
    const facts = await step.run({ pipeline, narrator })
    narrator.conclude(step.conclusion, `docs/CONCEPTS.md#${step.concept}`)
    return { name, ok: true, seconds: elapsed(), facts }
  } catch (error) {
    if (error instanceof TourInterruptedError) throw error
    const [sentence = '', ...words] = describe(error).split('\n')
    narrator.complain(`This step has not shown what it says: ${sentence}`)
    narrator.show(words)
    // Whatever it broke is not to break the next.
    await healGateway(pipeline, log)
    return { name, ok: false, seconds: elapsed() }
  }
}

function summarise(narrator: Narrator, { ok, seconds, steps }: TourResult): void {
  narrator.heading('the end of the tour')
  const failed = steps.filter((step) => !step.ok).map(({ name }) => name)
  narrator.say(
    ok
      ? `All of it was so, in ${formatSeconds(seconds * 1_000)}. docs/CONCEPTS.md says how each is done, with the places in the code; npm start runs the whole pipeline.`
      : `Not so: ${failed.join(', ')}. npm run tour -- --step ${failed[0]} takes that step alone.`,
  )
}
