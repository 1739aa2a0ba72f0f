-- What a statement shows of the labels of its movements. Metadata is the client's own, and no report
-- shows it.
CREATE VIEW reporting.record_labels AS
SELECT id AS record_id, reference, description
FROM public.transaction_records;
