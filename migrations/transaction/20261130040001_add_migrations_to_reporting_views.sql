-- The reconciliation report, as `passbook verify`, looks for transactions without a link from after
-- the migration that created the chains. Both read the table or the view by the same name.
CREATE VIEW reporting._sqlx_migrations AS
SELECT version, installed_on
FROM public._sqlx_migrations;
