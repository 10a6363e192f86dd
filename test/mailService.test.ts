import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type IHeaders, Partitioners } from 'kafkajs'
import { pino } from 'pino'
import { type Config, createKafka, ensureTopics, parseConfig } from '../kafkaConfig.ts'
import { ended } from '../lib/childProcesses.ts'
import { UnavailableError } from '../lib/errors.ts'
import type { OrderCompleted } from '../lib/events.ts'
import { openMailServer, openOutbox } from '../lib/mailSender.ts'
import { STOPPED } from './fixtures/stopAtProbe.ts'
import { orderStop, readAll, runScript, runStoppable, testEnvironment, until } from './harness.ts'

const log = pino({ level: 'silent' })

function decided(orderId: string, type: OrderCompleted['type'] = 'OrderConfirmed', email = 'a@example.org') {
  const at = '2026-11-21T07:36:03.000Z'
  return {
    ...{ type, eventId: `${orderId}/${type}`, occurredAt: at, orderId, customerId: 'cust-1', placedAt: at },
    ...{ currency: 'EUR', total: 1_999, items: [{ sku: 'SKU-1', quantity: 1 }], reasons: [reason] },
    customer: { id: 'cust-1', name: 'Ada', email, tier: 'standard', country: 'DE' },
    ...{ shipmentNumber: 'SHP-1', warnings: [] },
  }
}
const reason = { code: 'fraud', message: 'too risky' }

/** Topics, an outbox, and a way to decide orders. */
async function setUp(t: TestContext, settings: Record<string, string> = {}) {
  const outbox = mkdtempSync(join(tmpdir(), 'outbox-'))
  t.after(() => rmSync(outbox, { recursive: true, force: true }))
  const environment = await testEnvironment(t, { PARTITIONS: '1', OUTBOX_DIR: outbox, ...settings })
  const config = parseConfig(environment)
  await ensureTopics(config, () => undefined)
  const producer = createKafka(config, 'test', log).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  t.after(() => producer.disconnect())
  const send = async (events: { orderId: string }[]) => {
    const messages = events.map((event) => ({ key: event.orderId, value: JSON.stringify(event) }))
    await producer.send({ topic: config.topics.ordersCompleted.name, acks: -1, messages })
  }
  return { environment, config, outbox, send }
}

async function readDeadLetters(config: Config): Promise<{ key: string; headers: IHeaders }[]> {
  const { name } = config.topics.deadLetters.mail
  return (await readAll(config, [name])).get(name)!.map(({ key, headers }) => ({ key: `${key}`, headers }))
}

test('each confirmed order has one file, also when the service is killed before it has said so', async (t) => {
  const { environment, config, outbox, send } = await setUp(t)
  const service = runStoppable(t, 'mailService', environment)
  const { child: first, lines } = service
  await until('it has its task', () => lines.some((line) => /has tasks/.test(line)))
  await orderStop(service, { stopAt: 'effects-done', passes: 1 })
  const ids = Array.from({ length: 50 }, (_, i) => `ord-${i}`)
  await send([...ids.map((id) => decided(id)), decided('cancelled', 'OrderCancelled')])
  await until('it has stopped itself, with mails written', () => lines.includes(STOPPED))
  first.kill('SIGKILL')
  await ended(first)
  const written = readdirSync(outbox)
  assert.ok(written.length > 0)
  const inode = statSync(join(outbox, written[0]!)).ino

  runScript(t, 'mailService', environment)
  await send([decided('no-address', 'OrderConfirmed', 'nobody'), decided('last')])
  await until('the last one is there', () => readdirSync(outbox).includes('last.eml'))
  const expected = [...ids, 'last'].map((id) => `${id}.eml`).sort()
  assert.deepEqual(readdirSync(outbox).sort(), expected)
  assert.equal(statSync(join(outbox, written[0]!)).ino, inode, 'what was there was not written again')
  assert.match(readFileSync(join(outbox, 'ord-7.eml'), 'utf8'), /^Message-ID: <ord-7@order-pipeline>\r$/m)
  await until('the dead letter is there', async () => (await readDeadLetters(config)).length > 0)
  assert.deepEqual(
    (await readDeadLetters(config)).map(({ key }) => key),
    ['no-address'],
  )
})

test('an unfinished file is no mail, and two that write the same one leave one', async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'outbox-'))
  t.after(() => rmSync(parent, { recursive: true }))
  const directory = join(parent, 'made', 'for us')
  const mail = { orderId: 'ord-1', from: 'a@example.org', to: 'b@example.org', content: 'first' }
  const [one, other] = [openOutbox(directory), openOutbox(directory)]
  await one.send(mail)
  await other.send({ ...mail, content: 'second' })
  assert.deepEqual(readdirSync(directory), ['ord-1.eml'])
  assert.equal(readFileSync(join(directory, 'ord-1.eml'), 'utf8'), 'first')
  rmSync(directory, { recursive: true })
  await assert.rejects(one.send({ ...mail, orderId: 'ord-2' }), UnavailableError)
})

interface MailServer {
  port: number
  received: { to: string; content: string }[]
  /** What it answers to a recipient, or to a connection, in place of yes. */
  refuseRecipient(address: string): string | undefined
  greeting: string
  connections: number
  close(): Promise<void>
}

/** A mail server as in RFC 5321, without extensions. */
async function startMailServer(t: TestContext, port = 0): Promise<MailServer> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    mails.connections++
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    serveMail(socket, mails)
  })
  const mails: MailServer = {
    port,
    received: [],
    refuseRecipient: () => undefined,
    greeting: '220 here',
    connections: 0,
    async close() {
      for (const socket of sockets) socket.destroy()
      if (server.listening) await new Promise((resolve) => server.close(resolve))
    },
  }
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  mails.port = (server.address() as AddressInfo).port
  t.after(() => mails.close())
  return mails
}

function serveMail(socket: Socket, mails: MailServer): void {
  let buffered = ''
  let content: string[] | undefined
  let to = ''
  const answer = (text: string) => void socket.write(`${text}\r\n`)
  const onLine = (line: string) => {
    if (content && line !== '.') {
      content.push(line.replace(/^\./, ''))
    } else if (content) {
      mails.received.push({ to, content: content.join('\r\n') })
      content = undefined
      answer('250 taken')
    } else if (/^RCPT TO:/i.test(line)) {
      to = /<(.*)>/.exec(line)![1]!
      answer(mails.refuseRecipient(to) ?? '250 fine')
    } else if (/^DATA$/i.test(line)) {
      content = []
      answer('354 go on')
    } else {
      answer('250 fine')
    }
  }
  answer(mails.greeting)
  socket.on('data', (chunk) => {
    const lines = (buffered + chunk.toString()).split('\r\n')
    buffered = lines.pop()!
    for (const line of lines) onLine(line)
  })
}

test('a mail server gets each mail; while it is away or busy, mails wait; what it refuses is a dead letter', async (t) => {
  const away = await startMailServer(t)
  const { port } = away
  await away.close()
  const { environment, config, outbox, send } = await setUp(t, { SMTP_URL: `smtp://127.0.0.1:${port}` })
  const { lines } = runScript(t, 'mailService', environment)
  const ids = Array.from({ length: 30 }, (_, i) => `ord-${i}`)
  await send([
    ...ids.map((id) => decided(id)),
    decided('refused', 'OrderConfirmed', 'gone@example.org'),
    decided('cancelled', 'OrderCancelled'),
  ])
  const says = (what: RegExp) => until(`${what}`, () => lines.some((line) => what.test(line)))
  await says(/the mail server is not available: .*ECONNREFUSED/)

  const mails = await startMailServer(t, port)
  mails.refuseRecipient = (to) => (to === 'gone@example.org' ? '550 no such mailbox' : '451 later')
  await until('it is asked', () => mails.connections > 2)
  mails.refuseRecipient = (to) => (to === 'gone@example.org' ? '550 no such mailbox' : undefined)
  await until('the dead letter is there', async () => (await readDeadLetters(config)).length > 0)

  const [letter, ...more] = await readDeadLetters(config)
  assert.equal(letter!.key, 'refused')
  assert.match(JSON.stringify(letter!.headers.reason?.toString()), /550 no such mailbox/)
  assert.equal(more.length, 0)
  const received = mails.received.map(({ content }) => /^Message-ID: <(.*)@/m.exec(content)![1]!)
  assert.deepEqual(received.sort(), [...ids].sort())
  assert.ok(mails.received.every(({ to }) => to === 'a@example.org'))
  assert.deepEqual(readdirSync(outbox), [])
})

test('what is no fault of a mail is an outage: the greeting, a busy mailbox; a refused one is not', async (t) => {
  const mails = await startMailServer(t)
  const sender = await openMailServer(`smtp://127.0.0.1:${mails.port}`)
  t.after(() => sender.close())
  const mail = {
    orderId: 'ord-1',
    from: 'a@example.org',
    to: 'b@example.org',
    content: 'Subject: x\r\n\r\n.\r\n.a\r\n',
  }
  mails.greeting = '554 not to you'
  await assert.rejects(sender.send(mail), UnavailableError)
  mails.greeting = '220 here'
  mails.refuseRecipient = () => '450 busy'
  await assert.rejects(sender.send(mail), UnavailableError)
  mails.refuseRecipient = () => '550 gone'
  await assert.rejects(
    sender.send(mail),
    (error: Error) => !(error instanceof UnavailableError) && /550 gone/.test(error.message),
  )
  mails.refuseRecipient = () => undefined
  await sender.send(mail)
  assert.deepEqual(mails.received, [{ to: 'b@example.org', content: 'Subject: x\r\n\r\n.\r\n.a' }])
})
