-- Logical replication applies changes row by row, and fires no statement triggers for them: a row
-- trigger notifies there. It fires under session_replication_role = replica alone, and the
-- statement triggers no longer do, so that no change is notified twice. TRUNCATE has no row
-- trigger; its statement trigger fires in either role.

-- A transaction that changes more than 1,000 rows says "all" once instead of naming the rest.
CREATE FUNCTION extauthz.notify_replicated_key() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  rows integer := coalesce(nullif(current_setting('extauthz.replicated_rows', true), ''), '0')::integer + 1;
BEGIN
  PERFORM set_config('extauthz.replicated_rows', rows::text, true); -- until the transaction ends
  IF rows > 1001 THEN
    RETURN NULL;
  ELSIF rows = 1001 THEN
    PERFORM pg_notify('extauthz_keys', 'all');
  ELSIF TG_OP = 'INSERT' THEN
    PERFORM pg_notify('extauthz_keys', encode(NEW.hash, 'hex'));
  ELSE
    PERFORM pg_notify('extauthz_keys', encode(OLD.hash, 'hex'));
    IF TG_OP = 'UPDATE' AND NEW.hash <> OLD.hash THEN
      PERFORM pg_notify('extauthz_keys', encode(NEW.hash, 'hex'));
    END IF;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER notify_replicated AFTER INSERT OR UPDATE OR DELETE ON extauthz.keys
  FOR EACH ROW EXECUTE FUNCTION extauthz.notify_replicated_key();

ALTER TABLE extauthz.keys ENABLE REPLICA TRIGGER notify_replicated;
ALTER TABLE extauthz.keys ENABLE TRIGGER notify_insert;
ALTER TABLE extauthz.keys ENABLE TRIGGER notify_update;
ALTER TABLE extauthz.keys ENABLE TRIGGER notify_delete;
