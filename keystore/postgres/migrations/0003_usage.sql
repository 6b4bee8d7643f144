-- Who used which key from where. A server needs SELECT, INSERT and UPDATE on the two tables;
-- rows are removed by functions that run with their owner's rights.

CREATE TABLE extauthz.usage (
  key_id       text        COLLATE "C" NOT NULL,
  network      cidr        NOT NULL,
  day          date        NOT NULL,
  allowed      bigint      NOT NULL DEFAULT 0,
  would_refuse bigint      NOT NULL DEFAULT 0,
  disabled     bigint      NOT NULL DEFAULT 0,
  expired      bigint      NOT NULL DEFAULT 0,
  forbidden    bigint      NOT NULL DEFAULT 0,
  insufficient_permissions bigint NOT NULL DEFAULT 0,
  rate_limited bigint      NOT NULL DEFAULT 0,
  unavailable  bigint      NOT NULL DEFAULT 0,
  first_seen   timestamptz NOT NULL,
  last_seen    timestamptz NOT NULL,
  PRIMARY KEY (key_id, network, day)
) WITH (fillfactor = 80);

-- None of the indexed columns changes, so that an update touches no index.
CREATE INDEX usage_network ON extauthz.usage (network);
CREATE INDEX usage_day ON extauthz.usage (day);

COMMENT ON TABLE extauthz.usage IS 'requests by key, client address and day (UTC)';
COMMENT ON COLUMN extauthz.usage.network IS 'an IPv4 address, or the /64 of an IPv6 address';
COMMENT ON COLUMN extauthz.usage.would_refuse IS 'of those allowed, how many an enforced ip_whitelist would have refused';

CREATE TABLE extauthz.usage_keys (
  key_id        text        COLLATE "C" PRIMARY KEY,
  last_used     timestamptz,
  last_network  cidr,
  last_current  timestamptz,
  last_previous timestamptz,
  dropped       timestamptz
) WITH (fillfactor = 80);

COMMENT ON COLUMN extauthz.usage_keys.last_current IS 'when the key''s secret was last used';
COMMENT ON COLUMN extauthz.usage_keys.last_previous IS 'when the secret before the last rotation was last used';
COMMENT ON COLUMN extauthz.usage_keys.dropped IS 'when addresses were last dropped because there were too many';

-- Keeps at most so many addresses of each key: one half, or one more, that were used most, and
-- of the rest those that were used last.
CREATE FUNCTION extauthz.trim_usage(ids text[], addresses_per_key integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH networks AS (
    SELECT key_id, network, max(last_seen) AS last_seen,
      sum(allowed + disabled + expired + forbidden + insufficient_permissions + rate_limited + unavailable) AS requests
    FROM extauthz.usage WHERE key_id = ANY (ids) GROUP BY key_id, network
  ), by_requests AS (
    SELECT *, count(*) OVER (PARTITION BY key_id) AS total,
      row_number() OVER (PARTITION BY key_id ORDER BY requests DESC, network) AS rank
    FROM networks
  ), rest AS (
    SELECT *, row_number() OVER (PARTITION BY key_id ORDER BY last_seen DESC, network) AS rest_rank
    FROM by_requests WHERE total > addresses_per_key AND rank > (addresses_per_key + 1) / 2
  ), surplus AS (
    SELECT key_id, network FROM rest WHERE rest_rank > addresses_per_key / 2
  ), removed AS (
    DELETE FROM extauthz.usage u USING surplus s WHERE u.key_id = s.key_id AND u.network = s.network RETURNING u.key_id
  )
  UPDATE extauthz.usage_keys k SET dropped = greatest(dropped, last_used)
  WHERE k.key_id IN (SELECT key_id FROM removed);
$$;

-- Removes what was last seen before the retention, which is at least a day, and the addresses of
-- keys that were not used since. It does nothing while another session does it.
CREATE FUNCTION extauthz.prune_usage(retention interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  oldest timestamptz := now() - greatest(retention, interval '1 day');
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('extauthz prune usage')) THEN
    RETURN;
  END IF;
  DELETE FROM extauthz.usage WHERE day <= (oldest AT TIME ZONE 'UTC')::date AND last_seen < oldest;
  UPDATE extauthz.usage_keys SET last_network = NULL WHERE last_used < oldest AND last_network IS NOT NULL;
END $$;
