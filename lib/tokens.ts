/** Tokens are compared by what they hash to, which is of one length: how long it takes tells nothing of them. */
import { hash, timingSafeEqual } from 'node:crypto'

export function digestOf(token: string): Buffer {
  return Buffer.from(hash('sha256', token, 'hex'), 'hex')
}

/** Takes as long for a wrong text as for the right one. */
export function isSameText(given: string, wanted: string): boolean {
  return timingSafeEqual(digestOf(given), digestOf(wanted))
}
