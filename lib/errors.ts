/**
 * The errors that the pipeline tells apart. Everything else that is thrown is a bug, or a record that
 * cannot be used: the processor isolates the record and dead-letters it.
 */

/** Whether a failure is worth another try, and what a person can do about it. */
export abstract class PipelineError extends Error {
  abstract readonly code: string
  abstract readonly canRetry: boolean

  override get name(): string {
    return this.constructor.name
  }
}

/** The configuration or a command line is wrong. The message names the setting, its value and what is allowed. */
export class ConfigurationError extends PipelineError {
  readonly code = 'CONFIGURATION'
  readonly canRetry = false
}

/**
 * A dependency (database, gateway, broker) does not answer. Nothing is wrong with the records in hand: they
 * wait, and are tried again until it is back.
 */
export class UnavailableError extends PipelineError {
  readonly code = 'UNAVAILABLE'
  readonly canRetry = true

  /** @param dependency who does not answer, as a person would call it: 'PostgreSQL', 'payment gateway' */
  constructor(dependency: string, cause: unknown) {
    super(`${dependency} is not available: ${describe(cause)}`, { cause })
  }
}

/** A record that is not what its topic promises. It goes to the dead letters, with this message as the reason. */
export class UnusableRecordError extends PipelineError {
  readonly code = 'UNUSABLE_RECORD'
  readonly canRetry = false
}

/** Whether another try can help. */
export function canRetry(error: unknown): boolean {
  return error instanceof PipelineError && error.canRetry
}

/**
 * One sentence for an error of whatever kind. A refused connection to `localhost` is an AggregateError with
 * an empty message, one cause for each address: those are spelled out.
 */
export function describe(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(describe).join('; ')
  }
  if (error instanceof Error) return error.message || error.name
  return String(error)
}
