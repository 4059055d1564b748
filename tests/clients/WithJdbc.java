// Credits from JDBC, with Jackson for JSON.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.sql.*;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.function.BiFunction;
import org.postgresql.util.PSQLException;

public class WithJdbc {
    static final ObjectMapper JSON = new ObjectMapper();

    static class PaymentRequired extends Exception {
        final JsonNode detail;

        PaymentRequired(JsonNode detail) {
            this.detail = detail;
        }
    }

    /** Calls credyt.function with one jsonb argument, and returns its row. */
    static Map<String, Object> credyt(Connection db, String function, Map<String, ?> request) throws Exception {
        try (var call = db.prepareStatement("SELECT * FROM credyt." + function + "(?::jsonb)")) {
            call.setString(1, JSON.writeValueAsString(request));
            return rows(call.executeQuery()).get(0);
        }
    }

    static List<Map<String, Object>> rows(ResultSet result) throws SQLException {
        var rows = new ArrayList<Map<String, Object>>();
        while (result.next()) {
            var row = new HashMap<String, Object>();
            for (int i = 1; i <= result.getMetaData().getColumnCount(); i++)
                row.put(result.getMetaData().getColumnLabel(i), result.getObject(i));
            rows.add(row);
        }
        return rows;
    }

    /** The job and its debit, in the caller's transaction. */
    static long createJob(Connection db, long customer, String prompt, Map<String, ?> debit) throws Exception {
        long job;
        try (var insert = db.prepareStatement("INSERT INTO jobs (customer_id, prompt) VALUES (?, ?) RETURNING id")) {
            insert.setLong(1, customer);
            insert.setString(2, prompt);
            job = (Long) rows(insert.executeQuery()).get(0).get("id");
        }
        var request = new HashMap<String, Object>(debit);
        request.putAll(Map.of("customer", customer, "action", "image", "idempotency_key", "job-" + job));
        try {
            credyt(db, "debit_credits", request);
        } catch (PSQLException e) {
            if (e.getSQLState().equals("WC001")) // insufficient_credits
                throw new PaymentRequired(JSON.readTree(e.getServerErrorMessage().getDetail()));
            throw e;
        }
        return job;
    }

    static <T> T transaction(Connection db, Callable<T> work) throws Exception {
        db.setAutoCommit(false);
        try {
            T result = work.call();
            db.commit();
            return result;
        } catch (Exception e) {
            db.rollback();
            throw e;
        } finally {
            db.setAutoCommit(true);
        }
    }

    /** Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost. */
    static Map<String, Object> chat(Connection db, UUID customer, String key, Callable<JsonNode> askVendor) throws Exception {
        var hold = credyt(db, "authorize", Map.of("customer", customer, "action", "chat", "idempotency_key", key,
            "dimensions", Map.of("input_tokens", 3000, "output_tokens", 2000)));
        if (!(Boolean) hold.get("approved")) throw new PaymentRequired(JSON.valueToTree(hold.get("reason")));
        JsonNode answer;
        try {
            answer = askVendor.call();
        } catch (Exception e) {
            credyt(db, "release", Map.of("customer", customer, "authorization_id", hold.get("id"), "reason", "vendor failed"));
            throw e;
        }
        ObjectNode counts = answer.<ObjectNode>deepCopy().without("choices"); // the text stays out of the ledger
        return credyt(db, "capture", Map.of("customer", customer, "authorization_id", hold.get("id"),
            "usage", Map.of("vendor", "openai", "body", counts)));
    }

    /** A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over. */
    static void topUp(Connection db, int leaseSeconds, BiFunction<String, UUID, String> chargeCard) throws Exception {
        List<Map<String, Object>> events;
        try (var take = db.prepareStatement("SELECT * FROM credyt.take_events(10, ?)")) {
            take.setInt(1, leaseSeconds);
            events = rows(take.executeQuery());
        }
        for (var event : events) {
            if (event.get("type").equals("topup.requested")) {
                var customer = (String) event.get("customer");
                var payment = chargeCard.apply(customer, (UUID) event.get("id")); // the id is the provider's idempotency key
                var credits = JSON.readTree(event.get("payload").toString()).get("credits");
                credyt(db, "grant_credits", Map.of("customer", customer, "credits", credits, "paid", 20, "idempotency_key", payment));
            }
            try (var ack = db.prepareStatement("SELECT credyt.ack_events(?)")) {
                ack.setArray(1, db.createArrayOf("uuid", new Object[] {event.get("id")}));
                ack.executeQuery();
            }
        }
    }

    // What follows tries them.
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
        System.out.println(what);
    }

    static boolean equal(Object amount, String expected) {
        return ((BigDecimal) amount).compareTo(new BigDecimal(expected)) == 0;
    }

    public static void main(String[] arguments) throws Exception {
        long user = 17;
        var team = UUID.fromString("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11");
        try (var db = DriverManager.getConnection(System.getenv("JDBC_URL"))) {
            Callable<Object> available = () -> credyt(db, "balance", Map.of("customer", user)).get("available");

            long job = transaction(db, () -> createJob(db, user, "a lighthouse", Map.of("cost", 3 * 0.1))); // 0.30000000000000004
            check(equal(available.call(), "16"), "a job and its debit are committed together");

            try {
                transaction(db, () -> {
                    createJob(db, user, "a whale", Map.of());
                    throw new IllegalStateException("the application changes its mind");
                });
            } catch (IllegalStateException e) {}
            check(equal(available.call(), "16"), "a job and its debit are rolled back together");

            var again = credyt(db, "debit_credits", Map.of("customer", user, "action", "image", "idempotency_key", "job-" + job, "cost", 3 * 0.1));
            check((Boolean) again.get("replayed") && equal(again.get("available"), "16"), "the same key again is a replay");

            JsonNode lacking = null;
            try {
                transaction(db, () -> createJob(db, user, "ten towers", Map.of("quantity", 10)));
            } catch (PaymentRequired e) {
                lacking = e.detail;
            }
            long jobs = (Long) rows(db.createStatement().executeQuery("SELECT count(*) FROM jobs")).get(0).get("count");
            check(lacking.get("needed").asText().equals("40") && lacking.get("available").asText().equals("16") && jobs == 1,
                "WC001 says what is needed and what is there");

            var charged = chat(db, team, "chat-1", () -> JSON.readTree(Path.of(System.getenv("ANSWER")).toFile()));
            check(equal(charged.get("credits"), "0.74") && equal(charged.get("cost"), "0.0033475") && equal(charged.get("available"), "9.26"),
                "an answer is charged by its own counts");

            var payments = new HashMap<UUID, String>();
            transaction(db, () -> createJob(db, user, "two gulls", Map.of("quantity", 2)));
            try {
                topUp(db, 1, (customer, key) -> {
                    payments.put(key, "pay_1");
                    throw new IllegalStateException("the worker has died");
                });
            } catch (IllegalStateException e) {
                Thread.sleep(1100);
            }
            for (int round = 0; round < 2; round++) topUp(db, 60, (customer, key) -> payments.getOrDefault(key, "pay_2"));
            check(payments.size() == 1 && equal(available.call(), "108"), "a worker that died charges and grants once");

            var margins = rows(db.createStatement().executeQuery("SELECT customer, margin FROM credyt.margin_by_customer ORDER BY customer"));
            check(margins.size() == 2 && equal(margins.get(0).get("margin"), "2.1") && equal(margins.get(1).get("margin"), "0.1446525"),
                "the margin of each customer");
        }
    }
}
