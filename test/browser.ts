/** A real browser for tests, and what a page in it is held to. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { TestContext } from 'node:test'
import chromium from '@sparticuz/chromium'
import type { AxeResults } from 'axe-core'
import { type Browser, type BrowserContextOptions, type Page, chromium as playwright } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** A page on a machine with much to do takes its time. */
const PAGE_TIMEOUT_MS = 120_000

/**
 * CHROME_PATH, or the Chromium among the packages, which is for Linux on x64.
 *
 * @returns undefined where none can be had: the test is skipped then, with why
 */
export async function openBrowser(t: TestContext): Promise<Browser | undefined> {
  const isPackaged = process.platform === 'linux' && process.arch === 'x64'
  const executablePath = process.env.CHROME_PATH ?? (isPackaged ? await chromium.executablePath() : '')
  if (!existsSync(executablePath)) {
    t.skip('no Chromium for this platform: set CHROME_PATH')
    return undefined
  }
  try {
    // The packaged arguments take the walls down that some tests are about.
    const browser = await playwright.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
    t.after(() => browser.close())
    return browser
  } catch (error) {
    const [missing] = /error while loading shared libraries: [^:\s]+/.exec(String(error)) ?? []
    if (missing === undefined) throw error
    t.skip(`Chromium: ${missing}: apt-get install libnss3, or set CHROME_PATH`)
    return undefined
  }
}

export interface WatchedPage {
  page: Page
  /** Errors of scripts and violations of the policy. */
  complaints: string[]
  /** The hosts of all that was asked for. */
  hosts: Set<string>
}

/** A page in a context of its own, with a locale whose numbers a test can read. */
export async function openPage(
  t: TestContext,
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<WatchedPage> {
  const context = await browser.newContext({ locale: 'en-GB', reducedMotion: 'reduce', ...options })
  t.after(() => context.close())
  context.setDefaultTimeout(PAGE_TIMEOUT_MS)
  const page = await context.newPage()
  const watched: WatchedPage = { page, complaints: [], hosts: new Set() }
  context.on('request', (request) => watched.hosts.add(new URL(request.url()).host))
  page.on('pageerror', (error) => watched.complaints.push(String(error)))
  page.on('console', (message) => {
    const text = message.text()
    // A server that is being restarted cannot be reached, which is no fault of the page.
    if (message.type() === 'error' && !/^Failed to load resource/.test(text)) watched.complaints.push(text)
  })
  page.on('dialog', (dialog) => {
    watched.complaints.push(`a dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  return watched
}

/** What axe finds, a line each: its rule, how grave it is, and where. */
export async function findBarriers(page: Page): Promise<string[]> {
  await page.evaluate(AXE)
  const { violations } = await page.evaluate(() =>
    (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run(),
  )
  return violations.map(
    ({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => node.target).join(', ')}`,
  )
}
