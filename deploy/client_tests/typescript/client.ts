// Uses the API through the client that openapi-typescript makes from the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Problem = components["schemas"]["Problem"];
declare const process: { env: Record<string, string | undefined> };

const api = createClient<paths, "application/json" | "application/problem+json">({
  baseUrl: process.env.PASSBOOK_URL,
  headers: { Authorization: `Bearer ${process.env.PASSBOOK_TOKEN}` },
});

function equal<T>(actual: T, expected: T): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
  }
}

function success<T>(result: { data?: T; error?: Problem; response: Response }): T {
  if (result.data === undefined) {
    throw new Error(`${result.response.status}: ${JSON.stringify(result.error)}`);
  }
  return result.data;
}

function problem(result: { error?: Problem }, status: number, slug: string): Problem {
  equal(result.error?.status, status);
  equal(result.error?.type.split("/").pop(), slug);
  return result.error!;
}

const newKey = () => ({ "Idempotency-Key": crypto.randomUUID() });
const Prefer = "wait=10";

const account = success(await api.POST("/v1/accounts", {
  params: { header: newKey() },
  body: { currency: "KRW", reference: "client test", metadata: { language: "typescript" } },
}));
equal([account.balance, account.reference, account.metadata.language], ["0", "client test", "typescript"]);
const path = { account: account.accountId };

// A deposit, its repetition, and its key with another amount.
const key = newKey();
const deposit = (amount: string) => api.POST("/v1/accounts/{account}/deposits", {
  params: { path, header: { ...key, Prefer } },
  body: { amount, currency: "KRW", reference: "invoice 1" },
});
const record = success(await deposit("10000"));
equal([record.status, record.balanceAfter, record.reason], ["SUCCESS", "10000", null]);
const repeated = await deposit("10000");
equal(success(repeated), record);
equal(repeated.response.headers.get("idempotent-replayed"), "true");
problem(await deposit("20000"), 422, "idempotency-key-reused");

// A refusal is a record, not an error.
const refused = success(await api.POST("/v1/accounts/{account}/withdrawals", {
  params: { path, header: { ...newKey(), Prefer } },
  body: { amount: "10001" },
}));
equal([refused.status, refused.reason], ["FAILED", "INSUFFICIENT_FUNDS"]);

const invalid = await api.POST("/v1/accounts/{account}/deposits", {
  params: { path, header: newKey() },
  body: { amount: "0" },
});
equal(problem(invalid, 422, "invalid-field").errors?.[0]?.pointer, "#/amount");
problem(
  await api.GET("/v1/accounts/{account}", { params: { path: { account: crypto.randomUUID() } } }),
  404, "account-not-found",
);

// Pages.
const list = (cursor?: string) => api.GET("/v1/accounts/{account}/records", {
  params: { path, query: { limit: 1, cursor } },
});
const first = success(await list());
equal(first.items, [refused]);
equal(success(await list(first.nextCursor ?? undefined)).items, [record]);

const batch = success(await api.POST("/v1/batches", {
  params: { header: { Prefer } },
  body: {
    items: ["5", "0"].map((amount) => ({
      accountId: account.accountId,
      type: "DEPOSIT" as const,
      amount,
      idempotencyKey: crypto.randomUUID(),
    })),
  },
}));
equal(batch.items.map((item) => item.status), [200, 422]);
equal(batch.items[0]?.record?.balanceAfter, "10005");
equal(batch.items[1]?.problem?.errors?.[0]?.pointer, "#/items/1/amount");

// The events of the account, as soon as they are in the log.
const expected = ["account.created", "record.succeeded", "record.failed", "record.succeeded"];
const until = Date.now() + 20_000;
for (;;) {
  const query = { accountId: account.accountId };
  const events = success(await api.GET("/v1/events", { params: { query } })).items;
  if (events.length === expected.length || Date.now() > until) {
    equal(events.map((event) => event.type), expected);
    equal(events[1]?.data.recordId as string, record.recordId);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}
console.log("TypeScript: the generated client works");
