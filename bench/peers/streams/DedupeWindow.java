import java.util.ArrayDeque;
import java.util.HashMap;

/**
 * The order ids placed lately in one partition, as lib/dedupeWindow.ts keeps them: bounded by number and age.
 *
 * A plain map of the task, without a changelog: faster than any state store, and lost when the task moves. Ours is built
 * anew from the input then; this one is not.
 */
final class DedupeWindow {
    enum Repetition { FIRST, DUPLICATE, CONFLICT }

    private record Sighting(String orderId, long offset, long fingerprint, long timestampMs) {}

    private final int maxOrders;
    private final long maxAgeMs;
    private final HashMap<String, Sighting> sightings = new HashMap<>();
    private final ArrayDeque<Sighting> byAge = new ArrayDeque<>();

    DedupeWindow(int maxOrders, long maxAgeMs) {
        this.maxOrders = maxOrders;
        this.maxAgeMs = maxAgeMs;
    }

    Repetition admit(Order order, long offset, long timestampMs) {
        evict(timestampMs);
        long fingerprint = order.fingerprint();
        Sighting sighting = new Sighting(order.orderId, offset, fingerprint, timestampMs);
        Sighting seen = sightings.putIfAbsent(order.orderId, sighting);
        if (seen == null) {
            byAge.add(sighting);
            return Repetition.FIRST;
        }
        if (seen.offset == offset) return Repetition.FIRST;
        return seen.fingerprint == fingerprint ? Repetition.DUPLICATE : Repetition.CONFLICT;
    }

    private void evict(long nowMs) {
        long oldestMs = nowMs - maxAgeMs;
        for (Sighting oldest; (oldest = byAge.peek()) != null; byAge.poll()) {
            if (sightings.size() < maxOrders && oldest.timestampMs >= oldestMs) return;
            sightings.remove(oldest.orderId);
        }
    }
}
