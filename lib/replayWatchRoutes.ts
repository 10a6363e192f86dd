/** Replays for whoever watches: started, told about, ended. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { sleep } from './async.ts'
import { RefusedError } from './dashboardErrors.ts'
import { toEvent } from './dashboardStream.ts'
import { ConfigurationError, describe } from './errors.ts'
import { parseInstant } from './instant.ts'
import { MAX_AHEAD_MS, MINUTE_MS } from './minuteTable.ts'
import { sumMinutes } from './orderStatistics.ts'
import { Problem } from './problem.ts'
import { type MinuteRange, type ReplayContext, ReplayWatch, toMinutes } from './replayWatch.ts'

export type { ReplayContext } from './replayWatch.ts'

const MAX_AT_ONCE = 2
/** Those that have ended, so that whoever lost the connection still learns how. */
const MAX_ENDED = 10
const MAX_MINUTES = 1_440
const MAX_WATCHERS = 20
const TELL_EVERY_MS = 500

/**
 * `POST /replays {from?, to?}` starts one and answers `{id}`; `GET /replays/:id/events` tells how it goes, as server-sent
 * events named `progress` and in the end one named `end`, each a ReplayStatus; `DELETE /replays/:id` ends it early. Times
 * are ISO 8601; without them it is all that the live table holds. The server answers errors as lib/problem.ts does.
 */
export function addReplayRoutes(server: FastifyInstance, context: ReplayContext): void {
  const replays = new Replays(context)
  server.addHook('preClose', () => replays.close())
  server.post<{ Body: unknown }>('/replays', async (request, reply) => {
    requireOurPage(request)
    const replay = replays.start(readRange(request.body, context))
    return reply
      .code(201)
      .header('location', `/replays/${replay.id}`)
      .send({ id: replay.id, ...replay.range })
  })
  server.delete<{ Params: { id: string } }>('/replays/:id', async (request) => {
    requireOurPage(request)
    const replay = replays.find(request.params.id)
    replay.cancel()
    await replay.ended
    return replay.status
  })
  server.get<{ Params: { id: string } }>('/replays/:id/events', (request, reply) => {
    const replay = replays.find(request.params.id)
    replays.requireRoom()
    replays
      .tell(replay, reply)
      .catch((error) => context.log.error({ error }, `a replay cannot be told: ${describe(error)}`))
  })
}

/** A page of another site cannot start one, though nothing would be lost by it. @throws RefusedError */
function requireOurPage({ headers: { origin, host } }: FastifyRequest): void {
  if (origin === undefined || origin === `http://${host}`) return
  throw new RefusedError(403, 'a replay is started by the page of this address alone: ask from there')
}

/** @throws RefusedError */
function readRange(body: unknown, { live }: ReplayContext): MinuteRange {
  const { from, to } = (body ?? {}) as { from?: unknown; to?: unknown }
  const [oldest] = sumMinutes(live().statistics)
  const nowMs = Date.now()
  // The latest orders may be dated a little ahead.
  const toMs = readTime('to', to) ?? nowMs + MAX_AHEAD_MS
  const fromMs = readTime('from', from) ?? Date.parse(oldest?.minute ?? new Date(nowMs).toISOString())
  if (fromMs >= toMs) throw new RefusedError(400, "'from' must be before 'to': nothing is between them")
  const range = toMinutes(fromMs, toMs)
  if (range.toMs - range.fromMs <= MAX_MINUTES * MINUTE_MS) return range
  if (from === undefined) return { ...range, fromMs: range.toMs - MAX_MINUTES * MINUTE_MS }
  throw new RefusedError(400, `a replay to be watched has at most ${MAX_MINUTES} minutes: take fewer`)
}

/** @throws RefusedError */
function readTime(name: string, text: unknown): number | undefined {
  if (text === undefined || text === null || text === '') return undefined
  try {
    return parseInstant(name, String(text))
  } catch (error) {
    if (error instanceof ConfigurationError) throw new RefusedError(400, error.message)
    throw error
  }
}

class Replays {
  readonly #context: ReplayContext
  readonly #byId = new Map<string, ReplayWatch>()
  readonly #closing = new AbortController()
  #watchers = 0

  constructor(context: ReplayContext) {
    this.#context = context
  }

  /** @throws RefusedError */
  start(range: MinuteRange): ReplayWatch {
    const underWay = [...this.#byId.values()].filter(({ isOver }) => !isOver)
    if (underWay.length >= MAX_AT_ONCE) {
      throw new RefusedError(409, `${MAX_AT_ONCE} replays are under way: wait for one, or cancel it`)
    }
    const ended = [...this.#byId.values()].filter(({ isOver }) => isOver)
    for (const { id } of ended.slice(0, Math.max(0, ended.length - MAX_ENDED + 1))) this.#byId.delete(id)
    const replay = new ReplayWatch(this.#context, range)
    this.#byId.set(replay.id, replay)
    return replay
  }

  /** @throws RefusedError */
  find(id: string): ReplayWatch {
    const replay = this.#byId.get(id)
    if (replay) return replay
    throw new RefusedError(404, 'there is no such replay: it ended long ago, or analytics was started again')
  }

  /** @throws RefusedError */
  requireRoom(): void {
    if (this.#watchers >= MAX_WATCHERS) throw new Problem('unavailable', 'too many watch already: close some')
  }

  /** Until it has ended, or whoever watches has gone. The replay goes on without them. */
  async tell(replay: ReplayWatch, reply: FastifyReply): Promise<void> {
    const { raw } = reply
    const gone = new AbortController()
    const signal = AbortSignal.any([gone.signal, this.#closing.signal])
    raw.on('close', () => gone.abort())
    raw.on('error', () => gone.abort())
    const headers = {
      ...reply.getHeaders(),
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
    }
    reply.hijack()
    raw.writeHead(200, headers as Record<string, string>)
    this.#watchers++
    try {
      while (!replay.isOver && !signal.aborted) {
        // Who reads slowly is told less often.
        if (!raw.writableNeedDrain) raw.write(toEvent('progress', replay.status))
        await Promise.race([sleep(TELL_EVERY_MS, signal), replay.ended])
      }
      if (!signal.aborted) raw.write(toEvent('end', replay.status))
    } finally {
      this.#watchers--
      raw.end()
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    const all = [...this.#byId.values()]
    for (const replay of all) replay.cancel()
    await Promise.all(all.map(({ ended }) => ended))
  }
}
