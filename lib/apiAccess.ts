/** Who may do what over HTTP. */
import { timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Problem } from './problem.ts'
import { digestOf } from './tokens.ts'

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])

interface Request {
  headers: { authorization?: string | undefined }
}

/**
 * Answers 401 to whoever writes without one of these tokens; with none given, everybody may. After the limits of how
 * often one may ask, so that tokens cannot be guessed faster than that; what is not there needs none.
 */
export function requireTokens(server: FastifyInstance, tokens: readonly string[]): void {
  if (tokens.length === 0) return
  const wanted = tokens.map(digestOf)
  server.addHook('preParsing', async ({ method, headers, is404 }) => {
    if (READING.has(method) || is404) return
    const given = digestOf(tokenOf({ headers }))
    // Every one is compared, and hashes are of one length: how long it takes tells nothing.
    const isKnown = wanted.reduce((found, token) => timingSafeEqual(token, given) || found, false)
    if (!isKnown)
      throw new Problem('missing-token', 'writing needs the header Authorization: Bearer and a token')
  })
}

/** A name for who asks that does not give the token away; one for all who have none. */
export function callerOf(request: Request): string {
  const token = tokenOf(request)
  return token === '' ? '' : digestOf(token).toString('base64url').slice(0, 22)
}

function tokenOf({ headers: { authorization = '' } }: Request): string {
  return /^bearer +(.+)$/i.exec(authorization)?.[1] ?? ''
}
