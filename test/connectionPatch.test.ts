/**
 * What `patches/` changes in how kafkajs connects again. The broker has to go in the middle of an answer, so it is
 * played here; what sends and reads is the kafkajs that is installed.
 */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { type AddressInfo, connect, createServer } from 'node:net'
import { type TestContext, test } from 'node:test'

const REQUEST_TIMEOUT_MS = 1_000
const CORRELATION_ID_AT = 8

interface Connection {
  connect(): Promise<boolean>
  disconnect(): Promise<boolean>
  send(protocol: object): Promise<string>
}

const require = createRequire(import.meta.url)
const ConnectionOfKafkajs = require('kafkajs/src/network/connection') as new (options: object) => Connection
const Encoder = require('kafkajs/src/protocol/encoder') as new () => object

const silent = { debug() {}, info() {}, warn() {}, error() {} }

/** A broker that is gone after half of its first answer, and answers from then on. @returns its port */
async function startDyingBroker(t: TestContext): Promise<number> {
  let isFirst = true
  const server = createServer((socket) => {
    socket.on('data', (request) => {
      const answer = Buffer.alloc(1_000)
      answer.writeInt32BE(answer.length - 4, 0)
      request.copy(answer, 4, CORRELATION_ID_AT, CORRELATION_ID_AT + 4)
      if (isFirst) socket.end(answer.subarray(0, answer.length / 2))
      else socket.write(answer)
      isFirst = false
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}

test('a connection that broke in the middle of an answer is read from its beginning when it is made again', async (t) => {
  const connection = new ConnectionOfKafkajs({
    host: '127.0.0.1',
    port: await startDyingBroker(t),
    logger: { namespace: () => silent },
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: REQUEST_TIMEOUT_MS,
    socketFactory: ({ host, port, onConnect }: { host: string; port: number; onConnect: () => void }) =>
      connect({ host, port }, onConnect),
  })
  const ask = async () => {
    await connection.connect()
    return connection.send({
      request: { apiKey: 3, apiVersion: 0, apiName: 'Metadata', encode: async () => new Encoder() },
      response: { decode: async (payload: Buffer) => payload, parse: async () => 'answered' },
    })
  }
  await assert.rejects(ask(), { name: 'KafkaJSConnectionClosedError' })
  t.after(() => connection.disconnect())
  assert.equal(await ask(), 'answered')
})
