import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from './log.ts'

export interface HealthServer {
  port: number
  close(): Promise<void>
}

/** How many ports above the first are tried: as many instances of all services can run on one machine. */
const PORTS_TRIED = 50

/**
 * Says how a service is, on 127.0.0.1: `/health/live` (200 as long as it runs), `/health/ready` (200 while it has
 * a place in its group, else 503), `/health` (the whole report). A second instance takes the next free port.
 *
 * @param port the first port to be tried; 0 for any
 * @param report what to answer; `ready` decides the status of `/health/ready`
 */
export async function startHealthServer(
  port: number,
  log: Logger,
  report: () => { ready: boolean },
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const answer = report()
    const known = ['/health', '/health/live', '/health/ready'].includes(request.url ?? '')
    const status = !known ? 404 : request.url === '/health/ready' && !answer.ready ? 503 : 200
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(known ? answer : { error: 'try /health' }))
  })
  for (let attempt = 0; ; attempt++) {
    try {
      const taken = await listen(server, port === 0 ? 0 : port + attempt)
      log.info(`health at http://127.0.0.1:${taken}/health`)
      return { port: taken, close: () => close(server) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || attempt >= PORTS_TRIED) throw error
    }
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

function close(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}
