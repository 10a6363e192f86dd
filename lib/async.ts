import { setTimeout as delay } from 'node:timers/promises'

/** Waits for so long, or until the signal, whichever is first. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, signal ? { signal } : {})
  } catch (error) {
    if (!signal?.aborted) throw error
  }
}

/** Waits for something, or until the signal, whichever is first; leaves no listener behind. */
export async function untilAborted<Result>(
  wanted: Promise<Result>,
  signal: AbortSignal,
): Promise<Result | undefined> {
  // What it comes to when nobody waits any more is of no interest, and must not end the process.
  wanted.catch(() => undefined)
  if (signal.aborted) return undefined
  let listener!: () => void
  const aborted = new Promise<undefined>((resolve) => {
    listener = () => resolve(undefined)
    signal.addEventListener('abort', listener)
  })
  try {
    return await Promise.race([wanted, aborted])
  } finally {
    signal.removeEventListener('abort', listener)
  }
}

/** Waits for something, but no longer than that. */
export async function within(ms: number, wanted: Promise<unknown>): Promise<void> {
  const late = new AbortController()
  await Promise.race([wanted, sleep(ms, late.signal)])
  late.abort()
}
