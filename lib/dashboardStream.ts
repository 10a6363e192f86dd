import type { ServerResponse } from 'node:http'

/** A page and a wall screen or two; who opens more has lost count. */
const MAX_CLIENTS = 32
/** A client that takes nothing for so long gives its place to others. Its page asks again when it wakes up. */
const STUCK_MS = 30_000
/** How soon a page is to ask again after its connection broke. */
const RETRY_MS = 1_000

interface Client {
  response: ServerResponse
  /** Since when it has not taken what it was sent. */
  stuckSinceMs: number | undefined
}

/**
 * Sends the same events to all who listen (text/event-stream). One that is slower than they come misses some: nothing is
 * sent to it while it has not taken what was sent before, so each costs one event of memory at most.
 */
export class EventStream {
  readonly #clients = new Set<Client>()

  get size(): number {
    return this.#clients.size
  }

  get isFull(): boolean {
    return this.#clients.size >= MAX_CLIENTS
  }

  /**
   * Takes the answer over, until the client or {@link close} ends it.
   *
   * @param first what is sent to this one alone, before all else
   */
  add(response: ServerResponse, headers: Record<string, string>, first: string): void {
    const client: Client = { response, stuckSinceMs: undefined }
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.on('close', () => this.#clients.delete(client))
    // A connection that breaks is closed, which is all that there is to do.
    response.on('error', () => response.destroy())
    response.write(`retry: ${RETRY_MS}\n\n${first}`)
    this.#clients.add(client)
  }

  /** @param event as {@link toEvent} makes it */
  send(event: string, nowMs = Date.now()): void {
    for (const client of this.#clients) {
      const { response } = client
      if (!response.writableNeedDrain) {
        client.stuckSinceMs = undefined
        response.write(event)
        continue
      }
      client.stuckSinceMs ??= nowMs
      if (nowMs - client.stuckSinceMs > STUCK_MS) response.destroy()
    }
  }

  close(): void {
    for (const { response } of this.#clients) response.end()
  }
}

/** In the form of server-sent events. JSON has no line breaks outside of strings, and within them they are escaped. */
export function toEvent(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}
