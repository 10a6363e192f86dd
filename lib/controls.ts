/** What a process can be told to do while it runs, by whoever knows the token: for demonstrations, off by default. */
import type { IncomingMessage } from 'node:http'
import { describe } from './errors.ts'
import type { Answer } from './health.ts'
import { isSameText } from './tokens.ts'

/** By name, what is done. @throws ControlError when the body is none for it */
export type Controls = Readonly<Record<string, (body: unknown) => unknown>>

export interface GuardedControls {
  token: string
  controls: Controls
}

/** The body of a request asks for what cannot be done. */
export class ControlError extends Error {}

const MAX_BODY_BYTES = 4_096

/** Every process has this one: it is gone at once, as with `kill -9`. */
export const KILL: Controls = {
  kill() {
    // After the answer has left.
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 50)
    return { killed: process.pid }
  },
}

/** `POST /controls/<name>`: the token first, and nothing from the page of another site. */
export async function answerControl(
  guarded: GuardedControls | undefined,
  name: string,
  request: IncomingMessage,
): Promise<Answer> {
  if (!guarded) return { status: 404, body: { error: 'there are controls only with DEMO_CONTROLS=on' } }
  const { authorization = '', origin, host } = request.headers
  if (origin !== undefined && origin !== `http://${host}`) {
    return { status: 403, body: { error: 'not for pages of other sites' } }
  }
  if (!isSameText(authorization, `Bearer ${guarded.token}`)) {
    return { status: 401, body: { error: 'a control needs the token: authorization: Bearer <DEMO_TOKEN>' } }
  }
  const control = Object.hasOwn(guarded.controls, name) ? guarded.controls[name] : undefined
  if (!control) {
    return { status: 404, body: { error: `there is ${Object.keys(guarded.controls).join(', ')}` } }
  }
  try {
    return { body: await control(await readBody(request)) }
  } catch (error) {
    if (!(error instanceof ControlError)) throw error
    return { status: 400, body: { error: describe(error) } }
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk
    if (text.length > MAX_BODY_BYTES) throw new ControlError('the body is too large')
  }
  if (text === '') return {}
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ControlError(`the body is no JSON: ${describe(error)}`, { cause: error })
  }
}
