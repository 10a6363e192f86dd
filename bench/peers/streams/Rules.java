import java.text.DecimalFormat;
import java.text.DecimalFormatSymbols;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** All reasons to refuse an order, as lib/orderRules.ts finds them, word for word. */
final class Rules {
    /** @param line -1 when no line is at fault */
    record Reason(String code, String message, int line) {}

    private static final int MAX_REASONS = 200;
    private static final long LIMIT_MINOR = 1_000_000;

    private Rules() {}

    static List<Reason> findReasons(Order order, DedupeWindow.Repetition repetition, Knowledge.Customer customer, Knowledge knowledge) {
        List<Reason> reasons = null;
        if (repetition == DedupeWindow.Repetition.DUPLICATE) {
            reasons = refuse(reasons, "duplicate", "order " + order.orderId + " was placed before", -1);
        }
        if (repetition == DedupeWindow.Repetition.CONFLICT) {
            reasons = refuse(reasons, "conflict", "order " + order.orderId + " was placed before with other content", -1);
        }
        if (customer == null) {
            reasons = refuse(reasons, "unknown-customer", "there is no customer " + order.customerId, -1);
        } else if (customer.blocked()) {
            reasons = refuse(reasons, "blocked-customer", "customer " + order.customerId + " is blocked", -1);
        }
        if (digitsOf(order.currency) < 0) {
            reasons = refuse(reasons, "unsupported-currency", order.currency + " is not one of EUR, GBP, JPY, USD", -1);
        }
        long sum = 0;
        for (int line = 0; line < order.items.size(); line++) {
            Order.Item item = order.items.get(line);
            Boolean onSale = knowledge.products.get(item.sku());
            if (onSale == null) reasons = refuse(reasons, "unknown-product", "there is no product " + item.sku(), line);
            else if (!onSale) reasons = refuse(reasons, "withdrawn-product", "product " + item.sku() + " is withdrawn", line);
            if (item.quantity() <= 0) {
                reasons = refuse(reasons, "quantity-not-positive", "quantity " + item.quantity() + " is not above 0", line);
            }
            if (item.unitPrice() < 0) {
                reasons = refuse(reasons, "negative-price", "unit price " + item.unitPrice() + " is below 0", line);
            }
            sum += item.quantity() * item.unitPrice();
        }
        if (order.total != sum) {
            reasons = refuse(reasons, "total-mismatch", "total " + money(order.total, order.currency)
                    + " is not the sum of the lines, " + money(sum, order.currency), -1);
        }
        if (order.total <= 0) {
            reasons = refuse(reasons, "total-not-positive", "total " + money(order.total, order.currency) + " is not above 0", -1);
        }
        if (order.total >= LIMIT_MINOR) {
            reasons = refuse(reasons, "total-over-limit", "total " + money(order.total, order.currency)
                    + " is not below " + money(LIMIT_MINOR, order.currency), -1);
        }
        if (reasons == null || reasons.size() <= MAX_REASONS) return reasons;
        List<Reason> some = new ArrayList<>(reasons.subList(0, MAX_REASONS));
        some.add(new Reason("more", "and " + (reasons.size() - MAX_REASONS) + " more reasons", -1));
        return some;
    }

    private static List<Reason> refuse(List<Reason> reasons, String code, String message, int line) {
        List<Reason> all = reasons == null ? new ArrayList<>() : reasons;
        all.add(new Reason(code, message, line));
        return all;
    }

    private static int digitsOf(String currency) {
        return switch (currency) {
            case "EUR", "GBP", "USD" -> 2;
            case "JPY" -> 0;
            default -> -1;
        };
    }

    private static String money(long minor, String currency) {
        boolean whole = digitsOf(currency) == 0;
        DecimalFormat format = new DecimalFormat(whole ? "#,##0" : "#,##0.00", DecimalFormatSymbols.getInstance(Locale.UK));
        return format.format(whole ? minor : minor / 100.0) + " " + currency;
    }
}
