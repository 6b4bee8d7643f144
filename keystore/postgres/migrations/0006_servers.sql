-- The servers that record usage. They need SELECT, INSERT and UPDATE, as on the tables of usage.

CREATE TABLE extauthz.servers (
  name       text        COLLATE "C" PRIMARY KEY,
  version    text        NOT NULL,
  channel_up boolean     NOT NULL,
  reported   timestamptz NOT NULL
);

COMMENT ON COLUMN extauthz.servers.channel_up IS 'whether the server is notified of changes of keys';

-- As in 0003, and it forgets servers that are gone.
CREATE OR REPLACE FUNCTION extauthz.prune_usage(retention interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  oldest timestamptz := now() - greatest(retention, interval '1 day');
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('extauthz prune usage')) THEN
    RETURN;
  END IF;
  DELETE FROM extauthz.usage WHERE day <= (oldest AT TIME ZONE 'UTC')::date AND last_seen < oldest;
  UPDATE extauthz.usage_keys SET last_network = NULL WHERE last_used < oldest AND last_network IS NOT NULL;
  DELETE FROM extauthz.servers WHERE reported < now() - interval '1 day';
END $$;
