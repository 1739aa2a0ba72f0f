-- Where the request was in its trace (W3C traceparent), so that a redrive, which
-- may be another process hours later, goes on with it. Only of requests whose
-- trace is recorded; NULL takes one bit.
ALTER TABLE transaction_records ADD COLUMN traceparent text;
