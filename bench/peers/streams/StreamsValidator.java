import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.Stores;

/**
 * The job of validator.ts with Kafka Streams: orders.raw into orders.validated, orders.rejected and validator.dlq.
 *
 * Configured by the environment: BROKERS, TOPIC_PREFIX, APPLICATION_ID, GUARANTEE (exactly_once_v2 or at_least_once), THREADS,
 * STATE_DIR, JOB (validate, or copy: key and value as they are, with the header alone). Ends when its standard input does.
 */
public final class StreamsValidator {
    private static final Map<String, String> ENV = System.getenv();
    private static final String PREFIX = ENV.getOrDefault("TOPIC_PREFIX", "");
    private static final int COMMIT_INTERVAL_MS = 100;
    private static final int BUFFERED_RECORDS = 5_000;
    private static final int MAX_POLL_RECORDS = 5_000;
    private static final int BATCH_BYTES = 256 * 1024;

    public static void main(String[] args) throws IOException {
        boolean copies = "copy".equals(ENV.get("JOB"));
        KafkaStreams streams = new KafkaStreams(copies ? copying() : validating(), settings());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        while (System.in.read() >= 0) {
            // Whoever started this says nothing; when it ends, so does this.
        }
        streams.close();
    }

    /**
     * After Kafka's documentation on throughput: large batches to write, large fetches to read, buffers that hold several
     * polls; and what costs without being needed is off. The commit interval is the default of exactly-once;
     * at-least-once takes the same, where its default is 30 s.
     */
    private static Properties settings() {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ENV.get("BROKERS"));
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, ENV.get("APPLICATION_ID"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, ENV.get("STATE_DIR"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, ENV.get("GUARANTEE"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, ENV.get("THREADS"));
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT_INTERVAL_MS);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, BUFFERED_RECORDS);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), MAX_POLL_RECORDS);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 * 1024 * 1024);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 100);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), BATCH_BYTES);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64 * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_REQUEST_SIZE_CONFIG), 2 * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.SEND_BUFFER_CONFIG), 1024 * 1024);
        return settings;
    }

    private static Topology copying() {
        return topology(Copy::new);
    }

    private static Topology validating() {
        Knowledge knowledge = new Knowledge();
        Topology topology = topology(() -> new Validate(knowledge));
        addGlobalStore(topology, "customers", knowledge.customerUpdates());
        addGlobalStore(topology, "products", knowledge.productUpdates());
        return topology;
    }

    private static Topology topology(ProcessorSupplier<byte[], byte[], byte[], byte[]> processor) {
        Topology topology = new Topology();
        topology.addSource("raw", new ByteArrayDeserializer(), new ByteArrayDeserializer(), PREFIX + "orders.raw");
        topology.addProcessor("work", processor, "raw");
        addSink(topology, "validated", "orders.validated");
        addSink(topology, "rejected", "orders.rejected");
        addSink(topology, "dlq", "validator.dlq");
        return topology;
    }

    private static void addSink(Topology topology, String name, String topic) {
        topology.addSink(name, PREFIX + topic, new ByteArraySerializer(), new ByteArraySerializer(), "work");
    }

    private static void addGlobalStore(Topology topology, String name, ProcessorSupplier<byte[], byte[], Void, Void> updates) {
        var store = Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray())
                .withLoggingDisabled();
        topology.addGlobalStore(store, name + "-topic", new ByteArrayDeserializer(), new ByteArrayDeserializer(),
                PREFIX + name, name + "-updates", updates);
    }

    private abstract static class Work implements Processor<byte[], byte[], byte[], byte[]> {
        protected ProcessorContext<byte[], byte[]> context;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
        }

        protected RecordMetadata position() {
            return context.recordMetadata().orElseThrow();
        }

        protected static String sourceOf(RecordMetadata at) {
            return at.topic() + "/" + at.partition() + "/" + at.offset();
        }

        protected static void add(Headers headers, String name, String value) {
            headers.add(name, value.getBytes(StandardCharsets.UTF_8));
        }
    }

    private static final class Copy extends Work {
        @Override
        public void process(Record<byte[], byte[]> record) {
            add(record.headers(), "source", sourceOf(position()));
            context.forward(record, "validated");
        }
    }

    private static final class Validate extends Work {
        private final Knowledge knowledge;
        private final Events events = new Events();
        private final DedupeWindow window = new DedupeWindow(20_000, 60 * 60_000L);

        Validate(Knowledge knowledge) {
            this.knowledge = knowledge;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            RecordMetadata at = position();
            String source = sourceOf(at);
            Order order;
            try {
                order = Order.parse(record.key(), record.value());
            } catch (Order.Unusable error) {
                deadLetter(record, at, source, error.getMessage());
                return;
            }
            add(record.headers(), "source", source);
            DedupeWindow.Repetition repetition = window.admit(order, at.offset(), record.timestamp());
            Knowledge.Customer customer = knowledge.customers.get(order.customerId);
            List<Rules.Reason> reasons = Rules.findReasons(order, repetition, customer, knowledge);
            if (reasons == null) {
                context.forward(record.withValue(events.validated(order, customer)), "validated");
            } else {
                String occurrence = repetition == DedupeWindow.Repetition.FIRST ? null : source;
                context.forward(record.withValue(events.rejected(order, reasons, occurrence)), "rejected");
            }
        }

        private void deadLetter(Record<byte[], byte[]> record, RecordMetadata at, String source, String reason) {
            Headers headers = record.headers();
            add(headers, "source", source);
            add(headers, "topic", at.topic());
            add(headers, "partition", String.valueOf(at.partition()));
            add(headers, "offset", String.valueOf(at.offset()));
            add(headers, "timestamp", String.valueOf(record.timestamp()));
            add(headers, "reason", reason);
            add(headers, "attempts", "1");
            context.forward(record, "dlq");
        }
    }
}
