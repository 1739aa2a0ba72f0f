-- Announcements that an endpoint has not got yet: another transaction held its row. They are made
-- up for once the row is free. A reference to the endpoint would wait for the held row.
CREATE TABLE webhook_late_announcements (
    endpoint_id uuid PRIMARY KEY,
    -- There are events for this endpoint up to here.
    position    bigint NOT NULL
);
