/**
 * One order's way: looked up by its id or picked from the latest, drawn, and drawn again until it is whole. The id stands
 * in the address, so a way can be linked to.
 *
 * @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 * @import { OrderWayAnswer } from '../lib/orderWayRoutes.ts'
 * @import { Page } from './page.js'
 */
import { element, find, keepChildren, setText } from './dom.js'
import { formatDuration, timeElement } from './formats.js'
import { showRows } from './orderWayRows.js'
import { showSteps } from './orderWaySteps.js'

const HASH = '#order/'
const LATEST = 8
const POLL_MS = 500
/** An order that has not come to its end by then is waited for at leisure. */
const SOON_MS = 30_000
const POLL_AT_LEISURE_MS = 5_000
/** One that was just placed may not be in Kafka yet. */
const APPEARS_WITHIN_MS = 5_000
/** After the last event the database has its last rows, and the mail is written. */
const LAST_LOOK_MS = 3_000

/** @param {HTMLElement} section @param {Page} page */
export function startOrderWay(section, page) {
  const way = new OrderWayPanel(section, page)
  page.onSnapshot((snapshot) => way.showLatest(snapshot))
}

class OrderWayPanel {
  #section
  #page
  #orderId = ''
  #askedMs = 0
  /** Ends the look-up under way, and with it the polling. */
  #looking = new AbortController()
  #latest = element('ul', { class: 'way-latest' })
  #status = element('p', { class: 'panel-summary', role: 'status' })
  #facts = element('p', { class: 'way-facts quiet' })
  #steps = element('ol', { class: 'way-steps' })
  #rows = element('div', { class: 'way-rows' })

  /** @param {HTMLElement} section @param {Page} page */
  constructor(section, page) {
    this.#section = section
    this.#page = page
    const placedAt = element(
      'span',
      { class: 'way-when', hidden: '' },
      element('label', { for: 'order-at' }, 'Placed at about (your time)'),
      element('input', { id: 'order-at', type: 'datetime-local', step: '1' }),
    )
    find(section, '#order-search').append(placedAt)
    const latest = element(
      'div',
      { class: 'way-pick', hidden: '' },
      element('h3', {}, 'Or one of the latest'),
      this.#latest,
    )
    this.#steps.setAttribute('aria-label', 'Its events, in order of time')
    section.append(latest, this.#status, this.#facts, this.#steps, this.#rows)
    find(section, '#order-search').addEventListener('submit', (event) => {
      event.preventDefault()
      const { value } = this.#input('#order-id')
      const hash = HASH + encodeURIComponent(value.trim())
      // The same again is looked up again.
      if (location.hash === hash) this.#follow()
      else location.hash = hash
    })
    window.addEventListener('hashchange', () => this.#follow())
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.#orderId) void this.#look()
    })
    this.#follow()
  }

  /** Stands still while somebody is about to pick one. @param {DashboardSnapshot} snapshot */
  showLatest({ recentOrders }) {
    if (this.#latest.matches(':hover, :focus-within')) return
    find(this.#section, '.way-pick').hidden = recentOrders.length === 0
    keepChildren(this.#latest, recentOrders.slice(0, LATEST), {
      key: ({ orderId }) => orderId,
      create: ({ orderId }) =>
        element(
          'li',
          {},
          element('a', { href: HASH + encodeURIComponent(orderId) }, orderId),
          ' ',
          element('span', { class: 'quiet' }),
        ),
      update: (item, { end }) => setText(find(item, '.quiet'), end),
    })
  }

  /** @param {string} selector */
  #input(selector) {
    return /** @type {HTMLInputElement} */ (find(this.#section, selector))
  }

  /** What the address says is shown. */
  #follow() {
    if (!location.hash.startsWith(HASH)) return
    const orderId = decode(location.hash.slice(HASH.length))
    if (!orderId) return
    if (orderId !== this.#orderId) this.#clear()
    this.#orderId = orderId
    this.#askedMs = Date.now()
    this.#input('#order-id').value = orderId
    this.#page.show(this.#section)
    this.#status.classList.remove('is-error')
    setText(this.#status, `Looking for ${orderId} …`)
    void this.#look()
  }

  #clear() {
    this.#facts.replaceChildren()
    keepChildren(this.#steps, [], { key: String, create: () => element('li'), update: () => undefined })
    this.#rows.replaceChildren()
    this.#input('#order-at').value = ''
    find(this.#section, '.way-when').hidden = true
  }

  /** Looks, and goes on looking for as long as there is something to come. */
  async #look() {
    this.#looking.abort()
    this.#looking = new AbortController()
    const { signal } = this.#looking
    let isLast = false
    while (!signal.aborted && !document.hidden) {
      const found = await this.#ask(signal)
      if (signal.aborted) return
      const { way, problem, isFinal } = found
      if (way) this.#show(way)
      else this.#complain(problem)
      if (isFinal || isLast) return
      isLast = way?.isComplete === true
      await pause(isLast ? LAST_LOOK_MS : this.#isSoon(SOON_MS) ? POLL_MS : POLL_AT_LEISURE_MS, signal)
    }
  }

  /** @param {number} withinMs */
  #isSoon(withinMs) {
    return Date.now() - this.#askedMs < withinMs
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<{ way?: OrderWayAnswer, problem: string, isFinal: boolean }>} `isFinal`: another look cannot help
   */
  async #ask(signal) {
    const { value } = this.#input('#order-at')
    const at = value ? `?at=${encodeURIComponent(new Date(value).toISOString())}` : ''
    try {
      const answer = await fetch(`orders/${encodeURIComponent(this.#orderId)}/way${at}`, { signal })
      const said = await answer.json()
      if (answer.ok) return { way: said, problem: '', isFinal: false }
      const isUnknown = answer.status === 404
      find(this.#section, '.way-when').hidden = !isUnknown
      const mayAppear = isUnknown && this.#isSoon(APPEARS_WITHIN_MS)
      return { problem: said.detail ?? answer.statusText, isFinal: answer.status !== 503 && !mayAppear }
    } catch (error) {
      return {
        problem: `The dashboard's server cannot be reached: ${error instanceof Error ? error.message : error}`,
        isFinal: false,
      }
    }
  }

  /** @param {string} problem */
  #complain(problem) {
    this.#status.classList.add('is-error')
    setText(this.#status, problem)
  }

  /** @param {OrderWayAnswer} way */
  #show(way) {
    this.#status.classList.remove('is-error')
    setText(this.#status, summaryOf(way))
    showFacts(this.#facts, way)
    showSteps(this.#steps, way)
    showRows(this.#rows, way)
  }
}

/** @param {OrderWayAnswer} way */
function summaryOf({ orderId, end, isComplete, waitingFor, steps, startedAtMs, lastAtMs }) {
  const isStuck = steps.some(({ state }) => state === 'open')
  const letter = isStuck ? ' It lies in the dead letters.' : ''
  if (!isComplete) return `${orderId} waits for ${waitingFor.join(', ')}.${letter}`
  const took = formatDuration(lastAtMs - startedAtMs)
  return `${orderId} is ${(end ?? '').toLowerCase()}: ${steps.length} records in ${took}.${letter}`
}

/** @param {HTMLElement} facts @param {OrderWayAnswer} way */
function showFacts(facts, { partition, startedAtMs, mail, trace, notes }) {
  const parts = [
    element('span', {}, 'placed ', timeElement(startedAtMs)),
    element('span', {}, `partition ${partition} of every topic`),
  ]
  if (mail) parts.push(element('span', {}, 'mail written ', timeElement(mail.writtenAtMs)))
  if (trace?.url)
    parts.push(element('a', { href: trace.url, target: '_blank', rel: 'noopener noreferrer' }, 'its trace'))
  else if (trace) parts.push(element('span', {}, `trace ${trace.traceId}`))
  for (const note of notes) parts.push(element('span', {}, note))
  // A link that has the focus is not taken away.
  if (!facts.contains(document.activeElement)) facts.replaceChildren(...parts)
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text)
  } catch {
    // A link that was cut off: what there is of it.
    return text
  }
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
    function done() {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
  })
}
