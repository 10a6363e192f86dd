import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.List;

/** Writes OrderValidated and OrderRejected, byte for byte as validator.ts does but for their times and `processedBy`. */
final class Events {
    private static final JsonFactory JSON = new JsonFactory();
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    private final String processedBy = "streams-" + ProcessHandle.current().pid();
    private final ByteArrayBuilder buffer = new ByteArrayBuilder(2048);
    private long nowMs;
    private String now;

    byte[] validated(Order order, Knowledge.Customer customer) {
        String time = now();
        buffer.reset();
        try (JsonGenerator json = JSON.createGenerator(buffer)) {
            begin(json, "OrderValidated", order.orderId + "/OrderValidated", time, order);
            json.writeArrayFieldStart("items");
            for (Order.Item item : order.items) {
                json.writeStartObject();
                json.writeStringField("sku", item.sku());
                json.writeStringField("name", item.name());
                json.writeNumberField("quantity", item.quantity());
                json.writeNumberField("unitPrice", item.unitPrice());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeNumberField("total", order.total);
            Order.Address address = order.shippingAddress;
            if (address != null) {
                json.writeObjectFieldStart("shippingAddress");
                json.writeStringField("name", address.name());
                json.writeStringField("street", address.street());
                json.writeStringField("city", address.city());
                json.writeStringField("postcode", address.postcode());
                json.writeStringField("country", address.country());
                json.writeEndObject();
            }
            json.writeStringField("status", "PENDING");
            json.writeStringField("validationStatus", "VALID");
            json.writeStringField("processedBy", processedBy);
            json.writeStringField("validatedAt", time);
            json.writeObjectFieldStart("customer");
            json.writeStringField("id", customer.id());
            json.writeStringField("name", customer.name());
            json.writeStringField("email", customer.email());
            json.writeStringField("tier", customer.tier());
            json.writeStringField("country", customer.country());
            json.writeEndObject();
            json.writeEndObject();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return buffer.toByteArray();
    }

    /** @param occurrence sets the refusal of a repetition apart from what was said of the first; null for the first */
    byte[] rejected(Order order, List<Rules.Reason> reasons, String occurrence) {
        buffer.reset();
        try (JsonGenerator json = JSON.createGenerator(buffer)) {
            String eventId = order.orderId + "/OrderRejected" + (occurrence == null ? "" : "/" + occurrence);
            begin(json, "OrderRejected", eventId, now(), order);
            json.writeNumberField("total", order.total);
            json.writeArrayFieldStart("reasons");
            for (Rules.Reason reason : reasons) {
                json.writeStartObject();
                json.writeStringField("code", reason.code());
                json.writeStringField("message", reason.message());
                if (reason.line() >= 0) json.writeNumberField("line", reason.line());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return buffer.toByteArray();
    }

    private void begin(JsonGenerator json, String type, String eventId, String time, Order order) throws IOException {
        json.writeStartObject();
        json.writeStringField("type", type);
        json.writeStringField("eventId", eventId);
        json.writeStringField("occurredAt", time);
        json.writeStringField("orderId", order.orderId);
        json.writeStringField("customerId", order.customerId);
        json.writeStringField("placedAt", order.placedAt);
        json.writeStringField("currency", order.currency);
    }

    private String now() {
        long ms = System.currentTimeMillis();
        if (ms != nowMs) {
            nowMs = ms;
            now = TIME.format(Instant.ofEpochMilli(ms));
        }
        return now;
    }
}
