-- no-transaction
-- Finds the transactions of a period over all accounts. Rows lie in the order of their
-- times, so a summary of every 128 pages is enough: the index of ten million rows has
-- less than a hundred kilobytes, and an insert hardly pays for it.
CREATE INDEX CONCURRENTLY transactions_created_at_idx ON transactions
    USING brin (created_at) WITH (autosummarize = on);
