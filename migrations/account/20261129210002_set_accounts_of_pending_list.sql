-- The records that were listed before. In a transaction of its own, so that only the rows are
-- locked: the redrive passes over locked rows.
UPDATE pending_records AS listed SET account_id = r.account_id
FROM transaction_records AS r WHERE r.id = listed.record_id AND listed.account_id IS NULL;
