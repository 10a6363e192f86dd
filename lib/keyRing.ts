/**
 * The keys that messages are sealed with: one for all, or several from a file, each for all workers or for some.
 *
 * How to rotate without a stop: add the new key at the end of the file. Processes that share the file seal with it within a
 * second, and one that meets a key id which it does not know looks at once. With a file on each of several machines add it as
 * `"retired": true` on all of them first, and take that off when all have it: else one would seal what another cannot open.
 * Then mark the old one `"retired": true`, and take it out when nothing that it sealed is still to be read.
 *
 * Key material is held in KeyObjects, which neither print nor serialise it.
 */
import { createHash, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { inspect } from 'node:util'
import Type, { type Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { ConfigurationError, describe, UnusableRecordError } from './errors.ts'

const KEY_BYTES = 32
/** The file is looked at again at most this often, but for key ids that are unknown. */
const LOOK_AGAIN_MS = 1_000

/** Shorter than a key in base64 or hex: one that was put into the wrong field is not taken for an id, and printed. */
export const MAX_KEY_ID_LENGTH = 40
/** What a worker can be called, wherever one is named. */
export const WORKER_NAME = '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'

const KeyFile = Type.Object(
  {
    keys: Type.Array(
      Type.Object(
        {
          id: Type.String({ pattern: `^[A-Za-z0-9._-]{1,${MAX_KEY_ID_LENGTH}}$` }),
          key: Type.String(),
          workers: Type.Optional(Type.Array(Type.String({ pattern: WORKER_NAME }), { minItems: 1 })),
          retired: Type.Optional(Type.Boolean()),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 256 },
    ),
  },
  { additionalProperties: false },
)
type KeyEntry = Static<typeof KeyFile>['keys'][number]
const keyFile = Compile(KeyFile)

/** A key, by the id that is written on what it sealed. */
export interface SealingKey {
  readonly id: string
  readonly key: KeyObject
}

interface HeldKey extends SealingKey {
  isFor(workerName: string): boolean
  /** It opens what it sealed, and seals no more. */
  readonly isRetired: boolean
}

interface Source {
  readonly path: string
  readonly onProblem: (message: string) => void
  readonly nowMs: () => number
}

export class KeyRing {
  #keys: readonly HeldKey[] = []
  readonly #source: Source | undefined
  #digest = ''
  #lookedAtMs = 0
  #problem = ''

  private constructor(from: { keys: readonly HeldKey[] } | { source: Source }) {
    if ('keys' in from) {
      this.#keys = from.keys
      return
    }
    this.#source = from.source
    this.#read(from.source)
  }

  /**
   * One key for all workers. Its id follows from the key, so that processes with the same key agree on it.
   *
   * @param text 32 bytes in base64 or hex, as in ENCRYPTION_KEY
   * @throws ConfigurationError without the text
   */
  static fromKey(text: string): KeyRing {
    const key = parseKey(text)
    if (!key) throw new ConfigurationError(`ENCRYPTION_KEY is not usable: ${KEY_TEXT}`)
    return new KeyRing({ keys: [{ id: fingerprint(key), key, isFor: () => true, isRetired: false }] })
  }

  /**
   * The keys in a file, `{"keys": [{"id", "key", "workers"?, "retired"?}]}`: `workers` absent means all of them. It is
   * read again while the process runs, when it has changed.
   *
   * @param onProblem is told, once, that a changed file is not usable; the keys read before stay in use
   * @param nowMs a clock that never goes back
   * @throws ConfigurationError when it is not usable from the start
   */
  static fromFile(
    path: string,
    onProblem: (message: string) => void = (message) => process.emitWarning(message),
    nowMs: () => number = () => performance.now(),
  ): KeyRing {
    return new KeyRing({ source: { path, onProblem, nowMs } })
  }

  /** All that is shown of it. */
  get ids(): string[] {
    return this.#keys.map(({ id }) => id)
  }

  /**
   * The last key in the file that is meant for this worker and not retired.
   *
   * @throws ConfigurationError when there is none
   */
  forSealing(workerName: string): SealingKey {
    this.#lookAgain(LOOK_AGAIN_MS)
    const found = this.#keys.findLast((key) => !key.isRetired && key.isFor(workerName))
    if (found) return found
    throw new ConfigurationError(
      `there is no key to seal with for '${workerName}': add one to ${this.#source?.path}, with this name in "workers", or without "workers" for all`,
    )
  }

  /**
   * The key that a message for this worker was sealed with.
   *
   * @throws UnusableRecordError when it is not known, or not meant for this worker
   */
  find(keyId: string, workerName: string): KeyObject {
    this.#lookAgain(LOOK_AGAIN_MS)
    let found = this.#byId(keyId)
    if (!found) {
      this.#lookAgain(0)
      found = this.#byId(keyId)
    }
    if (!found) throw new UnusableRecordError(`sealed with key '${keyId}', which is not known here`)
    if (found.isFor(workerName)) return found.key
    throw new UnusableRecordError(`sealed with key '${keyId}', which is not meant for '${workerName}'`)
  }

  toJSON(): { ids: string[] } {
    return { ids: this.ids }
  }

  [inspect.custom](): string {
    return `KeyRing { ids: ${inspect(this.ids)} }`
  }

  #byId(keyId: string): HeldKey | undefined {
    return this.#keys.find(({ id }) => id === keyId)
  }

  /** Reads the file again when that was last done at least so long ago. A file of that size takes tens of microseconds. */
  #lookAgain(afterMs: number): void {
    const source = this.#source
    if (!source || source.nowMs() - this.#lookedAtMs < afterMs) return
    try {
      this.#read(source)
      this.#problem = ''
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error
      // Before the next look it may be in order again (somebody was writing it): sealing goes on with what is held.
      const isNew = error.message !== this.#problem
      this.#problem = error.message
      if (isNew) source.onProblem(`${error.message}; the keys that were read before stay in use`)
    }
  }

  /** By content and not by time: two changes within one tick of the file system's clock would look like one. */
  #read({ path, nowMs }: Source): void {
    this.#lookedAtMs = nowMs()
    const text = readKeyFile(path)
    const digest = createHash('sha256').update(text).digest('hex')
    if (digest === this.#digest) return
    this.#keys = parseKeyFile(path, text)
    this.#digest = digest
  }
}

/**
 * Adds a key to a key file for each worker that has none to seal with; makes the file, readable by its owner alone, if there
 * is none.
 *
 * @returns whether any was added
 * @throws ConfigurationError when the file is not usable, or cannot be written
 */
export function addMissingKeys(path: string, workerNames: readonly string[]): boolean {
  const text = existsSync(path) ? readKeyFile(path) : '{"keys":[]}'
  const held = existsSync(path) ? parseKeyFile(path, text) : []
  const missing = workerNames.filter((name) => !held.some((key) => !key.isRetired && key.isFor(name)))
  if (missing.length === 0) return false
  const { keys } = JSON.parse(text) as Static<typeof KeyFile>
  const added = missing.map((workerName): KeyEntry => {
    const bytes = randomBytes(KEY_BYTES)
    // With the fingerprint: keys made anew after the file was lost are unknown ones, and not the old ones gone wrong.
    const id = `${workerName.slice(0, 31)}-${fingerprint(createSecretKey(bytes))}`
    return { id, key: bytes.toString('base64'), workers: [workerName] }
  })
  try {
    mkdirSync(dirname(path), { recursive: true })
    // In one piece: somebody may be reading it.
    const unfinished = `${path}.${process.pid}`
    writeFileSync(unfinished, `${JSON.stringify({ keys: [...keys, ...added] }, undefined, 2)}\n`, {
      mode: 0o600,
    })
    renameSync(unfinished, path)
    return true
  } catch (error) {
    throw new ConfigurationError(`key file ${path} cannot be written: ${describe(error)}`, { cause: error })
  }
}

const KEY_TEXT =
  'it takes 32 random bytes as 44 characters of base64 or 64 hex digits, such as `openssl rand -base64 32` makes'

/** @returns undefined when it is no key */
function parseKey(text: string): KeyObject | undefined {
  const trimmed = text.trim()
  const encoding = /^[0-9a-f]{64}$/i.test(trimmed) ? 'hex' : 'base64'
  const bytes = Buffer.from(trimmed, encoding)
  const isWhole = encoding === 'hex' || bytes.toString('base64') === trimmed
  return isWhole && bytes.length === KEY_BYTES ? createSecretKey(bytes) : undefined
}

/** Of a key of 256 random bits 32 bits of a hash tell nothing. Hashed for this alone, so it is no hash of anything else. */
function fingerprint(key: KeyObject): string {
  return createHash('sha256').update('order-pipeline key id\0').update(key.export()).digest('hex').slice(0, 8)
}

function readKeyFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConfigurationError(`key file ${path} is not usable: ${describe(error)}`, { cause: error })
  }
}

/** Of a field that is not known not even the name, which could be a key. */
function explain({
  instancePath = '',
  message = '',
}: {
  instancePath?: string
  message?: string
} = {}): string {
  const known = /^(\/keys(\/\d+(\/(id|key|retired|workers(\/\d+)?)(?=$))?)?)?/.exec(instancePath)?.[0] ?? ''
  return known === instancePath
    ? `${known || '/'} ${message}`
    : `${known || '/'} has a field that is not known`
}

/** @throws ConfigurationError that says which entry, by its number, and nothing of what is in it */
function parseKeyFile(path: string, text: string): HeldKey[] {
  const refuse = (problem: string): never => {
    throw new ConfigurationError(`key file ${path} is not usable: ${problem}`)
  }
  const content = parseJson(text)
  if (content === undefined) return refuse('it is not JSON')
  if (!keyFile.Check(content)) {
    return refuse(explain(keyFile.Errors(content)[0]))
  }
  const held: HeldKey[] = []
  content.keys.forEach(({ id, key: keyText, workers, retired = false }, index) => {
    const entry = `/keys/${index}`
    const key = parseKey(keyText) ?? refuse(`${entry}/key: ${KEY_TEXT}`)
    const sameId = held.findIndex((other) => other.id === id)
    if (sameId >= 0) refuse(`${entry} has the id of /keys/${sameId}: give each key an id of its own`)
    const sameKey = held.findIndex((other) => other.key.equals(key))
    if (sameKey >= 0) refuse(`${entry} has the key of /keys/${sameKey}: make each entry a key of its own`)
    held.push({ id, key, isFor: (name) => !workers || workers.includes(name), isRetired: retired })
  })
  return held
}

/** @returns undefined when it is no JSON; what the parser says of it quotes the text, and with it a key */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
