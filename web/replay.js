/**
 * A replay that one can watch: some minutes of the past are counted anew, beside the live table, and compared with it.
 *
 * @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 * @import { MinuteRow } from '../lib/orderStatistics.ts'
 * @import { ReplayStatus } from '../lib/replayWatch.ts'
 * @import { ComparedRow } from '../lib/replayWatchComparison.ts'
 * @import { Page } from './page.js'
 */
import { element, find, keepChildren, setAttribute, setText } from './dom.js'
import { formatCount, formatDuration, formatMinute, formatMoneys, timeElement } from './formats.js'

const MINUTE_MS = 60_000
const PRESETS = [
  { title: 'Last 5 minutes', minutes: 5 },
  { title: 'Last 15 minutes', minutes: 15 },
  { title: 'All that is shown live', minutes: undefined },
]
/** The latest rows; more are compared, and nobody reads them. */
const MAX_ROWS = 120
/** The stream was lost: the server was started again, or the replay has long ended. */
const MAX_LOST = 3

const SIGNS = { equal: '=', open: '…', 'not-held': '–', behind: '…', differs: '≠' }

/** @param {HTMLElement} section @param {Page} page */
export function startReplay(section, page) {
  const replay = new ReplayPanel(section)
  page.onSnapshot((snapshot) => replay.prepare(snapshot))
}

class ReplayPanel {
  #status = element('p', { class: 'panel-summary', role: 'status' })
  #progress = element('progress', { 'aria-label': 'Records read', max: '1', value: '0' })
  #from = element('input', { id: 'replay-from', type: 'datetime-local', step: '60' })
  #to = element('input', { id: 'replay-to', type: 'datetime-local', step: '60' })
  #start = element('button', { type: 'submit' }, 'Replay')
  #presets = PRESETS.map((preset) => this.#createPreset(preset))
  #cancel = element('button', { type: 'button' }, 'Cancel')
  #table = createTable()
  /** From asking for a replay until its end: one at a time. */
  #isUnderWay = false
  /** Of the replay under way, once it is known. @type {string | undefined} */
  #replayId
  #lost = 0
  #isPrepared = false

  /** @param {HTMLElement} section */
  constructor(section) {
    const form = element(
      'form',
      { class: 'replay-form' },
      element('span', { class: 'row' }, ...this.#presets),
      element(
        'span',
        { class: 'row' },
        element('label', {}, 'From (your time) ', this.#from),
        element('label', {}, 'to ', this.#to),
        this.#start,
        this.#cancel,
      ),
    )
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.#begin({ from: toIso(this.#from), to: toIso(this.#to) })
    })
    this.#cancel.addEventListener('click', () => void this.#end())
    this.#showButtons()
    this.#progress.hidden = true
    this.#table.hidden = true
    section.append(
      element(
        'p',
        { class: 'quiet' },
        'Reads orders.validated again, outside of the consumer group, and counts its orders by the minute in which they ' +
          'were placed. The same records give the same table.',
      ),
      form,
      this.#status,
      this.#progress,
      this.#table,
    )
  }

  /** The last five minutes, until somebody chooses. @param {DashboardSnapshot} snapshot */
  prepare({ atMs }) {
    if (this.#isPrepared) return
    this.#isPrepared = true
    this.#choose(atMs, 5)
  }

  /** @param {{ title: string, minutes: number | undefined }} preset */
  #createPreset({ title, minutes }) {
    const button = element('button', { type: 'button' }, title)
    button.addEventListener('click', () => {
      if (this.#isUnderWay) return
      if (minutes === undefined) {
        this.#from.value = ''
        this.#to.value = ''
      } else this.#choose(Date.now(), minutes)
      void this.#begin({ from: toIso(this.#from), to: toIso(this.#to) })
    })
    return button
  }

  /** The minute under way is among them. @param {number} nowMs @param {number} minutes */
  #choose(nowMs, minutes) {
    const toMs = Math.floor(nowMs / MINUTE_MS + 1) * MINUTE_MS
    this.#from.value = toLocal(toMs - minutes * MINUTE_MS)
    this.#to.value = toLocal(toMs)
  }

  /** @param {{ from: string | undefined, to: string | undefined }} range */
  async #begin(range) {
    if (this.#isUnderWay) return
    this.#isUnderWay = true
    this.#showButtons()
    this.#say('Starting …')
    try {
      const answer = await fetch('replays', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(range),
      })
      const said = await answer.json()
      if (!answer.ok) return this.#stop(said.detail ?? answer.statusText)
      this.#watch(said.id)
    } catch (error) {
      this.#stop(
        `The dashboard's server cannot be reached: ${error instanceof Error ? error.message : error}`,
      )
    }
  }

  async #end() {
    const id = this.#replayId
    if (id === undefined) return
    this.#replayId = undefined
    this.#showButtons()
    // Whether it came through, the stream tells.
    await fetch(`replays/${encodeURIComponent(id)}`, { method: 'DELETE' }).catch(() => undefined)
  }

  /** @param {string} id */
  #watch(id) {
    const source = new EventSource(`replays/${encodeURIComponent(id)}/events`)
    this.#replayId = id
    this.#showButtons()
    this.#lost = 0
    /** @param {(status: ReplayStatus) => void} take */
    const taking =
      (take) =>
      (/** @type {MessageEvent<string>} */ { data }) => {
        this.#lost = 0
        take(JSON.parse(data))
      }
    source.addEventListener(
      'progress',
      taking((status) => this.#show(status)),
    )
    source.addEventListener(
      'end',
      taking((status) => {
        source.close()
        this.#show(status)
        this.#stop(status.problem)
      }),
    )
    source.addEventListener('error', () => {
      this.#lost++
      if (source.readyState !== EventSource.CLOSED && this.#lost < MAX_LOST) return
      source.close()
      this.#stop('The replay ended with the server: start it again.')
    })
  }

  /** @param {ReplayStatus} status */
  #show(status) {
    const { records, replayed, live, comparison } = status
    this.#progress.hidden = false
    this.#progress.max = Math.max(1, records.of)
    this.#progress.value = comparison ? this.#progress.max : records.read
    this.#table.hidden = replayed.length === 0 && live.length === 0
    showTable(this.#table, replayed, live, comparison?.rows)
    this.#table.classList.toggle('differs', comparison?.agreement === 'differ')
    this.#say(inWords(status))
  }

  /** A button that does nothing now keeps the focus, which one that is disabled would lose. */
  #showButtons() {
    const isOff = (/** @type {Element} */ button, /** @type {boolean} */ is) =>
      setAttribute(button, 'aria-disabled', String(is))
    for (const button of [...this.#presets, this.#start]) isOff(button, this.#isUnderWay)
    isOff(this.#cancel, this.#replayId === undefined)
  }

  /** @param {string | undefined} problem */
  #stop(problem) {
    this.#isUnderWay = false
    this.#replayId = undefined
    this.#showButtons()
    if (problem === undefined) return
    this.#say(problem)
    this.#status.classList.add('is-error')
  }

  /** @param {string} text */
  #say(text) {
    this.#status.classList.remove('is-error')
    setText(this.#status, text)
  }
}

/** @param {ReplayStatus} status */
function inWords({ state, records, tookMs, comparison }) {
  const read = `${formatCount(records.read)} records read in ${formatDuration(tookMs)}.`
  // Said once, and not with each record: it is read out.
  if (state === 'reading') return 'Reading …'
  if (state === 'comparing') return 'Read, and being compared …'
  if (state === 'cancelled') return `Cancelled: ${read}`
  return comparison ? `${comparison.text} ${read}` : read
}

function createTable() {
  const head = (/** @type {string} */ name, /** @type {Record<string, string>} */ more = {}) =>
    element('th', { scope: 'col', class: 'number', ...more }, name)
  const table = element(
    'table',
    {},
    element(
      'caption',
      { class: 'visually-hidden' },
      'Orders by the minute in which they were placed, live and replayed',
    ),
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        element('th', { scope: 'col', rowspan: '2' }, 'Placed'),
        head('Live', { colspan: '2', scope: 'colgroup' }),
        head('Replayed', { colspan: '2', scope: 'colgroup' }),
        element('th', { scope: 'col', rowspan: '2' }, 'Same'),
      ),
      element('tr', {}, head('Orders'), head('Booked'), head('Orders'), head('Booked')),
    ),
    element('tbody'),
  )
  return element(
    'section',
    { class: 'scrolling replay-table', tabindex: '0', 'aria-label': 'Both tables' },
    table,
  )
}

/**
 * @param {HTMLElement} section
 * @param {readonly MinuteRow[]} replayed
 * @param {readonly MinuteRow[]} live
 * @param {readonly ComparedRow[]} [compared]
 */
function showTable(section, replayed, live, compared = []) {
  const byMinute = (/** @type {readonly MinuteRow[]} */ rows) => new Map(rows.map((row) => [row.minute, row]))
  const [ours, theirs] = [byMinute(replayed), byMinute(live)]
  const results = new Map(compared.map((row) => [row.minute, row]))
  const minutes = [...new Set([...ours.keys(), ...theirs.keys()])].sort().slice(-MAX_ROWS).reverse()
  keepChildren(find(section, 'tbody'), minutes, {
    key: (minute) => minute,
    create: (minute) =>
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, timeElement(Date.parse(minute), formatMinute)),
        ...Array.from({ length: 4 }, () => element('td', { class: 'number' })),
        element('td', { class: 'replay-result' }),
      ),
    update: (row, minute) => {
      const result = results.get(minute)
      setAttribute(row, 'data-result', result?.result ?? 'unknown')
      const cells = [...cellsOf(theirs.get(minute)), ...cellsOf(ours.get(minute)), wordsOf(result)]
      for (const [index, text] of cells.entries()) {
        setText(/** @type {Element} */ (row.cells[index + 1]), text)
      }
    },
  })
}

/** @param {MinuteRow | undefined} row */
function cellsOf(row) {
  return row ? [formatCount(row.orders), formatMoneys(row.bookedRevenueMinor, { isWhole: true })] : ['', '']
}

/** @param {ComparedRow | undefined} row */
function wordsOf(row) {
  if (!row) return ''
  return `${SIGNS[row.result]} ${row.why ?? row.result}`
}

/** @param {HTMLInputElement} input */
function toIso({ value }) {
  return value === '' ? undefined : new Date(value).toISOString()
}

/** As an input for a time of this place wants it. @param {number} timeMs */
function toLocal(timeMs) {
  const offsetMs = new Date(timeMs).getTimezoneOffset() * MINUTE_MS
  return new Date(timeMs - offsetMs).toISOString().slice(0, 16)
}
