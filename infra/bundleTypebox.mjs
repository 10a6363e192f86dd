// Run after npm install: puts the 700 small files of typebox into a few. Loaded one by one, each through tsx, they took
// every script more than a second before its first line, and 13 of them start at once. What is imported, and its types,
// stay the same; without this step all works, later.
import { mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const PACKAGE = fileURLToPath(new URL('../node_modules/typebox', import.meta.url))

const { exports: entries } = JSON.parse(await readFile(join(PACKAGE, 'package.json'), 'utf8'))
// Beside the files that they take the place of: a rename is at once, and a script may be starting.
const outdir = await mkdtemp(join(PACKAGE, 'bundle-'))
try {
  await build({
    entryPoints: Object.values(entries).map((entry) => join(PACKAGE, entry.import)),
    outbase: join(PACKAGE, 'build'),
    outdir,
    bundle: true,
    // One copy of what the entries share: the formats that one of them registers are looked up by another.
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outExtension: { '.js': '.mjs' },
    chunkNames: 'bundled-[hash]',
    logLevel: 'warning',
  })
  const written = (await readdir(outdir, { recursive: true })).filter((name) => name.endsWith('.mjs'))
  // What is shared first: the entries name it.
  written.sort((a, b) => Number(b.startsWith('bundled-')) - Number(a.startsWith('bundled-')))
  for (const name of written) await rename(join(outdir, name), join(PACKAGE, 'build', name))
} catch (error) {
  console.warn(`typebox stays as it is, and every script starts a second later: ${error.message}`)
} finally {
  await rm(outdir, { recursive: true, force: true })
}
