/** Errors as application/problem+json (RFC 9457): all kinds that the API answers with, in one table. */
import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply } from 'fastify'
import Type, { type Static, type TSchema } from 'typebox'
import { describe, PipelineError, UnavailableError } from './errors.ts'
import type { Logger } from './log.ts'
import { RepeatedWarning } from './repeatedWarning.ts'

const KINDS = {
  'invalid-request': { status: 400, title: 'The request is not of the right form' },
  'missing-token': { status: 401, title: 'A bearer token is needed' },
  'unknown-order': { status: 404, title: 'There is no such order' },
  'unknown-product': { status: 404, title: 'There is no such product' },
  'request-under-way': {
    status: 409,
    title: 'The first request with this idempotency key has no answer yet',
  },
  'product-exists': { status: 409, title: 'There is such a product already' },
  'product-withdrawn': { status: 409, title: 'The product is withdrawn' },
  'order-too-large': { status: 413, title: 'The order is too large' },
  'key-used': { status: 422, title: 'The idempotency key was used for another request' },
  'receipt-booked': { status: 422, title: 'The cause was booked with another quantity' },
  unavailable: { status: 503, title: 'Not available at present' },
} as const
export type ProblemKind = keyof typeof KINDS

const PROBLEM_TYPE = 'application/problem+json'
const RETRY_AFTER_SECONDS = 1

export const ProblemDocument = Type.Object({
  type: Type.String({ description: 'urn:order-pipeline:problem: and the kind, or about:blank' }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.Optional(Type.String()),
  errors: Type.Optional(
    Type.Array(
      Type.Object({
        in: Type.String({ description: 'body, querystring, params or headers' }),
        pointer: Type.String({ description: 'which field of it: a JSON pointer as a URI fragment' }),
        detail: Type.String(),
      }),
    ),
  ),
})
export type ProblemDocument = Static<typeof ProblemDocument>
export type FieldError = NonNullable<ProblemDocument['errors']>[number]

/** The answers that are problems, for OpenAPI: these, and what everybody can get. */
export function problems(...statuses: number[]): Record<number, TSchema> {
  return Object.fromEntries([...statuses, 429].map((status) => [status, ProblemDocument]))
}

/** Thrown by a handler, answered as it says. */
export class Problem extends PipelineError {
  readonly code: string
  readonly kind: ProblemKind
  readonly canRetry: boolean
  readonly errors: FieldError[] | undefined

  /** @param detail for a person: what of this request, and what to do */
  constructor(kind: ProblemKind, detail: string, errors?: FieldError[]) {
    super(detail)
    this.kind = kind
    this.code = kind.toUpperCase().replaceAll('-', '_')
    this.canRetry = kind === 'unavailable' || kind === 'request-under-way'
    this.errors = errors
  }
}

/** Codes of errors of others that have a kind here. */
const KIND_BY_CODE: Readonly<Record<string, ProblemKind>> = {
  UNKNOWN_PRODUCT: 'unknown-product',
  PRODUCT_EXISTS: 'product-exists',
  PRODUCT_WITHDRAWN: 'product-withdrawn',
  UNAVAILABLE: 'unavailable',
}

/**
 * Answers with whatever was thrown. What is nobody's fault but ours is logged and not told, and so is why something does
 * not answer.
 */
export function problemAnswerer(log: Logger): (error: unknown, reply: FastifyReply) => FastifyReply {
  const outage = new RepeatedWarning(log)
  return (error, reply) => {
    if (error instanceof UnavailableError) outage.say(`requests are refused: ${error.message}`)
    return answerProblem(error, reply, log)
  }
}

function answerProblem(error: unknown, reply: FastifyReply, log: Logger): FastifyReply {
  const problem = toProblem(error)
  if (problem) {
    if (problem.canRetry) reply.header('retry-after', RETRY_AFTER_SECONDS)
    if (problem.kind === 'missing-token') reply.header('www-authenticate', 'Bearer realm="orders"')
    const { status, title } = KINDS[problem.kind]
    const { message: detail, errors } = problem
    const type = `urn:order-pipeline:problem:${problem.kind}`
    return send(reply, { type, title, status, detail, ...(errors && { errors }) })
  }
  // What Fastify and its plugins refuse: a body that is no JSON, or too large, too many requests.
  const { statusCode = 500 } = error as Partial<FastifyError>
  if (statusCode < 500) return send(reply, plainProblem(statusCode, describe(error)))
  log.error({ error }, `a request failed: ${describe(error)}`)
  return send(reply, plainProblem(500))
}

function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error
  if (!(error instanceof PipelineError)) return undefined
  const kind = KIND_BY_CODE[error.code]
  if (!kind) return undefined
  // Its cause may name hosts and ports, which are not for everybody.
  const detail =
    error instanceof UnavailableError
      ? `${error.message.split(' is not available', 1)[0]} does not answer`
      : error.message
  return new Problem(kind, detail)
}

function plainProblem(status: number, detail?: string): ProblemDocument {
  const title = STATUS_CODES[status] ?? 'Error'
  return { type: 'about:blank', title, status, ...(detail !== undefined && { detail }) }
}

function send(reply: FastifyReply, problem: ProblemDocument): FastifyReply {
  return reply.code(problem.status).header('content-type', PROBLEM_TYPE).send(problem)
}

/** What TypeBox says is wrong. */
export interface SchemaError {
  keyword: string
  instancePath: string
  message: string
  params: object
}

const MAX_FIELD_ERRORS = 50

/** Each field that is wrong, once. @param part of the request, as Fastify calls it: body, querystring, params, headers */
export function toFieldErrors(errors: Iterable<SchemaError>, part: string): FieldError[] {
  const byField = new Map<string, FieldError>()
  for (const { keyword, instancePath, message, params } of errors) {
    // Said of each unknown property by itself, too.
    if (keyword === 'additionalProperties') continue
    const { requiredProperties = [''] } = params as { requiredProperties?: string[] }
    for (const name of keyword === 'required' ? requiredProperties : ['']) {
      const pointer = `#${instancePath}${name && `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`}`
      const detail = keyword === 'required' ? 'is missing' : keyword === 'boolean' ? 'is not known' : message
      if (!byField.has(pointer)) byField.set(pointer, { in: part, pointer, detail })
      if (byField.size >= MAX_FIELD_ERRORS) return [...byField.values()]
    }
  }
  return [...byField.values()]
}
