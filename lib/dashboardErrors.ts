/** A request to the dashboard that is refused; answered as a problem (RFC 9457) with this status, which is below 500. */
export class RefusedError extends Error {
  readonly statusCode: number

  /** @param message for a person: why, and what to do */
  constructor(statusCode: number, message: string) {
    super(message)
    this.statusCode = statusCode
  }
}
