// Which local TCP ports are free, and whether somebody listens on one.

import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError } from './serverProcess.ts'

/** The only address that the launchers listen on: neither Kafka nor PostgreSQL is meant for the network here. */
export const LOOPBACK = '127.0.0.1'

/** Whether something accepts connections there within the time given. */
export function isListening(port: number, host = LOOPBACK, timeoutMs = 1_000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host })
    const settle = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(timeoutMs, () => settle(false))
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}

/**
 * Whether a server could listen on this loopback port. Binding alone does not tell: macOS lets a listener on
 * 127.0.0.1 in beside another one on 0.0.0.0, so a connection must be refused as well.
 */
export async function isPortFree(port: number): Promise<boolean> {
  const canListen = await new Promise<boolean>((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => server.close(() => resolve(true)))
  })
  return canListen && !(await isListening(port))
}

/** Whether the port is free now or within the time given: a server that has just been killed may still be closing it. */
async function becomesFree(port: number, timeoutMs = 1_000): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await isPortFree(port))) {
    if (performance.now() > deadline) return false
    await sleep(50)
  }
  return true
}

/** Throws PORT_IN_USE, with the flag that chooses another, unless a server of this name could listen there. */
export async function claimPort(name: string, port: number, flag: string): Promise<void> {
  if (await becomesFree(port)) return
  throw new InfrastructureError(
    'PORT_IN_USE',
    `${name} cannot listen on ${LOOPBACK}:${port} because another program does: stop it (see who with "lsof -i :${port}"), or choose another port with ${flag}.`,
  )
}

/** A loopback port that nobody listens on now; it is not reserved, so use it at once. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port as number
}

/** Several at once, no two alike. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen({ port: 0, host: LOOPBACK }))
  try {
    await Promise.all(servers.map((server) => once(server, 'listening')))
    return servers.map((server) => (server.address() as AddressInfo).port)
  } finally {
    for (const server of servers) server.close()
  }
}
