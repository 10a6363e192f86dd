import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { ClaimError, fold, Narrator, wrap } from '../lib/tourNarrator.ts'
import { TOUR_STEPS } from '../lib/tourSteps.ts'
import { takeTour } from './tourHarness.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const CONCEPTS = readFileSync(join(ROOT, 'docs/CONCEPTS.md'), 'utf8')

describe('docs/CONCEPTS.md', () => {
  it('names what stands in the files that it points to', () => {
    const named = [...CONCEPTS.matchAll(/`([\w.#]+)`\s+(?:in|of)\s+\[[^\]]+\]\(\.\.\/([^)#]+)\)/g)]
    assert.ok(named.length > 30, `${named.length} are named`)
    for (const [, symbol, file] of named) {
      assert.ok(existsSync(join(ROOT, file!)), file)
      const code = readFileSync(join(ROOT, file!), 'utf8')
      const parts = symbol!.split('.')
      const [owner, member = owner] = parts
      assert.match(code, declarationOf(owner!), `${owner} in ${file}`)
      if (parts.length > 1) assert.match(code, methodNamed(member!), `${symbol} in ${file}`)
    }
  })

  it('points to nothing in the code without saying what is there', () => {
    const links = [...CONCEPTS.matchAll(/\]\(\.\.\/((?:lib|infra)\/[^)#]+)\)/g)].length
    const named = [...CONCEPTS.matchAll(/`[\w.#]+`\s+(?:in|of)\s+\[[^\]]+\]\(\.\.\/(?:lib|infra)\/[^)#]+\)/g)]
      .length
    assert.equal(links, named)
  })

  it('has a heading for each step of the tour, and each step stands under one', () => {
    const headings = [...CONCEPTS.matchAll(/^## (.+)$/gm)].map(([, heading]) =>
      heading!.toLowerCase().replaceAll(' ', '-'),
    )
    const shown = new Set(
      [...CONCEPTS.matchAll(/^Tour: `npm run tour -- --step ([\w-]+)`/gm)].map(([, name]) => name),
    )
    for (const { name, concept } of TOUR_STEPS) {
      assert.ok(headings.includes(concept), concept)
      const section = CONCEPTS.split(/^## /m).find((each) => anchorOf(each.split('\n')[0]!) === concept)
      assert.ok(section?.includes(`--step ${name}\``), `${name} in ${concept}`)
    }
    assert.deepEqual([...shown].sort(), TOUR_STEPS.map(({ name }) => name).sort())
  })
})

function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(' ', '-')
}

function declarationOf(name: string): RegExp {
  return new RegExp(`\\b(?:function|class|const|interface|type) ${name}\\b`)
}

function methodNamed(name: string): RegExp {
  return new RegExp(`^ +(?:static |async |\\*)*${name.replace('#', '\\#')}(?:<[^>]*>)?\\(`, 'm')
}

describe('the narrator', () => {
  it('fits text and output into the window, and loses nothing of either', () => {
    const text = 'Each service reads orders.validated/0/17 in a consumer group of its own.'
    const line = '{"type":"OrderValidated","orderId":"ord-1","total":1064}   a   table'
    for (const width of [20, 33, 80]) {
      assert.ok(wrap(text, width).every((each) => each.length <= width))
      assert.equal(wrap(text, width).join(' ').replaceAll(' ', ''), text.replaceAll(' ', ''))
      assert.ok(fold(line, width).every((each) => each.length <= width))
      assert.equal(fold(line, width).join('').replaceAll(' ', ''), line.replaceAll(' ', ''))
    }
    assert.deepEqual(wrap('x'.repeat(25), 10), ['xxxxxxxxxx', 'xxxxxxxxxx', 'xxxxx'])
  })

  it('writes plain lines in a pipe, and colours and a line drawn over only on a terminal', async () => {
    const plain = narrate({})
    assert.equal(stripVTControlCharacters(plain), plain)
    assert.match(plain, /✓ it is so/)
    const colored = narrate({ isTTY: true, columns: 30, color: true })
    assert.ok(colored.includes('\u001b[32m✓\u001b[0m it is so'), colored)
    const bare = stripVTControlCharacters(colored)
    assert.ok(
      bare.split('\n').every((each) => each.length <= 30),
      bare,
    )
  })

  it('ends a step that does not show what it says', () => {
    const narrator = new Narrator({
      screen: { write: () => true },
      keys: undefined,
      color: false,
      signal: new AbortController().signal,
    })
    assert.throws(() => narrator.claim('nothing is lost', false), ClaimError)
  })
})

function narrate({
  color = false,
  ...screen
}: {
  isTTY?: boolean
  columns?: number
  color?: boolean
}): string {
  let written = ''
  const write = (text: string) => {
    written += text
    return true
  }
  const { signal } = new AbortController()
  const narrator = new Narrator({ screen: { ...screen, write }, keys: undefined, color, signal })
  narrator.heading('a step with a long title')
  narrator.say('A sentence or two on what will be seen, which is longer than a narrow window.')
  narrator.command('npx tsx producer.ts --orders 30 --max')
  narrator.table(['group', 'committed'], [['inventory', '17']], [1])
  narrator.claim('it is so', true)
  narrator.conclude('That was it.', 'docs/CONCEPTS.md#saga')
  return written
}

it('a step of the tour shows what it says on a real pipeline, and leaves nothing behind', async (t) => {
  const { result, narration } = await takeTour(t, ['--step', 'duplicate'])
  assert.deepEqual(
    result.steps.map(({ name, facts }) => [name, facts]),
    [['duplicate', { refusals: 2, charges: 1 }]],
  )
  assert.match(narration, /duplicate: order ord-\w+-1\s+was\s+placed before/)
})
