import java.io.DataInputStream;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes the records on its standard input to a topic, in their order: of each the length of its key (-1 for none), the key, the
 * length of its value, the value. The topic and BROKERS are given by the environment. Ends when all is acknowledged.
 */
public final class Loader {
    public static void main(String[] args) throws IOException {
        Map<String, Object> settings = Map.of(
                ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BROKERS"),
                ProducerConfig.BATCH_SIZE_CONFIG, 512 * 1024,
                ProducerConfig.LINGER_MS_CONFIG, 20,
                ProducerConfig.BUFFER_MEMORY_CONFIG, 64L * 1024 * 1024,
                ProducerConfig.MAX_REQUEST_SIZE_CONFIG, 4 * 1024 * 1024);
        String topic = System.getenv("TOPIC");
        AtomicReference<Exception> failure = new AtomicReference<>();
        DataInputStream input = new DataInputStream(new BufferedInputStream(System.in, 1024 * 1024));
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int keyLength; (keyLength = readLength(input)) >= -1; ) {
                byte[] key = keyLength < 0 ? null : input.readNBytes(keyLength);
                byte[] value = input.readNBytes(input.readInt());
                producer.send(new ProducerRecord<>(topic, key, value), (metadata, error) -> {
                    if (error != null) failure.compareAndSet(null, error);
                });
            }
        }
        if (failure.get() != null) throw new IOException(failure.get());
    }

    /** -2 at the end. */
    private static int readLength(DataInputStream input) throws IOException {
        try {
            return input.readInt();
        } catch (EOFException end) {
            return -2;
        }
    }
}
