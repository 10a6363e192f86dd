import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { formatMoney, NotADecimalError, parseDecimal } from '../lib/money.ts'

describe('money', () => {
  const cases: [text: string, minor: number][] = [
    ['2.55', 255],
    ['0.001', 0],
    ['0.005', 1],
    ['1.005', 101],
    ['-11062.06', -1_106_206],
    ['-0.004', 0],
    ['7', 700],
    ['38970', 3_897_000],
    [' 0.29 ', 29],
  ]
  for (const [text, minor] of cases) {
    it(`takes '${text}' for ${minor}`, () => assert.equal(parseDecimal(text), minor))
  }
  for (const text of ['', 'x', '1e3', '1.2.3', 'NaN', '0x10', '9007199254740993']) {
    it(`refuses '${text}'`, () => assert.throws(() => parseDecimal(text), NotADecimalError))
  }

  it('reads back every amount that it writes', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e12, max: 1e12 }), (minor) => {
        const text = formatMoney(minor, 'EUR').replaceAll(',', '').replace(' EUR', '')
        assert.equal(parseDecimal(text), minor)
      }),
    )
  })
})
