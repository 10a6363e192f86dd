import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.time.LocalDate;
import java.time.DateTimeException;
import java.util.ArrayList;
import java.util.List;

/** An order as it was placed, with the schema of lib/events.ts checked by hand while it is read: no tree, no reflection. */
final class Order {
    /** A record that is no order. */
    static final class Unusable extends Exception {
        Unusable(String reason) {
            super(reason, null, false, false);
        }
    }

    record Item(String sku, String name, long quantity, long unitPrice) {}

    record Address(String name, String street, String city, String postcode, String country) {}

    private static final JsonFactory JSON = new JsonFactory();
    private static final int MAX_BYTES = 1024 * 1024;
    private static final long MAX_MINOR = 1_000_000_000_000_000L;
    private static final long MAX_COUNT = 1_000_000_000L;

    String orderId;
    String customerId;
    String placedAt;
    String currency;
    List<Item> items;
    long total;
    Address shippingAddress;

    private String type;
    private String eventId;
    private String occurredAt;
    private boolean hasTotal;
    /** The first thing that is wrong; the rest is read all the same, since what is no JSON is refused as that. */
    private String problem;

    static Order parse(byte[] key, byte[] value) throws Unusable {
        if (value == null) throw new Unusable("no value");
        if (value.length > MAX_BYTES) throw new Unusable("too large");
        Order order = new Order();
        try (JsonParser json = JSON.createParser(value)) {
            if (json.nextToken() == JsonToken.START_OBJECT) order.readFields(json);
            else {
                order.problem = "/ must be object";
                json.skipChildren();
            }
            if (json.nextToken() != null) throw new Unusable("not JSON: more behind its end");
        } catch (IOException error) {
            throw new Unusable("not JSON: " + error.getMessage());
        }
        order.check();
        if (order.problem != null) throw new Unusable("wrong shape: " + order.problem);
        if (key == null) throw new Unusable("no key");
        String text = new String(key, java.nio.charset.StandardCharsets.UTF_8);
        if (!text.equals(order.orderId)) throw new Unusable("key '" + text + "' is not '" + order.orderId + "'");
        return order;
    }

    private void readFields(JsonParser json) throws IOException {
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            String name = json.currentName();
            json.nextToken();
            switch (name) {
                case "type" -> type = text(json, name);
                case "eventId" -> eventId = text(json, name);
                case "occurredAt" -> occurredAt = text(json, name);
                case "orderId" -> orderId = text(json, name);
                case "customerId" -> customerId = text(json, name);
                case "placedAt" -> placedAt = text(json, name);
                case "currency" -> currency = text(json, name);
                case "items" -> readItems(json);
                case "total" -> {
                    total = integer(json, name, MAX_MINOR);
                    hasTotal = true;
                }
                case "shippingAddress" -> readAddress(json);
                default -> json.skipChildren();
            }
        }
    }

    private void readItems(JsonParser json) throws IOException {
        items = new ArrayList<>(4);
        if (json.currentToken() != JsonToken.START_ARRAY) {
            fail("/items must be array");
            json.skipChildren();
            return;
        }
        while (json.nextToken() != JsonToken.END_ARRAY) readItem(json);
        if (items.isEmpty() || items.size() > 10_000) fail("/items must have from 1 to 10000 lines");
    }

    private void readItem(JsonParser json) throws IOException {
        if (json.currentToken() != JsonToken.START_OBJECT) {
            fail("/items must be objects");
            json.skipChildren();
            return;
        }
        String sku = null;
        String name = null;
        boolean hasQuantity = false;
        boolean hasPrice = false;
        long quantity = 0;
        long unitPrice = 0;
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            String field = json.currentName();
            json.nextToken();
            switch (field) {
                case "sku" -> sku = text(json, field);
                case "name" -> name = text(json, field);
                case "quantity" -> {
                    quantity = integer(json, field, MAX_COUNT);
                    hasQuantity = true;
                }
                case "unitPrice" -> {
                    unitPrice = integer(json, field, MAX_MINOR);
                    hasPrice = true;
                }
                default -> json.skipChildren();
            }
        }
        if (sku == null || sku.isEmpty() || sku.length() > 64) fail("/items sku must have from 1 to 64 characters");
        checkText(name, "/items name");
        if (!hasQuantity || !hasPrice) fail("/items must have quantity and unitPrice");
        items.add(new Item(sku, name, quantity, unitPrice));
    }

    private void readAddress(JsonParser json) throws IOException {
        if (json.currentToken() != JsonToken.START_OBJECT) {
            fail("/shippingAddress must be object");
            json.skipChildren();
            return;
        }
        String name = null;
        String street = null;
        String city = null;
        String postcode = null;
        String country = null;
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            String field = json.currentName();
            json.nextToken();
            switch (field) {
                case "name" -> name = text(json, field);
                case "street" -> street = text(json, field);
                case "city" -> city = text(json, field);
                case "postcode" -> postcode = text(json, field);
                case "country" -> country = text(json, field);
                default -> json.skipChildren();
            }
        }
        checkText(name, "/shippingAddress/name");
        checkText(street, "/shippingAddress/street");
        checkText(city, "/shippingAddress/city");
        checkText(postcode, "/shippingAddress/postcode");
        checkText(country, "/shippingAddress/country");
        shippingAddress = new Address(name, street, city, postcode, country);
    }

    private void check() {
        if (problem != null) return;
        if (!"OrderPlaced".equals(type)) fail("/type must be OrderPlaced");
        if (eventId == null || eventId.isEmpty() || eventId.length() > 200) fail("/eventId must have from 1 to 200 characters");
        if (!isTimestamp(occurredAt)) fail("/occurredAt must be a time");
        if (!isIdentifier(orderId)) fail("/orderId must be an identifier");
        if (!isIdentifier(customerId)) fail("/customerId must be an identifier");
        if (!isTimestamp(placedAt)) fail("/placedAt must be a time");
        if (!isCurrency(currency)) fail("/currency must be three capital letters");
        if (items == null) fail("/ must have items");
        if (!hasTotal) fail("/ must have total");
    }

    private void fail(String what) {
        if (problem == null) problem = what;
    }

    private String text(JsonParser json, String name) throws IOException {
        if (json.currentToken() == JsonToken.VALUE_STRING) return json.getText();
        fail(name + " must be string");
        json.skipChildren();
        return null;
    }

    /** 1.0 is a whole number in JSON. */
    private long integer(JsonParser json, String name, long most) throws IOException {
        JsonToken token = json.currentToken();
        if (token == JsonToken.VALUE_NUMBER_INT && json.getNumberType() != JsonParser.NumberType.BIG_INTEGER) {
            long number = json.getLongValue();
            if (number >= -most && number <= most) return number;
        } else if (token == JsonToken.VALUE_NUMBER_FLOAT) {
            double number = json.getDoubleValue();
            if (number == Math.rint(number) && Math.abs(number) <= most) return (long) number;
        }
        fail(name + " must be an integer within its limits");
        json.skipChildren();
        return 0;
    }

    private void checkText(String text, String path) {
        if (text == null || text.length() > 500) fail(path + " must be a string of at most 500 characters");
    }

    private static boolean isIdentifier(String text) {
        if (text == null || text.isEmpty() || text.length() > 64 || !isLetterOrDigit(text.charAt(0))) return false;
        for (int index = 1; index < text.length(); index++) {
            char c = text.charAt(index);
            if (!isLetterOrDigit(c) && c != '.' && c != '_' && c != ':' && c != '-') return false;
        }
        return true;
    }

    private static boolean isLetterOrDigit(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    }

    private static boolean isCurrency(String text) {
        if (text == null || text.length() != 3) return false;
        for (int index = 0; index < 3; index++) if (text.charAt(index) < 'A' || text.charAt(index) > 'Z') return false;
        return true;
    }

    /** 2026-11-21T07:36:03.000Z, and a date that exists. */
    private static boolean isTimestamp(String text) {
        if (text == null || text.length() != 24) return false;
        String pattern = "0000-00-00T00:00:00.000Z";
        for (int index = 0; index < 24; index++) {
            char c = text.charAt(index);
            char wanted = pattern.charAt(index);
            if (wanted == '0' ? c < '0' || c > '9' : c != wanted) return false;
        }
        if (twoDigits(text, 11) > 23 || twoDigits(text, 14) > 59 || twoDigits(text, 17) > 59) return false;
        int month = twoDigits(text, 5);
        int day = twoDigits(text, 8);
        if (month < 1 || month > 12 || day < 1) return false;
        if (day <= 28) return true;
        try {
            LocalDate.of(twoDigits(text, 0) * 100 + twoDigits(text, 2), month, day);
            return true;
        } catch (DateTimeException error) {
            return false;
        }
    }

    private static int twoDigits(String text, int at) {
        return (text.charAt(at) - '0') * 10 + text.charAt(at + 1) - '0';
    }

    /** What makes two orders the same: who wants what for how much (FNV-1a, 64 bits). */
    long fingerprint() {
        long hash = mix(0xcbf29ce484222325L, customerId);
        hash = mix(hash, currency);
        hash = mix(hash, total);
        for (Item item : items) hash = mix(mix(mix(hash, item.sku), item.quantity), item.unitPrice);
        return hash;
    }

    private static long mix(long hash, String text) {
        for (int index = 0; index < text.length(); index++) hash = (hash ^ text.charAt(index)) * 0x100000001b3L;
        return (hash ^ 0x1f) * 0x100000001b3L;
    }

    private static long mix(long hash, long number) {
        return (((hash ^ (int) number) * 0x100000001b3L) ^ (number >>> 32)) * 0x100000001b3L;
    }
}
