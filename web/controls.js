/**
 * What somebody with the token may do to the pipeline. The token stays in this tab.
 *
 * @import { DashboardSnapshot } from '../lib/dashboardSnapshot.ts'
 */
import { element, find, keepChildren, setText } from './dom.js'
import { formatRate } from './formats.js'
import { titleOf } from './stages.js'

const STORED_AS = 'controls-token'

/** Chosen at first: there is most to be seen. */
const FIRST_CHOSEN = 'payment'
/** Those that stand on the processor can be paused; the others can be killed alone. */
const CANNOT_PAUSE = ['producer', 'api', 'gateway']

/** What each button does to the gateway, and what to watch for then. @type {Record<string, { faults: Record<string, number>, said: string }>} */
const GATEWAY_PRESETS = {
  slow: {
    faults: { latencyMs: 1_500, errorRatio: 0, throttleRatio: 0, dropRatio: 0 },
    said: 'It takes 1.5 s for each answer. Watch the lag and p99 of Payment grow, and Fulfilment wait.',
  },
  dropping: {
    faults: { latencyMs: 20, errorRatio: 0, throttleRatio: 0, dropRatio: 0.3 },
    said: 'Three of ten answers are lost after the charge. Payment asks again with the same key: nobody is charged twice.',
  },
  failing: {
    faults: { latencyMs: 20, errorRatio: 1, throttleRatio: 0, dropRatio: 0 },
    said: 'It answers nothing but errors. Watch the circuit open and orders wait; none is dead-lettered for it.',
  },
  healthy: {
    faults: { latencyMs: 20, errorRatio: 0, throttleRatio: 0, dropRatio: 0 },
    said: 'It is well again. Watch the circuit close and the lag of Payment melt.',
  },
}

/** @type {Record<string, (title: string) => string>} */
const SERVICE_CONTROLS = {
  pause: (title) => `${title} is paused: it stays in its group and takes nothing in. Watch its lag grow.`,
  resume: (title) => `${title} goes on. Watch its lag melt.`,
  kill: (title) =>
    `${title} is killed. It shows as gone; its partitions stand still for up to 6 s, then somebody else has them, or it comes back with npm start.`,
}

export class Controls {
  #section
  #result

  /** @param {HTMLElement} section */
  constructor(section) {
    this.#section = section
    this.#result = find(section, '#control-result')
    const token = /** @type {HTMLInputElement} */ (find(section, '#token'))
    token.value = sessionStorage.getItem(STORED_AS) ?? ''
    this.#onSubmit('#token-form', () => {
      sessionStorage.setItem(STORED_AS, token.value.trim())
      this.#say(
        'The token is kept until this tab is closed. Whether it is the right one, the first control tells.',
      )
    })
    this.#onSubmit('#rate-form', () => {
      const ratePerSecond = Number(/** @type {HTMLInputElement} */ (find(section, '#rate')).value)
      const said = `The simulator places ${formatRate(ratePerSecond)} orders per second now. Watch who falls behind first.`
      return this.#order('producer', 'rate', { ratePerSecond }, said)
    })
    this.#onSubmit('#service-form', (button) => {
      const service = /** @type {HTMLSelectElement} */ (find(section, '#service')).value
      const said = SERVICE_CONTROLS[button]?.(titleOf(service)) ?? ''
      return this.#order(service, button, {}, said)
    })
    this.#onSubmit('#gateway-form', (button) => {
      const preset = GATEWAY_PRESETS[button]
      if (preset) return this.#order('gateway', 'faults', preset.faults, preset.said)
    })
    find(section, '#service').addEventListener('change', () => this.#allowButtons())
  }

  /** @param {DashboardSnapshot} snapshot */
  show({ controls, stages, simulator }) {
    this.#section.hidden = !controls
    for (const link of document.querySelectorAll('[data-needs-controls]'))
      link.toggleAttribute('hidden', !controls)
    if (!controls) return
    const names = stages.filter(({ state }) => state !== 'absent').map(({ name }) => name)
    keepChildren(find(this.#section, '#service'), names, {
      key: (name) => name,
      create: (name) =>
        element('option', { value: name, ...(name === FIRST_CHOSEN ? { selected: '' } : {}) }, titleOf(name)),
      update: () => undefined,
    })
    this.#allowButtons()
    setText(
      find(this.#section, '#rate-now'),
      simulator ? `Now ${formatRate(simulator.ratePerSecond)}.` : 'No simulator runs.',
    )
  }

  #allowButtons() {
    const { value } = /** @type {HTMLSelectElement} */ (find(this.#section, '#service'))
    for (const name of ['pause', 'resume']) {
      find(this.#section, `button[value=${name}]`).toggleAttribute('disabled', CANNOT_PAUSE.includes(value))
    }
  }

  /** @param {string} form @param {(button: string) => unknown} act */
  #onSubmit(form, act) {
    find(this.#section, form).addEventListener('submit', (event) => {
      event.preventDefault()
      const { submitter } = /** @type {SubmitEvent} */ (event)
      act(submitter instanceof HTMLButtonElement ? submitter.value : '')
    })
  }

  /** @param {string} service @param {string} control @param {object} body @param {string} said what it did, once it has */
  async #order(service, control, body, said) {
    this.#say('…')
    try {
      const answer = await fetch(`controls/${encodeURIComponent(service)}/${control}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${sessionStorage.getItem(STORED_AS) ?? ''}`,
        },
        body: JSON.stringify(body),
      })
      if (answer.ok) this.#say(said)
      else this.#complain(await explain(answer))
    } catch (error) {
      this.#complain(
        `The dashboard's server cannot be reached: ${error instanceof Error ? error.message : error}`,
      )
    }
  }

  /** @param {string} text */
  #say(text) {
    this.#result.classList.remove('is-error')
    setText(this.#result, text)
  }

  /** @param {string} text */
  #complain(text) {
    this.#result.classList.add('is-error')
    setText(this.#result, text)
  }
}

/** Why it was refused, in the words of lib/problem.ts or of the processes that were asked. @param {Response} answer */
async function explain(answer) {
  if (answer.status === 401) {
    return 'Refused: a control needs the token. npm start prints it, or it is DEMO_TOKEN; enter it above.'
  }
  const { detail, results = [] } = await answer.json().catch(() => ({}))
  const said = /** @type {{ ok: boolean, answer: { error?: string } }[]} */ (results).find(({ ok }) => !ok)
  return `Not done (${answer.status}): ${detail ?? said?.answer?.error ?? 'the server does not say why'}`
}
