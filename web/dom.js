/** Making and changing elements. Text goes in as text, never as markup: it may come from an order. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes] `class` among them
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

const SVG = 'http://www.w3.org/2000/svg'

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {Node[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svgElement(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** One of the shapes of icons.svg; for the eye alone, the word stands beside it. */
export function icon(/** @type {string} */ name) {
  const use = svgElement('use', { href: `icons.svg#${name}` })
  return svgElement('svg', { class: 'icon', 'aria-hidden': 'true' }, use)
}

/** @param {Element} iconElement @param {string} name */
export function setIcon(iconElement, name) {
  setAttribute(/** @type {Element} */ (iconElement.firstElementChild), 'href', `icons.svg#${name}`)
}

/** Changes the text if it is another: what stays is neither laid out nor read out again. */
export function setText(/** @type {Node} */ node, /** @type {string} */ text) {
  if (node.textContent !== text) node.textContent = text
}

/** @param {Element} node @param {string} name @param {string} value */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

/** @param {ParentNode} parent @param {string} selector @returns {HTMLElement} @throws Error when it is not there */
export function find(parent, selector) {
  const found = parent.querySelector(selector)
  if (found instanceof HTMLElement) return found
  throw new Error(`index.html has no ${selector}`)
}

/** @type {WeakMap<Element, Map<string, Element>>} */
const childrenByKey = new WeakMap()

/**
 * Gives a parent one child for each item, in their order. A child is kept for as long as its key is there, so that
 * focus, selection and open details survive an update, and nothing piles up.
 *
 * @template Item
 * @template {Element} Child
 * @param {Element} parent all of whose children are kept in this way
 * @param {readonly Item[]} items
 * @param {{ key: (item: Item) => string, create: (item: Item) => Child, update: (child: Child, item: Item) => void }} how
 */
export function keepChildren(parent, items, { key, create, update }) {
  const before = childrenByKey.get(parent) ?? new Map()
  /** @type {Map<string, Element>} */
  const now = new Map()
  for (const item of items) now.set(key(item), before.get(key(item)) ?? create(item))
  for (const [name, child] of before) if (!now.has(name)) child.remove()
  let place = parent.firstElementChild
  for (const child of now.values()) {
    if (child === place) place = place.nextElementSibling
    else parent.insertBefore(child, place)
  }
  for (const item of items) update(/** @type {Child} */ (now.get(key(item))), item)
  childrenByKey.set(parent, now)
}
