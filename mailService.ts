/**
 * Tells customers that their orders are confirmed.
 *
 *   orders.completed -> one mail for each OrderConfirmed
 *
 * Without SMTP_URL a mail is a file in OUTBOX_DIR, `<order>.eml`, which is there once, whatever is killed. With it, mail
 * is sent at least once: a crash between the server's answer and our commit sends it again, with the same Message-ID.
 * While the server is away, mails wait; what it refuses for good is a dead letter.
 *
 * Flags: --verbose prints dead letters.
 */
import { ConfigurationError, UnavailableError } from './lib/errors.ts'
import type { OrderCompleted } from './lib/events.ts'
import { composeConfirmation, parseMailbox } from './lib/mail.ts'
import { openMailServer, openOutbox } from './lib/mailSender.ts'
import type { InputRecord, Outcome } from './lib/record.ts'
import { runService } from './lib/service.ts'

/** What is sent of the batch in hand, by position: when it is tried again, that is not. */
type Sent = Set<string>

const MAX_BATCH_RECORDS = 200

await runService('mail', 'Mails confirmations of orders.', async ({ config, log, onClose }) => {
  const { smtpUrl, outboxDir, from } = config.mail
  const sender = parseMailbox(from)
  if (!sender) {
    throw new ConfigurationError(
      `MAIL_FROM=${from} is not usable: it takes an address such as Orders <orders@example.com>`,
    )
  }
  const mailSender = smtpUrl === undefined ? openOutbox(outboxDir) : await openMailServer(smtpUrl)
  onClose(() => mailSender.close())
  log.info(smtpUrl === undefined ? `mail goes to ${outboxDir}` : `mail goes to ${new URL(smtpUrl).host}`)

  return {
    inputs: [config.topics.ordersCompleted],
    outputs: [],
    maxBatchRecords: MAX_BATCH_RECORDS,
    createState: () => new Set(),
    async handle(records: InputRecord<OrderCompleted>[], sent: Sent): Promise<Outcome[]> {
      const results = await Promise.allSettled(
        records.map(async ({ event, source }) => {
          if (event.type !== 'OrderConfirmed' || sent.has(source)) return
          await mailSender.send(composeConfirmation(event, sender))
          sent.add(source)
        }),
      )
      const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
      // What is only late must not be taken for what is wrong.
      if (errors.length > 0) throw errors.find((error) => error instanceof UnavailableError) ?? errors[0]
      for (const { source } of records) sent.delete(source)
      return records.map(() => [])
    },
  }
})
