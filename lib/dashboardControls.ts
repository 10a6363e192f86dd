/** What the page can make the pipeline do, for whoever knows the token: passed on to the processes concerned. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { askInstance } from './dashboardAsk.ts'
import { RefusedError } from './dashboardErrors.ts'
import { type Instance, readInstances } from './instances.ts'
import { isSameText } from './tokens.ts'

const ANSWER_WITHIN_MS = 2_000
const MAX_BODY_BYTES = 4_096
/** Enough for a slider that is dragged, too few to guess tokens. */
const MAX_PER_SECOND = 20

export interface ControlOptions {
  demo: { controls: boolean; token: string }
  /** Where processes say that they run; see lib/instances.ts. */
  instancesDir: string
}

/** How one process answered. */
interface ControlResult {
  service: string
  pid: number
  ok: boolean
  /** What it said, or why it said nothing. */
  answer: unknown
}

/**
 * `POST /controls/<service>/<name>`: asks all processes of that service, and answers with what each has said. 404 where
 * there are no controls, 401 without the token, 403 for a request that does not come from the page, 502 when a process refuses.
 */
export function addControlRoutes(server: FastifyInstance, { demo, instancesDir }: ControlOptions): void {
  server.post<{ Params: { service: string; name: string }; Body: unknown }>(
    '/controls/:service/:name',
    {
      bodyLimit: MAX_BODY_BYTES,
      config: { rateLimit: { max: MAX_PER_SECOND, timeWindow: 1_000 } },
      // Before the body is read.
      preParsing: async (request) => requirePermission(request, demo),
    },
    async ({ params: { service, name }, body }, reply) => {
      if (!/^[a-z-]{1,40}$/.test(name)) throw new RefusedError(404, 'there is no such control')
      const instances = readInstances(instancesDir).filter((instance) => instance.service === service)
      const asked = await Promise.all(
        instances.map((instance) => relay(instance, `/controls/${name}`, body, demo.token)),
      )
      const results = asked.filter((result) => result !== undefined)
      if (results.length === 0) throw new RefusedError(404, `no process of '${service}' runs: start one`)
      return reply.code(results.every(({ ok }) => ok) ? 200 : 502).send({ results })
    },
  )
}

/** @throws RefusedError */
function requirePermission({ headers }: FastifyRequest, { controls, token }: ControlOptions['demo']): void {
  if (!controls) {
    throw new RefusedError(
      404,
      'there are no controls: start analytics and the services with DEMO_CONTROLS=on',
    )
  }
  const { authorization = '', origin, host, 'sec-fetch-site': site, 'content-type': type = '' } = headers
  const isOurs = origin === undefined ? site === 'same-origin' : origin === `http://${host}`
  if (!isOurs) throw new RefusedError(403, 'a control is for the page of this address alone: ask from there')
  if (!isSameText(authorization, `Bearer ${token}`)) {
    throw new RefusedError(401, 'a control needs the token: the header Authorization: Bearer and DEMO_TOKEN')
  }
  // What another site can send without being asked has another type.
  if (!/^application\/json\b/i.test(type)) throw new RefusedError(415, 'a control takes application/json')
}

/** @returns undefined when there is no such process any more */
async function relay(
  instance: Instance,
  path: string,
  body: unknown,
  token: string,
): Promise<ControlResult | undefined> {
  const { service, pid } = instance
  // The port of one that was killed may be a stranger's today, who is not to learn the token.
  const known = await askInstance(instance, { path: '/health', timeoutMs: ANSWER_WITHIN_MS })
  if (known.kind === 'silent') return { service, pid, ok: false, answer: { error: known.why } }
  const isIt = known.kind === 'answered' && (known.body as { service?: unknown } | null)?.service === service
  if (!isIt) return undefined
  const said = await askInstance(instance, { path, post: { body, token }, timeoutMs: ANSWER_WITHIN_MS })
  if (said.kind === 'refused') return undefined
  if (said.kind === 'silent') return { service, pid, ok: false, answer: { error: said.why } }
  return { service, pid, ok: said.status < 400, answer: said.body }
}
