/**
 * Light, dark, or as the system has it: the choice stays in localStorage. Loaded before the first painting, so that
 * nothing flashes.
 */

const STORED_AS = 'theme'
const NEXT = { automatic: 'light', light: 'dark', dark: 'automatic' }

/** @typedef {keyof typeof NEXT} Theme */

/** Of the document, when the colours have become others. */
export const THEME_CHANGED = 'theme-changed'

/** @returns {Theme} */
function readTheme() {
  const stored = localStorage.getItem(STORED_AS)
  return stored === 'light' || stored === 'dark' ? stored : 'automatic'
}

/** @param {Theme} theme */
function apply(theme) {
  if (theme === 'automatic') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  document.dispatchEvent(new Event(THEME_CHANGED))
}

/** @param {HTMLElement} button goes through the themes */
export function startThemeButton(button) {
  const label = () => {
    button.textContent = `Theme: ${readTheme()}`
  }
  button.addEventListener('click', () => {
    const theme = /** @type {Theme} */ (NEXT[readTheme()])
    localStorage.setItem(STORED_AS, theme)
    apply(theme)
    label()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => apply(readTheme()))
  label()
}

apply(readTheme())
