/**
 * The timeline of one order: a line for each record with where it lies, what caused it and how long that took, and a bar
 * from its cause to itself on the time of the whole way.
 *
 * @import { OrderWayAnswer } from '../lib/orderWayRoutes.ts'
 * @import { WayStep } from '../lib/orderWay.ts'
 */
import { element, find, keepChildren, setAttribute, setText, svgElement } from './dom.js'
import { formatCount, formatDuration } from './formats.js'
import { titleOf } from './stages.js'

/** Of the drawing, whatever its width on the page. */
const BAR_WIDTH = 1_000
const BAR_HEIGHT = 10
/** What takes no time is still to be seen. */
const MIN_BAR = 4

/** @param {HTMLElement} list @param {OrderWayAnswer} way */
export function showSteps(list, { steps, startedAtMs, lastAtMs }) {
  const spanMs = Math.max(1, lastAtMs - startedAtMs)
  keepChildren(list, steps, {
    key: ({ position }) => position,
    create: createStep,
    update: (item, step) => showStep(item, step, startedAtMs, spanMs),
  })
}

/** @param {WayStep} step */
function createStep(step) {
  const { kind, label, by, event, text } = step
  const item = element(
    'li',
    { class: 'way-step', 'data-kind': kind },
    element(
      'p',
      { class: 'way-head' },
      element('span', { class: 'way-at number' }),
      element('strong', {}, label),
      element('span', { class: 'quiet' }, `by ${titleOf(by)}`),
    ),
    svgElement(
      'svg',
      {
        class: 'way-bar',
        viewBox: `0 0 ${BAR_WIDTH} ${BAR_HEIGHT}`,
        preserveAspectRatio: 'none',
        'aria-hidden': 'true',
      },
      svgElement('rect', { height: String(BAR_HEIGHT), rx: '2' }),
    ),
    element('p', { class: 'way-where quiet' }),
    element('p', { class: 'way-why' }),
  )
  const body = event === undefined ? text : JSON.stringify(event, undefined, 2)
  if (body !== undefined)
    item.append(createBody(event === undefined ? 'The record as it came' : `The event ${label}`, body))
  return item
}

/** @param {string} title @param {string} body shown as text, whatever is in it */
function createBody(title, body) {
  const details = element('details', {}, element('summary', {}, title))
  // Not before somebody looks: an order may have hundreds of lines.
  details.addEventListener(
    'toggle',
    () => {
      const shown = element('pre', {}, body)
      details.append(element('section', { class: 'scrolling', tabindex: '0', 'aria-label': title }, shown))
    },
    { once: true },
  )
  return details
}

/** @param {HTMLElement} item @param {WayStep} step @param {number} startedAtMs @param {number} spanMs */
function showStep(item, step, startedAtMs, spanMs) {
  const { sentAtMs, hopMs = 0 } = step
  const scale = BAR_WIDTH / spanMs
  const width = Math.max(MIN_BAR, hopMs * scale)
  const end = Math.min(BAR_WIDTH, Math.max(width, (sentAtMs - startedAtMs) * scale))
  const bar = /** @type {Element} */ (item.querySelector('rect'))
  setAttribute(bar, 'x', (end - width).toFixed(1))
  setAttribute(bar, 'width', width.toFixed(1))
  setText(find(item, '.way-at'), `+${formatDuration(sentAtMs - startedAtMs)}`)
  setText(find(item, '.way-where'), whereOf(step))
  const why = whyOf(step)
  find(item, '.way-why').hidden = why === ''
  setText(find(item, '.way-why'), why)
}

/** @param {WayStep} step */
function whereOf(step) {
  const { topic, partition, offset, hopMs, attempts, isSealed, bytes, event } = step
  // Names are told without the prefix of the pipeline, which all of them have.
  const prefix = step.position.slice(0, -`${topic}/${partition}/${offset}`.length)
  const shorten = (/** @type {string | undefined} */ position) =>
    position?.startsWith(prefix) ? position.slice(prefix.length) : position
  const [cause, inboxPosition] = [shorten(step.cause), shorten(step.inboxPosition)]
  const parts = [`${topic}, partition ${partition}, offset ${formatCount(offset)}`]
  if (hopMs !== undefined) parts.push(`${formatDuration(hopMs)} after ${cause}`)
  else if (cause !== undefined) parts.push(`caused by ${cause}`)
  if (attempts > 1) parts.push(`attempt ${attempts}`)
  if (inboxPosition !== undefined) parts.push(`routed by way of ${inboxPosition}`)
  if (isSealed) parts.push('sealed')
  if (event === undefined) parts.push(`${formatCount(bytes)} bytes`)
  return parts.join(' · ')
}

/** @param {WayStep} step */
function whyOf({ kind, reason, state, problem, redrives }) {
  if (kind === 'dead-letter') {
    const again = redrives ? `, after ${redrives === 1 ? 'a redrive' : `${redrives} redrives`}` : ''
    return `${reason}${again}: ${state === 'open' ? 'lies there' : state}`
  }
  return reason ?? problem ?? ''
}
