import { Agent, request as httpRequest } from 'node:http'
import { describe } from './errors.ts'
import type { Instance } from './instances.ts'

/** A health report is a few hundred bytes. */
const MAX_ANSWER_BYTES = 65_536

/** Connections are kept: whoever is asked once is asked again in a second. */
const agent = new Agent({ keepAlive: true, maxFreeSockets: 64 })

export interface InstanceRequest {
  path: string
  /** Without it, GET. */
  post?: { body: unknown; token: string }
  timeoutMs: number
}

/**
 * - answered: with JSON, of whatever status
 * - refused: nobody listens there, so the process is gone
 * - silent: no answer within the time, or half of one: it may be frozen
 */
export type InstanceAnswer =
  | { kind: 'answered'; status: number; body: unknown }
  | { kind: 'refused' }
  | { kind: 'silent'; why: string }

/** Asks a process of ours on its health port. Never throws. */
export function askInstance({ url }: Instance, request: InstanceRequest): Promise<InstanceAnswer> {
  const { path, post, timeoutMs } = request
  return new Promise((resolve) => {
    const asked = httpRequest(
      new URL(path, url),
      {
        agent,
        method: post ? 'POST' : 'GET',
        headers: post && { 'content-type': 'application/json', authorization: `Bearer ${post.token}` },
        // Of the whole answer: a socket's own time limit begins anew with each byte.
        signal: AbortSignal.timeout(timeoutMs),
      },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
          if (text.length > MAX_ANSWER_BYTES) asked.destroy(new Error('the answer is too large'))
        })
        response.on('error', (error) => resolve({ kind: 'silent', why: describe(error) }))
        response.on('end', () => resolve(readAnswer(response.statusCode ?? 0, text)))
      },
    )
    asked.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve({ kind: 'refused' })
      else resolve({ kind: 'silent', why: describe(error) })
    })
    asked.end(post && JSON.stringify(post.body ?? {}))
  })
}

function readAnswer(status: number, text: string): InstanceAnswer {
  try {
    return { kind: 'answered', status, body: JSON.parse(text) }
  } catch (error) {
    return { kind: 'silent', why: describe(error) }
  }
}
