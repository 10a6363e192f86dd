/**
 * The browser's language, made one that can be read: a machine that is set to none (LANG=C) has the name of that as its
 * language, which Intl refuses, and whoever formats a number with it fails. To be loaded before all else.
 */
try {
  new Intl.NumberFormat(navigator.language)
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-GB' })
}
