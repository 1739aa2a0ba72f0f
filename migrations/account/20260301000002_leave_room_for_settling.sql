-- The records of a page are settled together, each once: a page needs room for
-- a second version of all its rows, or most of the updates move to other pages
-- and into all indexes (three quarters of them did, at a fillfactor of 80, for
-- three times the work). Only pages that are new from now on have the room;
-- rows that are settled already don't need it.
ALTER TABLE transaction_records SET (fillfactor = 45);
