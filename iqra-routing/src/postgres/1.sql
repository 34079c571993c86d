-- Version 1. Times are milliseconds since the Unix epoch, bodies are JSON; the other columns are what is searched.

CREATE TABLE iqra.accounts (
    id text COLLATE "C" PRIMARY KEY,
    body text NOT NULL
);
CREATE TABLE iqra.businesses (
    id text COLLATE "C" PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    body text NOT NULL
);
CREATE INDEX businesses_account ON iqra.businesses (account);
CREATE TABLE iqra.trunks (
    id text COLLATE "C" PRIMARY KEY,
    body text NOT NULL
);
CREATE TABLE iqra.trunk_networks (
    network text COLLATE "C",
    trunk text COLLATE "C" REFERENCES iqra.trunks ON DELETE CASCADE,
    PRIMARY KEY (network, trunk)
);
CREATE INDEX trunk_networks_trunk ON iqra.trunk_networks (trunk);
CREATE TABLE iqra.numbers (
    business text COLLATE "C",
    phone text COLLATE "C",
    dialled bytea NOT NULL,         -- of what is dialled, its octets
    trunk text COLLATE "C",
    any_source boolean NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (business, phone),
    CONSTRAINT numbers_business FOREIGN KEY (business) REFERENCES iqra.businesses,
    CONSTRAINT numbers_trunk FOREIGN KEY (trunk) REFERENCES iqra.trunks
);
CREATE UNIQUE INDEX numbers_on_trunk ON iqra.numbers (trunk, dialled) WHERE trunk IS NOT NULL;
CREATE INDEX numbers_dialled ON iqra.numbers (dialled);
CREATE TABLE iqra.number_networks (
    network text COLLATE "C",
    business text COLLATE "C",
    phone text COLLATE "C",
    PRIMARY KEY (network, business, phone),
    FOREIGN KEY (business, phone) REFERENCES iqra.numbers ON DELETE CASCADE
);
CREATE INDEX number_networks_number ON iqra.number_networks (business, phone);

-- Whoever changes these tables, by whatever program, tells those that keep copies. What changed by the hundred is told as
-- "all": nobody wants ten million notifications.
CREATE FUNCTION iqra.tell_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    IF (SELECT count(*) FROM (SELECT 1 FROM changed LIMIT 101) AS few) > 100 THEN
        PERFORM pg_notify('iqra_numbers', 'all');
    ELSIF TG_ARGV[0] = 'number' THEN
        FOR told IN SELECT concat_ws(' ', 'number', business, phone, encode(dialled, 'hex')) FROM changed LOOP
            PERFORM pg_notify('iqra_numbers', told);
        END LOOP;
    ELSE
        FOR told IN SELECT concat_ws(' ', TG_ARGV[0], id) FROM changed LOOP
            PERFORM pg_notify('iqra_numbers', told);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION iqra.tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iqra_numbers', 'all');
    RETURN NULL;
END $$;
CREATE TRIGGER tell_insert AFTER INSERT ON iqra.accounts REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('account');
CREATE TRIGGER tell_update AFTER UPDATE ON iqra.accounts REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('account');
CREATE TRIGGER tell_delete AFTER DELETE ON iqra.accounts REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('account');
CREATE TRIGGER tell_insert AFTER INSERT ON iqra.businesses REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('business');
CREATE TRIGGER tell_update AFTER UPDATE ON iqra.businesses REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('business');
CREATE TRIGGER tell_delete AFTER DELETE ON iqra.businesses REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('business');
CREATE TRIGGER tell_insert AFTER INSERT ON iqra.trunks REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('trunk');
CREATE TRIGGER tell_update AFTER UPDATE ON iqra.trunks REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('trunk');
CREATE TRIGGER tell_delete AFTER DELETE ON iqra.trunks REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('trunk');
CREATE TRIGGER tell_insert AFTER INSERT ON iqra.numbers REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('number');
CREATE TRIGGER tell_old AFTER UPDATE ON iqra.numbers REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('number');
CREATE TRIGGER tell_new AFTER UPDATE ON iqra.numbers REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('number');
CREATE TRIGGER tell_delete AFTER DELETE ON iqra.numbers REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_rows('number');
CREATE TRIGGER tell_all AFTER TRUNCATE ON iqra.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_all();
CREATE TRIGGER tell_all AFTER TRUNCATE ON iqra.businesses
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_all();
CREATE TRIGGER tell_all AFTER TRUNCATE ON iqra.trunks
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_all();
CREATE TRIGGER tell_all AFTER TRUNCATE ON iqra.numbers
    FOR EACH STATEMENT EXECUTE FUNCTION iqra.tell_all();

CREATE TABLE iqra.entries (
    id bytea PRIMARY KEY,           -- sorts by age
    version bigint NOT NULL,        -- of the row: who writes names the one that it read
    key bytea,                      -- of a live entry: SHA-256 of what makes it the same call
    business text COLLATE "C" NOT NULL,
    phone text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    backend text COLLATE "C",
    created bigint NOT NULL,
    deadline bigint,                -- of an entry that can expire
    finished bigint,                -- of an entry that is over
    body text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE UNIQUE INDEX entries_key ON iqra.entries (key) WHERE key IS NOT NULL;
CREATE INDEX entries_live ON iqra.entries (state, id) WHERE key IS NOT NULL;
CREATE INDEX entries_deadline ON iqra.entries (deadline, id) WHERE deadline IS NOT NULL;
CREATE INDEX entries_finished ON iqra.entries (finished, id) WHERE finished IS NOT NULL;
CREATE INDEX entries_number ON iqra.entries (business, phone, id);
CREATE INDEX entries_state ON iqra.entries (state, id);
CREATE INDEX entries_backend ON iqra.entries (backend, id) WHERE backend IS NOT NULL;
CREATE INDEX entries_created ON iqra.entries (created);

-- What one node does for all, and when one did it last.
-- Trunks whose carrier has been seen to follow a redirect.
CREATE TABLE iqra.following_trunks (trunk text COLLATE "C" PRIMARY KEY);

CREATE TABLE iqra.upkeep (task text PRIMARY KEY, done timestamptz NOT NULL);
INSERT INTO iqra.upkeep VALUES ('trim', to_timestamp(0));

CREATE TABLE iqra.leases (
    lease bytea PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    expires bigint NOT NULL,
    attempt bigint,                 -- the owner's claim; null while it is only reserved
    claim_no bigint,
    incarnation bigint
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX leases_account ON iqra.leases (account, expires);
CREATE INDEX leases_expires ON iqra.leases (expires);

-- Reserves a slot (no claim given) or takes one over for a claim; whether the call has it. An account's leases are counted
-- by one transaction at a time, so they never exceed the limit.
CREATE FUNCTION iqra.lease(
    entry bytea, payer text, most bigint, at bigint, till bigint, round bigint, claim bigint, start bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held iqra.leases;
BEGIN
    PERFORM pg_advisory_xact_lock(1769042529, hashtext(payer));
    SELECT * INTO held FROM iqra.leases l WHERE l.lease = entry AND l.expires > at FOR UPDATE;
    IF NOT FOUND THEN
        IF (SELECT count(*) FROM iqra.leases l WHERE l.account = payer AND l.expires > at) >= most THEN
            RETURN false;
        END IF;
    ELSIF round IS NULL AND held.attempt IS NOT NULL THEN
        RETURN true; -- a proxy's repeat takes nothing from the claim that owns it
    ELSIF (held.attempt, held.claim_no) > (round, claim) THEN
        RETURN false;
    END IF;
    INSERT INTO iqra.leases VALUES (entry, payer, till, round, claim, start) ON CONFLICT (lease)
        DO UPDATE SET account = payer, expires = till, attempt = round, claim_no = claim, incarnation = start;
    RETURN true;
END $$;

CREATE TABLE iqra.backends (
    id text COLLATE "C" PRIMARY KEY,
    region text COLLATE "C" NOT NULL,
    until bigint NOT NULL,
    incarnation bigint NOT NULL,    -- less 2^63, so that it sorts as the unsigned number that it is
    body text NOT NULL
);
CREATE INDEX backends_region ON iqra.backends (region, id);
