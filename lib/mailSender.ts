/**
 * Where mail goes: into files, or to a mail server.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NodemailerError } from 'nodemailer'
import { ConfigurationError, describe, UnavailableError } from './errors.ts'
import type { Mail } from './mail.ts'

export interface MailSender {
  /**
   * Resolves when the mail is out of our hands.
   *
   * @throws UnavailableError when it cannot be sent now: to be sent again
   * @throws Error when this one is refused for good
   */
  send(mail: Mail): Promise<void>
  close(): void
}

/**
 * One file for each order, `<order>.eml`, in a directory that is made. It has its name only when it is complete, and what
 * is there is not written again: each mail is there once, whenever we are killed and however many of us write it.
 *
 * @throws ConfigurationError when the directory cannot be made
 */
export function openOutbox(directory: string): MailSender {
  try {
    mkdirSync(directory, { recursive: true })
  } catch (error) {
    throw new ConfigurationError(`OUTBOX_DIR=${directory} is not usable: ${describe(error)}`, {
      cause: error,
    })
  }
  // Of this process alone: a zombie may be writing the same mail.
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}.tmp`
  return {
    async send({ orderId, content }) {
      const file = join(directory, `${orderId}.eml`)
      const unfinished = join(directory, `.${orderId}.${suffix}`)
      try {
        // Not asynchronous: so a small file takes less CPU, and a batch of them a few milliseconds.
        if (existsSync(file)) return
        writeFileSync(unfinished, content)
        renameSync(unfinished, file)
      } catch (error) {
        throw new UnavailableError('the outbox', error)
      }
    },
    close: () => undefined,
  }
}

/** How many mails are sent at a time. */
const MAX_CONNECTIONS = 8
const CONNECT_TIMEOUT_MS = 2_500
const ANSWER_TIMEOUT_MS = 10_000
/** What a mail server says of one mail and not of us: its recipient, or its content. */
const COMMANDS_OF_ONE_MAIL = ['RCPT TO', 'DATA']

/** A mail server, by `smtp://user:password@host:port`. Asked when there is mail; nodemailer is loaded here. */
export async function openMailServer(url: string): Promise<MailSender> {
  const { createTransport } = await import('nodemailer')
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: MAX_CONNECTIONS,
    maxMessages: Number.POSITIVE_INFINITY,
    // We do this, for as long as it takes.
    maxRequeues: 0,
    connectionTimeout: CONNECT_TIMEOUT_MS,
    greetingTimeout: ANSWER_TIMEOUT_MS,
    socketTimeout: ANSWER_TIMEOUT_MS,
  })
  return {
    async send({ from, to, content }) {
      try {
        await transport.sendMail({ envelope: { from, to: [to] }, raw: content })
      } catch (error) {
        if (isRefused(error as NodemailerError)) throw error
        throw new UnavailableError('the mail server', error)
      }
    },
    close: () => transport.close(),
  }
}

/** Whether this mail will never be taken; without an answer, because it is too large. A refused sender, password or connection is the fault of no mail. */
function isRefused({ permanent, command = '', code }: NodemailerError): boolean {
  return (
    (permanent === true && COMMANDS_OF_ONE_MAIL.includes(command)) ||
    (code === 'EMESSAGE' && permanent === undefined)
  )
}
