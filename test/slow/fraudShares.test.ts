import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseConfig } from '../../kafkaConfig.ts'
import type { OrderPlaced } from '../../lib/events.ts'
import { readOrders, surveyFile } from '../../lib/onlineRetail.ts'
import { AssessmentBook } from '../fraudHarness.ts'

const HISTORY = fileURLToPath(
  new URL('../../../shared/data/online-retail/online-retail-2010-12-to-2011-09.csv.gz', import.meta.url),
)
const { limitMinor } = parseConfig({}).orders

test('of a real history, of a wholesaler, hardly an order fails', async (t) => {
  if (!existsSync(HISTORY)) return t.skip('the history is not here')
  const survey = await surveyFile(HISTORY)
  const customers = new Map(survey.catalogue.customers.map((customer) => [customer.id, customer]))
  const book = new AssessmentBook()
  for await (const { value } of readOrders(survey, () => undefined)) {
    const order: OrderPlaced = JSON.parse(value.toString())
    // As the validator has it.
    const isGood = order.items.every(({ quantity, unitPrice }) => quantity > 0 && unitPrice >= 0)
    if (isGood && order.total > 0 && order.total < limitMinor)
      book.take(order, customers.get(order.customerId)!)
  }
  t.diagnostic(`${book}`)
  assert.ok(book.share('pass') > 0.9 && book.share('fail') < 0.005, `${book}`)
})
