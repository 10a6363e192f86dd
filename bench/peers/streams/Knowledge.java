import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BiConsumer;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Customers and products, each from a compacted topic by a global store. Kept as objects beside the store, so that a look-up
 * decodes nothing. Ours asks PostgreSQL for customers, and again for each that it does not know: this one never does.
 */
final class Knowledge {
    record Customer(String id, String name, String email, String tier, String country, boolean blocked) {}

    private static final JsonFactory JSON = new JsonFactory();

    final Map<String, Customer> customers = new ConcurrentHashMap<>();
    /** True for one that is on sale, false for one that was withdrawn. */
    final Map<String, Boolean> products = new ConcurrentHashMap<>();

    ProcessorSupplier<byte[], byte[], Void, Void> customerUpdates() {
        return updates((id, value) -> {
            if (value == null) {
                customers.remove(id);
                return;
            }
            Map<String, String> fields = read(value);
            customers.put(id, new Customer(id, fields.get("name"), fields.get("email"), fields.get("tier"),
                    fields.get("country"), Boolean.parseBoolean(fields.get("blocked"))));
        });
    }

    ProcessorSupplier<byte[], byte[], Void, Void> productUpdates() {
        return updates((sku, value) -> products.put(sku, value != null));
    }

    private static ProcessorSupplier<byte[], byte[], Void, Void> updates(BiConsumer<String, byte[]> apply) {
        return () -> new Processor<>() {
            @Override
            public void process(Record<byte[], byte[]> record) {
                apply.accept(new String(record.key(), StandardCharsets.UTF_8), record.value());
            }
        };
    }

    private static Map<String, String> read(byte[] value) {
        Map<String, String> fields = new HashMap<>();
        try (JsonParser json = JSON.createParser(value)) {
            json.nextToken();
            while (json.nextToken() == JsonToken.FIELD_NAME) {
                String name = json.currentName();
                json.nextToken();
                fields.put(name, json.getText());
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return fields;
    }
}
