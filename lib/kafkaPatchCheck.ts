import { createRequire } from 'node:module'
import { ConfigurationError } from './errors.ts'

interface Message {
  offset: string
  key: Buffer | null
  isControlRecord: boolean
  batchContext: { producerId: string; inTransaction: boolean }
}
type Filter = (input: {
  messages: Message[]
  abortedTransactions: { producerId: string; firstOffset: string }[]
}) => Message[]

/**
 * Asks the kafkajs that is installed, by trying it, whether it hides the records of aborted transactions. As
 * published it does not when two producers write to one partition: it takes the broker's list of aborted
 * transactions to be in order. `patches/` mends that, at installation.
 *
 * @throws ConfigurationError when the patch is not there
 */
export function requirePatchedKafkajs(): void {
  const filter = createRequire(import.meta.url)('kafkajs/src/consumer/filterAbortedMessages.js') as Filter
  const record = (offset: string, producerId: string): Message => ({
    offset,
    key: null,
    isControlRecord: false,
    batchContext: { producerId, inTransaction: true },
  })
  const visible = filter({
    messages: [record('10', '1'), record('11', '2')],
    abortedTransactions: [
      { producerId: '2', firstOffset: '11' },
      { producerId: '1', firstOffset: '10' },
    ],
  })
  if (visible.length === 0) return
  throw new ConfigurationError(
    'the installed kafkajs lacks the patches of this project and would process records of aborted transactions: ' +
      'run `npm install` (with install scripts allowed) or `npx patch-package`',
  )
}
