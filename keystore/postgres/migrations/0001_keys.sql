-- The keys, and word of every change of them to whoever listens.

DO $$
BEGIN
  IF to_regnamespace('extauthz') IS NULL THEN
    CREATE SCHEMA extauthz;
  END IF;
END $$;

CREATE TABLE extauthz.schema_version (
  version    integer     PRIMARY KEY,
  name       text        NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- Ids sort by their bytes, whatever the database's collation: listings are read in that order.
--
-- The fields that say what a key may do have no CHECK on purpose. A statement that takes an
-- address off every key must not fail because one key is left with an empty list: the server
-- refuses such a key, and says so. A check would keep all of them as they were.
CREATE TABLE extauthz.keys (
  id           text        COLLATE "C" PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9._:-]{1,128}$'),
  name         text,
  hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  ip_whitelist cidr[],
  enabled      boolean     NOT NULL DEFAULT true,
  expires      timestamptz,
  external_id  text,
  permissions  text[],
  roles        text[],
  ratelimits   jsonb,
  meta         jsonb
);

COMMENT ON COLUMN extauthz.keys.hash IS 'SHA-256 of the secret, which is stored nowhere';
COMMENT ON COLUMN extauthz.keys.ip_whitelist IS 'NULL: not restricted by address; an empty array refuses everyone';
COMMENT ON COLUMN extauthz.keys.expires IS 'the last moment at which the key may be used; NULL: never expires';
COMMENT ON COLUMN extauthz.keys.ratelimits IS '[{"name": "requests", "limit": 100, "duration": "1m", "auto_apply": true}]';

-- One payload names up to 100 hashes, old and new, as hexadecimal digits with commas between
-- them: 6,499 of the 8,000 bytes that a payload may have. A statement that changes more than
-- 1,000 rows says "all" instead.
CREATE FUNCTION extauthz.notify_keys() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  hashes text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM new_keys LIMIT 1001);
  ELSIF TG_OP = 'DELETE' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM old_keys LIMIT 1001);
  ELSIF TG_OP = 'UPDATE' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM
      (SELECT hash FROM old_keys UNION SELECT hash FROM new_keys) AS changed LIMIT 1001);
  END IF;
  IF TG_OP = 'TRUNCATE' OR cardinality(hashes) > 1000 THEN
    PERFORM pg_notify('extauthz_keys', 'all');
  ELSE
    FOR i IN 1 .. cardinality(hashes) BY 100 LOOP
      PERFORM pg_notify('extauthz_keys', array_to_string(hashes[i : i + 99], ','));
    END LOOP;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER notify_insert AFTER INSERT ON extauthz.keys
  REFERENCING NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
CREATE TRIGGER notify_update AFTER UPDATE ON extauthz.keys
  REFERENCING OLD TABLE AS old_keys NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
CREATE TRIGGER notify_delete AFTER DELETE ON extauthz.keys
  REFERENCING OLD TABLE AS old_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
CREATE TRIGGER notify_truncate AFTER TRUNCATE ON extauthz.keys
  FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();

-- Word goes out under session_replication_role = replica too.
ALTER TABLE extauthz.keys ENABLE ALWAYS TRIGGER notify_insert;
ALTER TABLE extauthz.keys ENABLE ALWAYS TRIGGER notify_update;
ALTER TABLE extauthz.keys ENABLE ALWAYS TRIGGER notify_delete;
ALTER TABLE extauthz.keys ENABLE ALWAYS TRIGGER notify_truncate;
