// Which local TCP ports are free, and whether somebody listens on one.

import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

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
export async function becomesFree(port: number, timeoutMs = 1_000): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await isPortFree(port))) {
    if (performance.now() > deadline) return false
    await sleep(50)
  }
  return true
}

/** A loopback port that nobody listens on now; it is not reserved, so use it at once. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ port: 0, host: LOOPBACK }, () => {
      const address = server.address()
      if (address === null || typeof address === 'string') {
        server.close()
        reject(new Error('The system gave no port number to a listener on 127.0.0.1.'))
        return
      }
      server.close(() => resolve(address.port))
    })
  })
}
