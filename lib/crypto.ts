/**
 * Sealed messages: AES-256-GCM over the event, and beside it, readable and authenticated, whose it is. Whoever routes
 * it reads the label and can change neither.
 *
 * The nonce is random. With 96 random bits at most 2^32 messages may be sealed under one key (NIST SP 800-38D, 8.3):
 * 49 days at 1,000 messages a second, 2.5 days at 20,000. So keys rotate, and are separate for each worker
 * (lib/keyRing.ts).
 *
 * An envelope is what `seal` writes, to the character: other spellings of the same JSON or base64 are refused, so one
 * message has one form.
 */
import { isUtf8 } from 'node:buffer'
import { createCipheriv, createDecipheriv, type KeyObject, randomFillSync } from 'node:crypto'
import { UnusableRecordError } from './errors.ts'
import { type KeyRing, MAX_KEY_ID_LENGTH, WORKER_NAME } from './keyRing.ts'

export type { KeyRing } from './keyRing.ts'

const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** More than any topic takes. */
const MAX_ENVELOPE_BYTES = 8 * 1024 * 1024
const MAX_ID_LENGTH = 200
const NAME = new RegExp(WORKER_NAME)
const KEY_ID = new RegExp(`^[A-Za-z0-9._-]{1,${MAX_KEY_ID_LENGTH}}$`)

/** The record's value: this as JSON text, with the fields in this order. `iv`, `data` and `tag` are base64. */
export interface Envelope {
  /** The order id, and the record's key; empty when it has none. */
  request_id: string
  worker_name: string
  sender: string
  event_id: string
  key_id: string
  iv: string
  data: string
  tag: string
}

const FIELDS = ['request_id', 'worker_name', 'sender', 'event_id', 'key_id', 'iv', 'data', 'tag'] as const

/** What is written on an envelope and authenticated with what is in it. */
export interface Label {
  requestId: string
  workerName: string
  sender: string
  eventId: string
}

/**
 * Seals with the newest key that is meant for the worker.
 *
 * @returns the envelope as JSON text
 * @throws ConfigurationError when no key is meant for the worker
 * @throws UnusableRecordError when the label has something that no envelope can carry
 */
export function seal(keys: KeyRing, label: Label, plaintext: string | Buffer): string {
  const { id, key } = keys.forSealing(label.workerName)
  const nonce = nextNonce()
  const envelope = {
    request_id: label.requestId,
    worker_name: label.workerName,
    sender: label.sender,
    event_id: label.eventId,
    key_id: id,
    iv: nonce.toString('base64'),
    data: '',
    tag: '',
  }
  requireLabel(envelope)
  const bytes = typeof plaintext === 'string' ? Buffer.from(plaintext) : plaintext
  const { data, tag } = encrypt(key, nonce, authenticatedText(envelope), bytes)
  envelope.data = data.toString('base64')
  envelope.tag = tag.toString('base64')
  return writeEnvelope(envelope)
}

/**
 * The envelope in a record, checked in everything that needs no key.
 *
 * @throws UnusableRecordError that says what is wrong, and nothing of what is in it
 */
export function parseEnvelope(value: Buffer): Envelope {
  if (value.length > MAX_ENVELOPE_BYTES) {
    throw malformed(`${value.length} bytes, at most ${MAX_ENVELOPE_BYTES} are taken`)
  }
  const envelope = splitEnvelope(value) ?? explain(value)
  requireLabel(envelope)
  return envelope
}

/**
 * What was sealed.
 *
 * @param workerName who opens it
 * @param envelope as parseEnvelope returns it
 * @throws UnusableRecordError when it is for another worker, the key is not known or not meant for this one, or it is
 *   not what was sealed
 */
export function open(keys: KeyRing, workerName: string, envelope: Envelope): Buffer {
  if (envelope.worker_name !== workerName) {
    throw new UnusableRecordError(`sealed for '${envelope.worker_name}', and not for '${workerName}'`)
  }
  const key = keys.find(envelope.key_id, workerName)
  const sealed = { data: Buffer.from(envelope.data, 'base64'), tag: Buffer.from(envelope.tag, 'base64') }
  const plaintext = decrypt(key, Buffer.from(envelope.iv, 'base64'), authenticatedText(envelope), sealed)
  if (plaintext) return plaintext
  throw new UnusableRecordError(
    'sealed, but not authentic: it was changed, or its key is another of the same id',
  )
}

/** @param authenticated is not in the result, and has to be the same to decrypt it */
export function encrypt(
  key: KeyObject,
  nonce: Buffer,
  authenticated: Buffer,
  plaintext: Buffer,
): { data: Buffer; tag: Buffer } {
  const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(authenticated)
  const data = cipher.update(plaintext)
  // In this mode it makes the tag, and returns nothing.
  cipher.final()
  return { data, tag: cipher.getAuthTag() }
}

/** @returns undefined when it is not what was encrypted, with all of its tag */
export function decrypt(
  key: KeyObject,
  nonce: Buffer,
  authenticated: Buffer,
  { data, tag }: { data: Buffer; tag: Buffer },
): Buffer | undefined {
  // Without the length Node takes the first four bytes of a tag for a tag (DEP0182).
  const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
  try {
    decipher.setAuthTag(tag)
    decipher.setAAD(authenticated)
    const plaintext = decipher.update(data)
    decipher.final()
    return plaintext
  } catch {
    return undefined
  }
}

/** All of the label, so that nothing can be cut out and put under another. A list: no two labels make the same text. */
function authenticatedText({ request_id, worker_name, sender, event_id, key_id }: Envelope): Buffer {
  return Buffer.from(JSON.stringify([request_id, worker_name, sender, event_id, key_id]))
}

/** JSON.stringify would look through all of `data` for what has to be escaped; base64 and names have nothing. */
function writeEnvelope(envelope: Envelope): string {
  const { request_id, worker_name, sender, event_id, key_id, iv, data, tag } = envelope
  return (
    `{"request_id":${JSON.stringify(request_id)},"worker_name":"${worker_name}","sender":"${sender}",` +
    `"event_id":${JSON.stringify(event_id)},"key_id":"${key_id}","iv":"${iv}","data":"${data}","tag":"${tag}"}`
  )
}

const HEAD = new RegExp(
  String.raw`^\{"request_id":("(?:[^"\\]|\\.){0,1200}"),"worker_name":"([^"\\]{0,64})","sender":"([^"\\]{0,64})",` +
    String.raw`"event_id":("(?:[^"\\]|\\.){0,1200}"),"key_id":"([^"\\]{0,64})","iv":"([A-Za-z0-9+/]{16})","data":"$`,
)
/** The end of HEAD. In a string its quotes would be escaped, so the first place where it is found is the end. */
const HEAD_END = Buffer.from('"data":"')
const TAIL = /^","tag":"([A-Za-z0-9+/]{21}[AQgw]==)"\}$/
const TAIL_BYTES = 35

/**
 * What writeEnvelope wrote, read by its form, which nothing else has: less than half of what JSON.parse and a look at
 * the result cost, and this is done for every message at every hop.
 *
 * @returns undefined when it has not this form
 */
function splitEnvelope(value: Buffer): Envelope | undefined {
  const dataAt = value.indexOf(HEAD_END) + HEAD_END.length
  const tailAt = value.length - TAIL_BYTES
  // Decoded regardless, all bytes that are wrong would read the same.
  if (tailAt < dataAt || !isUtf8(value)) return undefined
  const head = HEAD.exec(value.toString('utf8', 0, dataAt))
  const tail = TAIL.exec(value.toString('latin1', tailAt))
  const data = value.toString('latin1', dataAt, tailAt)
  if (!head || !tail || !isBase64(data)) return undefined
  const [, requestId, worker_name, sender, eventId, key_id, iv] = head as unknown as Groups
  const request_id = readText(requestId)
  const event_id = readText(eventId)
  if (request_id === undefined || event_id === undefined) return undefined
  return { request_id, worker_name, sender, event_id, key_id, iv, data, tag: tail[1]! }
}
type Groups = [string, string, string, string, string, string, string]

/** @returns undefined when it is not what JSON.stringify writes */
function readText(literal: string): string | undefined {
  const text = parseJson(literal)
  return typeof text === 'string' && JSON.stringify(text) === literal ? text : undefined
}

/** @returns undefined when it is no JSON; what the parser says of it quotes the text */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What is wrong with something that has not the form of an envelope. @throws UnusableRecordError */
function explain(value: Buffer): never {
  if (!isUtf8(value)) throw new UnusableRecordError('not sealed: not UTF-8')
  const parsed = parseJson(value.toString('utf8'))
  if (parsed === undefined) throw new UnusableRecordError('not sealed: not JSON')
  if (typeof parsed !== 'object' || parsed === null || !('data' in parsed)) {
    throw new UnusableRecordError('not sealed: not an envelope')
  }
  const fields = parsed as Record<string, unknown>
  for (const field of FIELDS) {
    if (typeof fields[field] !== 'string') throw malformed(`${field} is missing, or no text`)
  }
  const envelope = fields as Record<string, unknown> & Envelope
  requireLabel(envelope)
  for (const field of ['iv', 'data', 'tag'] as const) {
    if (!isBase64(envelope[field])) throw malformed(`${field} is not base64`)
  }
  if (Buffer.from(envelope.iv, 'base64').length !== NONCE_BYTES)
    throw malformed(`iv is not ${NONCE_BYTES} bytes`)
  if (Buffer.from(envelope.tag, 'base64').length !== TAG_BYTES)
    throw malformed(`tag is not ${TAG_BYTES} bytes`)
  throw malformed('it has more fields than an envelope, or is spelled in another way')
}

function malformed(problem: string): UnusableRecordError {
  return new UnusableRecordError(`sealed, but malformed: ${problem}`)
}

function requireLabel({ request_id, worker_name, sender, event_id, key_id }: Envelope): void {
  if (request_id.length > MAX_ID_LENGTH) throw malformed(`request_id is longer than ${MAX_ID_LENGTH}`)
  if (event_id.length > MAX_ID_LENGTH) throw malformed(`event_id is longer than ${MAX_ID_LENGTH}`)
  if (!NAME.test(worker_name)) throw malformed('worker_name is no name')
  if (!NAME.test(sender)) throw malformed('sender is no name')
  if (!KEY_ID.test(key_id)) throw malformed('key_id is no id of a key')
}

/** Decoding passes over what is no base64, and over bits that are left at the end: only written back it shows. */
function isBase64(text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64') === text
}

/** Random bytes for the next nonces: asked for one at a time, each costs more than a third of sealing. */
const randomness = Buffer.alloc(NONCE_BYTES * 1024)
let used = randomness.length

/** Never the same twice: what was handed out is not handed out again before all of it is random anew. */
function nextNonce(): Buffer {
  if (used === randomness.length) {
    randomFillSync(randomness)
    used = 0
  }
  used += NONCE_BYTES
  return randomness.subarray(used - NONCE_BYTES, used)
}
