-- Announcements to endpoints whose row another transaction held. They wait here, so that those to
-- other endpoints go on. Without a foreign key: its check would wait for the held row.
CREATE TABLE webhook_held_announcements (
    endpoint_id uuid PRIMARY KEY,
    position    bigint NOT NULL
);
