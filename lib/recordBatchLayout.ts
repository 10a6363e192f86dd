/**
 * The layout of a record batch of version 2 ("magic" 2), the only one that brokers since 4.0 store. Kafka's documentation
 * describes it under "Message Format" (https://kafka.apache.org/documentation/#recordbatch): positions of the fixed
 * fields, counted from the batch's first byte. Whole numbers are big-endian; within a record they are varints, zigzag
 * encoded as in Protocol Buffers.
 */
export const LENGTH_AT = 8
export const LEADER_EPOCH_AT = 12
export const MAGIC_AT = 16
export const CRC_AT = 17
/** From here on the checksum counts. */
export const ATTRIBUTES_AT = 21
export const LAST_OFFSET_DELTA_AT = 23
export const BASE_TIMESTAMP_AT = 27
export const MAX_TIMESTAMP_AT = 35
export const PRODUCER_ID_AT = 43
export const PRODUCER_EPOCH_AT = 51
export const BASE_SEQUENCE_AT = 53
export const RECORD_COUNT_AT = 57
export const RECORDS_AT = 61

/** What the length does not count: the base offset and itself. */
export const BEFORE_LENGTH_ENDS = 12
export const MAGIC = 2

export const COMPRESSION_MASK = 0x07
export const LOG_APPEND_TIME = 0x08
export const TRANSACTIONAL = 0x10
export const CONTROL = 0x20
