import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answerControl, type GuardedControls } from './controls.ts'
import { describe } from './errors.ts'
import type { Logger } from './log.ts'

export interface HealthServer {
  port: number
  close(): Promise<void>
}

/** How many ports above the first are tried before any will do: so many processes are found where one would look. */
const PORTS_TRIED = 50

/** `body` becomes JSON, unless it says what text it is; 200 when no status is given. */
export type Answer = { status?: number } & (
  | { body: unknown; contentType?: never }
  | { body: string; contentType: string }
)

/**
 * What a service can be asked by GET, by path. A path that ends in a slash takes all that lie below it, and is told what
 * follows the slash, decoded.
 */
export type Routes = Readonly<
  Record<string, (query: URLSearchParams, rest: string) => Answer | Promise<Answer>>
>

const CONTROLS = '/controls/'

/**
 * Says how a service is, on 127.0.0.1: `/health/live` (200 as long as it runs), `/health/ready` (200 while it has
 * a place in its group, else 503), `/health` (the whole report). A second instance takes the next free port.
 *
 * @param port the first port to be tried; 0 for any
 * @param report what to answer; `ready` decides the status of `/health/ready`
 * @param routes what else it can be asked
 * @param controls what it can be told, by `POST /controls/<name>`; none unless given
 */
export async function startHealthServer(
  port: number,
  log: Logger,
  report: () => { ready: boolean },
  routes: Routes = {},
  controls?: GuardedControls,
): Promise<HealthServer> {
  const all = new Map(
    Object.entries<Routes[string]>({
      '/health': () => ({ body: report() }),
      '/health/live': () => ({ body: report() }),
      '/health/ready': () => {
        const body = report()
        return { status: body.ready ? 200 : 503, body }
      },
      ...routes,
    }),
  )
  const server = createServer(async (request, response) => {
    const answering: Promise<Answer> = answer(all, controls, request).catch((error) => {
      log.error({ error }, `${request.method} ${request.url} failed: ${describe(error)}`)
      return { status: 500, body: { error: 'it failed, and the log says why' } }
    })
    const { status = 200, body, contentType } = await answering
    response.writeHead(status, { 'content-type': contentType ?? 'application/json' })
    response.end(contentType === undefined ? JSON.stringify(body) : body)
  })
  for (let attempt = 0; ; attempt++) {
    try {
      const taken = await listen(server, port === 0 || attempt > PORTS_TRIED ? 0 : port + attempt)
      log.info(`health at http://127.0.0.1:${taken}/health`)
      return { port: taken, close: () => close(server) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
}

/**
 * Whether a request names this machine as whoever is on it does. A page of another site can have its own name lead here, and
 * would then be allowed to read what is here (DNS rebinding). Its requests still carry that name.
 */
export function isLoopback(host = ''): boolean {
  return /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i.test(host)
}

async function answer(
  routes: ReadonlyMap<string, Routes[string]>,
  controls: GuardedControls | undefined,
  request: IncomingMessage,
): Promise<Answer> {
  const { method, url = '', headers } = request
  if (!isLoopback(headers.host)) {
    return { status: 421, body: { error: 'ask for 127.0.0.1 or localhost, by no other name' } }
  }
  if (method === 'POST' && url.startsWith(CONTROLS)) {
    return answerControl(controls, url.slice(CONTROLS.length), request)
  }
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, body: { error: 'only GET is answered' } }
  const [path = '', query] = url.split('?', 2)
  const exact = routes.get(path)
  if (exact) return exact(new URLSearchParams(query), '')
  const parent = path.slice(0, path.indexOf('/', 1) + 1)
  const below = routes.get(parent)
  if (!below) return { status: 404, body: { error: `try ${[...routes.keys()].join(', ')}` } }
  try {
    return await below(new URLSearchParams(query), decodeURIComponent(path.slice(parent.length)))
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    return { status: 400, body: { error: 'the path is wrongly encoded' } }
  }
}

async function listen(server: Server, port: number): Promise<number> {
  server.listen(port, '127.0.0.1')
  // Takes its listeners away again, also when the port is taken: the same server tries many.
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function close(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}
