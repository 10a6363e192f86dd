/**
 * The stream of the server's events, opened again for as long as the page is open: a restart of the server costs no
 * more than the seconds it takes.
 *
 * @import { DashboardHistory, DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */

const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 3_000
/** A snapshot comes each second: a stream that says nothing for so long is dead, whatever its socket says. */
const SILENCE_MS = 8_000

/**
 * @typedef {object} Listener
 * @property {(history: DashboardHistory) => void} onHistory first after each connection
 * @property {(snapshot: DashboardSnapshot) => void} onSnapshot
 * @property {(lostAtMs: number | undefined, failures: number) => void} onState since when there is no connection, and how
 *   often one was tried for in vain; undefined: there is one
 */

/** @param {string} url @param {Listener} listener */
export function keepConnected(url, { onHistory, onSnapshot, onState }) {
  let failures = 0
  /** @type {number | undefined} */
  let lostAtMs
  connect()

  function connect() {
    const source = new EventSource(url)
    let silence = setTimeout(fail, SILENCE_MS)

    /** @param {(data: any) => void} take */
    const taking =
      (take) =>
      (/** @type {MessageEvent<string>} */ { data }) => {
        clearTimeout(silence)
        silence = setTimeout(fail, SILENCE_MS)
        if (lostAtMs !== undefined || failures > 0) onState(undefined, 0)
        failures = 0
        lostAtMs = undefined
        take(JSON.parse(data))
      }
    source.addEventListener('open', () => onState(undefined, 0), { once: true })
    source.addEventListener('history', taking(onHistory))
    source.addEventListener('snapshot', taking(onSnapshot))
    // The browser would try again by itself, but not after every kind of failure.
    source.addEventListener('error', fail)

    function fail() {
      source.close()
      clearTimeout(silence)
      lostAtMs ??= Date.now()
      setTimeout(connect, Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** failures))
      failures++
      onState(lostAtMs, failures)
    }
  }
}
