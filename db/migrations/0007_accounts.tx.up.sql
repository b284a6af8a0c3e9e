-- What customers are, and what their keys and users may do.
ALTER TABLE customers
    ADD COLUMN profile text NOT NULL DEFAULT '' CHECK (profile IN ('', 'voipbin')),
    -- Prepaid recipients; null is without limit.
    ADD COLUMN credits bigint CHECK (credits >= 0);

ALTER TABLE users ADD COLUMN admin boolean NOT NULL DEFAULT false;

ALTER TABLE access_keys
    ADD COLUMN last_used_at timestamptz,
    -- Where they are not empty, the key sends from these domains only, and is used
    -- from these networks only.
    ADD COLUMN sender_domains text[] NOT NULL DEFAULT '{}',
    ADD COLUMN networks cidr[] NOT NULL DEFAULT '{}';

-- Several rows a month, so that customers' requests do not wait for each other.
CREATE TABLE usage (
    customer_id uuid NOT NULL REFERENCES customers (id),
    month       date NOT NULL CHECK (extract(day FROM month) = 1),
    shard       integer NOT NULL,
    emails      bigint NOT NULL DEFAULT 0,
    recipients  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, month, shard)
) WITH (fillfactor = 50);

-- Who did what. Append-only.
CREATE TABLE audit (
    id          uuid PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    customer_id uuid,
    actor       text NOT NULL,
    remote_addr text NOT NULL DEFAULT '',
    request_id  text NOT NULL DEFAULT '',
    action      text NOT NULL CHECK (action <> ''),
    target      text NOT NULL DEFAULT '',
    detail      text NOT NULL DEFAULT ''
);
CREATE INDEX audit_list ON audit (at DESC, id DESC);
CREATE INDEX audit_customer ON audit (customer_id, at DESC, id DESC);
