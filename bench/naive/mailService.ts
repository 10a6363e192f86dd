/** orders.completed -> a file for each confirmed order. */
import type { OrderCompleted } from '../../lib/events.ts'
import { composeConfirmation, parseMailbox } from '../../lib/mail.ts'
import { openOutbox } from '../../lib/mailSender.ts'
import { runNaively } from '../../test/naive/service.ts'

await runNaively('mail', (config) => {
  const { outboxDir, from } = config.mail
  const outbox = openOutbox(outboxDir)
  const sender = parseMailbox(from)!
  return {
    inputs: [config.topics.ordersCompleted],
    async handle(order: OrderCompleted) {
      if (order.type === 'OrderConfirmed') await outbox.send(composeConfirmation(order, sender))
      return undefined
    },
  }
})
