/** Who may do what over HTTP. */
import { hash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Problem } from './problem.ts'

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
  const wanted = tokens.map(digest)
  server.addHook('preParsing', async ({ method, headers, is404 }) => {
    if (READING.has(method) || is404) return
    const given = digest(tokenOf({ headers }))
    // Every one is compared, and hashes are of one length: how long it takes tells nothing.
    const isKnown = wanted.reduce((found, token) => timingSafeEqual(token, given) || found, false)
    if (!isKnown)
      throw new Problem('missing-token', 'writing needs the header Authorization: Bearer and a token')
  })
}

/** A name for who asks that does not give the token away; one for all who have none. */
export function callerOf(request: Request): string {
  const token = tokenOf(request)
  return token === '' ? '' : digest(token).toString('base64url').slice(0, 22)
}

function tokenOf({ headers: { authorization = '' } }: Request): string {
  return /^bearer +(.+)$/i.exec(authorization)?.[1] ?? ''
}

function digest(token: string): Buffer {
  return Buffer.from(hash('sha256', token, 'hex'), 'hex')
}
