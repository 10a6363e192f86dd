/**
 * Consumer groups: a line for each, and behind it its partitions with who reads them. What is closed is not kept up.
 *
 * @import { DashboardGroup, DashboardPartition, DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { element, find, keepChildren, setAttribute, setText } from './dom.js'
import { formatCount } from './formats.js'
import { titleOf } from './stages.js'

/** More rows are no help to anybody. */
const MAX_PARTITIONS = 200

/** @param {HTMLElement} section @param {DashboardSnapshot} snapshot */
export function showGroups(section, { groups }) {
  find(section, '.empty').hidden = groups.length > 0
  keepChildren(find(section, '.groups'), groups, {
    key: ({ group }) => group,
    create: createGroup,
    update: showGroup,
  })
}

/** What was last said of a group, for when it is opened. @type {WeakMap<HTMLElement, DashboardGroup>} */
const latest = new WeakMap()

/** @param {DashboardGroup} group */
function createGroup({ group }) {
  const title = titleOf(group)
  const details = element(
    'details',
    { class: 'group', 'data-group': group },
    element(
      'summary',
      {},
      element('span', { class: 'group-name' }, title),
      element('span', { class: 'group-state' }),
      element('span', { class: 'group-members' }),
      element('span', { class: 'group-lag number' }),
    ),
    element('div', {
      class: 'scrolling',
      tabindex: '0',
      role: 'region',
      'aria-label': `Partitions of ${title}`,
    }),
  )
  details.addEventListener('toggle', () => {
    const known = latest.get(details)
    if (details.open && known) showPartitions(details, known)
    if (!details.open) find(details, '.scrolling').replaceChildren()
  })
  return details
}

/** @param {HTMLDetailsElement} details @param {DashboardGroup} group */
function showGroup(details, group) {
  latest.set(details, group)
  const { state, members, lag } = group
  setText(find(details, '.group-state'), state)
  setText(
    find(details, '.group-members'),
    `${formatCount(members.length)} ${members.length === 1 ? 'member' : 'members'}`,
  )
  setText(find(details, '.group-lag'), `lag ${formatCount(lag)}`)
  details.classList.toggle('needs-attention', state !== 'Stable')
  if (details.open) showPartitions(details, group)
}

/** @param {HTMLDetailsElement} details @param {DashboardGroup} group */
function showPartitions(details, { group, members, partitions }) {
  const box = find(details, '.scrolling')
  if (!box.firstElementChild) box.append(createTable(titleOf(group)))
  const hostOf = new Map(members.map(({ id, host }) => [id, host]))
  keepChildren(find(box, 'tbody'), partitions.slice(0, MAX_PARTITIONS), {
    key: ({ topic, partition }) => `${topic} ${partition}`,
    create: ({ topic, partition }) =>
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, topic),
        element('td', { class: 'number' }, String(partition)),
        ...['committed', 'end', 'lag'].map((name) => element('td', { class: `number ${name}` })),
        element('td', { class: 'member' }),
      ),
    update: (row, partition) => showPartition(row, partition, hostOf),
  })
  setText(find(box, '.more'), describeRest(partitions.length - MAX_PARTITIONS))
}

/** @param {string} title */
function createTable(title) {
  const columns = ['Topic', 'Partition', 'Committed', 'End', 'Lag', 'Member']
  const heads = columns.map((name, index) =>
    element('th', { scope: 'col', ...(index > 0 && index < 5 ? { class: 'number' } : {}) }, name),
  )
  const fragment = document.createDocumentFragment()
  fragment.append(
    element(
      'table',
      {},
      element(
        'caption',
        { class: 'visually-hidden' },
        `Lag by partition of ${title}, and the member that reads it`,
      ),
      element('thead', {}, element('tr', {}, ...heads)),
      element('tbody'),
    ),
    element('p', { class: 'quiet more' }),
  )
  return fragment
}

/** @param {HTMLElement} row @param {DashboardPartition} partition @param {Map<string, string>} hostOf */
function showPartition(row, { committed, end, lag, member }, hostOf) {
  // No group has committed anything where it says -1.
  setText(find(row, '.committed'), committed < 0 ? 'nothing' : formatCount(committed))
  setText(find(row, '.end'), formatCount(end))
  setText(find(row, '.lag'), formatCount(lag))
  const cell = find(row, '.member')
  const host = hostOf.get(member ?? '')?.replace(/^\//, '')
  setText(cell, member === undefined ? 'nobody' : `${shorten(member)}${host ? ` on ${host}` : ''}`)
  setAttribute(cell, 'title', member ?? '')
}

/** A member's id ends in a UUID, of which the beginning is enough to tell them apart. @param {string} member */
function shorten(member) {
  return member.replace(/([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, '$1…')
}

/** @param {number} rest */
function describeRest(rest) {
  return rest > 0 ? `and ${formatCount(rest)} more` : ''
}
