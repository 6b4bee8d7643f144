-- A whitelist that only reports, and the secret that a rotation replaced.

ALTER TABLE extauthz.keys
  ADD COLUMN ip_whitelist_mode text,
  ADD COLUMN previous_hash     bytea UNIQUE,
  ADD COLUMN previous_until    timestamptz;

COMMENT ON COLUMN extauthz.keys.ip_whitelist_mode IS 'NULL or enforce; report: lets requests from other addresses through and reports them; anything else refuses everyone';
COMMENT ON COLUMN extauthz.keys.previous_hash IS 'SHA-256 of the secret before the last rotation; NULL: none';
COMMENT ON COLUMN extauthz.keys.previous_until IS 'the last moment at which the previous secret works';

-- What the gauges of a server count.
CREATE INDEX keys_expires ON extauthz.keys (expires) WHERE expires IS NOT NULL;
CREATE INDEX keys_report ON extauthz.keys (id) WHERE ip_whitelist_mode = 'report' AND ip_whitelist IS NOT NULL;

-- A secret belongs to one key: a previous hash may not be the hash of another key. Two transactions at
-- the same moment can still write that; then a look-up finds the key whose hash it is.
CREATE FUNCTION extauthz.check_hashes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM extauthz.keys WHERE previous_hash = NEW.hash AND id <> NEW.id)
     OR EXISTS (SELECT FROM extauthz.keys WHERE hash = NEW.previous_hash AND id <> NEW.id) THEN
    RAISE unique_violation USING MESSAGE = format('key %s has a hash, or a previous hash, that another key has', NEW.id);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER check_insert AFTER INSERT ON extauthz.keys
  FOR EACH ROW EXECUTE FUNCTION extauthz.check_hashes();
CREATE TRIGGER check_update AFTER UPDATE ON extauthz.keys FOR EACH ROW
  WHEN (OLD.hash IS DISTINCT FROM NEW.hash OR OLD.previous_hash IS DISTINCT FROM NEW.previous_hash OR OLD.id <> NEW.id)
  EXECUTE FUNCTION extauthz.check_hashes();

-- As in 0001, and with the previous hashes: a server may have looked up either.
CREATE OR REPLACE FUNCTION extauthz.notify_keys() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  hashes text[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM (
      SELECT hash FROM new_keys UNION ALL SELECT previous_hash FROM new_keys WHERE previous_hash IS NOT NULL) AS changed LIMIT 1001);
  ELSIF TG_OP = 'DELETE' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM (
      SELECT hash FROM old_keys UNION ALL SELECT previous_hash FROM old_keys WHERE previous_hash IS NOT NULL) AS changed LIMIT 1001);
  ELSIF TG_OP = 'UPDATE' THEN
    hashes := ARRAY(SELECT encode(hash, 'hex') FROM (
      SELECT hash FROM old_keys UNION SELECT hash FROM new_keys
      UNION SELECT previous_hash FROM old_keys WHERE previous_hash IS NOT NULL
      UNION SELECT previous_hash FROM new_keys WHERE previous_hash IS NOT NULL) AS changed LIMIT 1001);
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

-- As in 0002, and with the previous hashes. One payload names all hashes of a row.
CREATE OR REPLACE FUNCTION extauthz.notify_replicated_key() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows   integer := coalesce(nullif(current_setting('extauthz.replicated_rows', true), ''), '0')::integer + 1;
  hashes bytea[];
BEGIN
  PERFORM set_config('extauthz.replicated_rows', rows::text, true); -- until the transaction ends
  IF rows > 1001 THEN
    RETURN NULL;
  ELSIF rows = 1001 THEN
    PERFORM pg_notify('extauthz_keys', 'all');
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    hashes := ARRAY[OLD.hash, OLD.previous_hash];
  END IF;
  IF TG_OP <> 'DELETE' THEN
    hashes := hashes || ARRAY[NEW.hash, NEW.previous_hash];
  END IF;
  PERFORM pg_notify('extauthz_keys', string_agg(DISTINCT encode(hash, 'hex'), ','))
    FROM unnest(hashes) AS hash WHERE hash IS NOT NULL;
  RETURN NULL;
END $$;
