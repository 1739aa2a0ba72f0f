import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;

import passbook.ApiClient;
import passbook.ApiException;
import passbook.ApiResponse;
import passbook.api.AccountsApi;
import passbook.api.EventsApi;
import passbook.api.MovementsApi;
import passbook.model.*;
import passbook.model.Record;

/** Uses the API through the client that openapi-generator makes from the document. */
public final class ClientTest {
    private static final String WAIT = "wait=10";

    private interface Call {
        void run() throws ApiException;
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv("PASSBOOK_URL"));
        String token = "Bearer " + System.getenv("PASSBOOK_TOKEN");
        client.setRequestInterceptor(request -> request.header("Authorization", token));
        AccountsApi accounts = new AccountsApi(client);
        MovementsApi movements = new MovementsApi(client);

        Account account = accounts.openAccount(new OpenAccount().currency("KRW").reference("client test")
            .metadata(Map.of("language", "java")), newKey());
        equal(account.getBalance(), "0");
        equal(account.getReference(), "client test");
        equal(account.getMetadata(), Map.of("language", "java"));
        UUID id = account.getAccountId();

        // A deposit, its repetition, and its key with another amount.
        String key = newKey();
        Movement invoice = new Movement().amount("10000").currency("KRW").reference("invoice 1");
        Record record = movements.deposit(id, key, invoice, WAIT);
        equal(record.getStatus(), RecordStatus.SUCCESS);
        equal(record.getBalanceAfter(), "10000");
        equal(record.getReason(), null);
        ApiResponse<Record> repeated = movements.depositWithHttpInfo(id, key, invoice, WAIT);
        equal(repeated.getData(), record);
        equal(repeated.getHeaders().get("idempotent-replayed"), List.of("true"));
        problem(client, 422, "idempotency-key-reused", () -> movements.deposit(id, key, invoice.amount("20000"), WAIT));

        // A refusal is a record, not an error.
        Record refused = movements.withdraw(id, newKey(), new Movement().amount("10001"), WAIT);
        equal(refused.getStatus(), RecordStatus.FAILED);
        equal(refused.getReason(), RefusalReason.INSUFFICIENT_FUNDS);

        Problem invalid = problem(client, 422, "invalid-field",
            () -> movements.deposit(id, newKey(), new Movement().amount("0"), null));
        equal(invalid.getErrors().get(0).getPointer(), "#/amount");
        problem(client, 404, "account-not-found", () -> accounts.getAccount(UUID.randomUUID(), null, null));

        // Pages.
        RecordPage first = list(movements, id, null);
        equal(first.getItems(), List.of(refused));
        equal(list(movements, id, first.getNextCursor()).getItems(), List.of(record));

        Batch batch = new Batch();
        for (String amount : List.of("5", "0")) {
            batch.addItemsItem(new BatchItem().accountId(id).type(MovementType.DEPOSIT).amount(amount)
                .idempotencyKey(newKey()));
        }
        List<BatchItemResult> results = movements.createBatch(batch, WAIT).getItems();
        equal(results.stream().map(BatchItemResult::getStatus).toList(), List.of(200, 422));
        equal(results.get(0).getRecord().getBalanceAfter(), "10005");
        equal(results.get(1).getProblem().getErrors().get(0).getPointer(), "#/items/1/amount");

        // The events of the account, as soon as they are in the log.
        List<String> expected = List.of("account.created", "record.succeeded", "record.failed", "record.succeeded");
        long until = System.nanoTime() + 20_000_000_000L;
        List<Event> events;
        do {
            Thread.sleep(100);
            events = new EventsApi(client).listEvents(null, null, id, null, null).getItems();
        } while (events.size() < expected.size() && System.nanoTime() < until);
        equal(events.stream().map(Event::getType).toList(), expected);
        equal(client.getObjectMapper().convertValue(events.get(1).getData(), Record.class), record);
        System.out.println("Java: the generated client works");
    }

    private static RecordPage list(MovementsApi movements, UUID id, String cursor) throws ApiException {
        return movements.listRecords(id, null, null, null, null, null, null, null, 1, cursor);
    }

    private static Problem problem(ApiClient client, int status, String slug, Call call) throws Exception {
        try {
            call.run();
        } catch (ApiException error) {
            Problem problem = client.getObjectMapper().readValue(error.getResponseBody(), Problem.class);
            equal(error.getCode(), status);
            equal(problem.getType().replaceAll(".*/", ""), slug);
            return problem;
        }
        throw new AssertionError("expected the problem " + slug);
    }

    private static String newKey() {
        return UUID.randomUUID().toString();
    }

    private static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }
}
