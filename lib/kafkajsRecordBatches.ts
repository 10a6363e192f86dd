import { createRequire } from 'node:module'
import { ConfigurationError } from './errors.ts'
import { FetchedPartition, type PartitionData } from './fetchedPartition.ts'
import { type FetchedBatch, readBatches } from './recordBatchDecoder.ts'
import { encodeRecordBatch, type RecordToEncode } from './recordBatchEncoder.ts'

/** What kafkajs, as patched, asks for in place of its own code; see `patches/`. */
interface Replacement {
  /** @returns undefined for what kafkajs is to decode itself */
  decode?: (bytes: Buffer) => FetchedBatches | undefined
  encode?: (batch: KafkajsBatch) => Buffer
}

/** A batch in the terms of kafkajs; whole numbers of 64 bits are of its class Long. */
interface KafkajsBatch {
  messages: RecordToEncode[]
  transactionalId: string | null | undefined
  producerId: { toString(): string }
  producerEpoch: number
  firstSequence: number | undefined
}

/** What kafkajs carries from its decoder to where it knows the offset that was asked for. */
export class FetchedBatches {
  readonly #batches: readonly FetchedBatch[]

  constructor(batches: readonly FetchedBatch[]) {
    this.#batches = batches
  }

  toBatch(topic: string, fetchedOffset: string, data: PartitionData): FetchedPartition {
    return new FetchedPartition(topic, fetchedOffset, data, this.#batches)
  }
}

/**
 * Has all clients of this process read and write record batches by our own code, which costs a fraction of theirs. What
 * it does not do (compression, versions before 2) is left to kafkajs. Once is enough, and again is no harm.
 *
 * @throws ConfigurationError when the installed kafkajs lacks our patches
 */
export function installRecordBatches(): void {
  const replacement = findReplacement()
  replacement.decode = (bytes) => {
    const batches = readBatches(bytes)
    return batches && new FetchedBatches(batches)
  }
  replacement.encode = ({ messages, transactionalId, producerId, producerEpoch, firstSequence }) =>
    encodeRecordBatch({
      records: messages,
      isTransactional: Boolean(transactionalId),
      producerId: BigInt(producerId.toString()),
      producerEpoch,
      baseSequence: firstSequence ?? 0,
      nowMs: Date.now(),
    })
}

function findReplacement(): Replacement {
  try {
    return createRequire(import.meta.url)('kafkajs/src/protocol/recordBatch/replacement.js') as Replacement
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    throw new ConfigurationError(
      'the installed kafkajs lacks the patches of this project: run `npm install` (with install scripts allowed) or `npx patch-package`',
      { cause: error },
    )
  }
}
