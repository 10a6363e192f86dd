/** The steps of the tour, in their order. Each asserts what it says: a step that shows something else has failed. */
import type { Narrator } from './tourNarrator.ts'
import type { TourPipeline } from './tourPipeline.ts'
import { killed } from './tourStepKilled.ts'
import { deadLetter, retry } from './tourStepsFailures.ts'
import { fanOut, sharing } from './tourStepsGroups.ts'
import { duplicate, replay } from './tourStepsRepeats.ts'

/** What a step works with. */
export interface Tour {
  pipeline: TourPipeline
  narrator: Narrator
}

/** What a step has counted, by name. */
export type Facts = Record<string, number>

export interface TourStep {
  name: string
  title: string
  /** What will be seen, in a sentence or two. */
  intro: string
  /** What it has shown. */
  conclusion: string
  /** The heading of docs/CONCEPTS.md that says more, as an anchor. */
  concept: string
  /** @throws ClaimError when it did not show what it says */
  run(tour: Tour): Promise<Facts>
}

export const TOUR_STEPS: readonly TourStep[] = [fanOut, sharing, retry, deadLetter, duplicate, replay, killed]
