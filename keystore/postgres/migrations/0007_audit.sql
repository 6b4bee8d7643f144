-- The trail of edits: who changed which field of which key, and when. It has no hashes. A trigger
-- fills it, whoever edits. Whoever edits keys needs no privilege on it, and whoever reads it SELECT.

CREATE TABLE extauthz.audit (
  key_id        text        COLLATE "C" NOT NULL,
  seq           bigint      GENERATED ALWAYS AS IDENTITY,
  time          timestamptz NOT NULL,
  actor         text        NOT NULL,
  database_user text        NOT NULL,
  action        text        NOT NULL,
  changes       jsonb,
  PRIMARY KEY (key_id, seq)
);

CREATE INDEX audit_time ON extauthz.audit USING brin (time);

COMMENT ON TABLE extauthz.audit IS 'edits of keys, in the order of seq; never a hash';
COMMENT ON COLUMN extauthz.audit.actor IS 'who says to have made the edit: extauthz.actor if that is set, as extauthz does, or database_user';
COMMENT ON COLUMN extauthz.audit.database_user IS 'who was logged in to the database';
COMMENT ON COLUMN extauthz.audit.action IS 'add, change or delete';
COMMENT ON COLUMN extauthz.audit.changes IS '[{"field": "enabled", "before": true, "after": false}]; NULL for keys that were added or deleted with more than 100 at once';

-- How long an edit is kept. Replace this function to keep edits for another time.
CREATE FUNCTION extauthz.audit_retention() RETURNS interval
LANGUAGE sql IMMUTABLE AS $$ SELECT interval '1 year' $$;

-- The fields in which two rows of extauthz.keys differ; NULL stands for no row. Hashes are left out:
-- a changed one is a field without values.
CREATE FUNCTION extauthz.audit_changes(was jsonb, is_now jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(
    jsonb_build_object('field', field)
      || CASE WHEN before IS NULL THEN '{}' ELSE jsonb_build_object('before', before) END
      || CASE WHEN after IS NULL THEN '{}' ELSE jsonb_build_object('after', after) END
    ORDER BY position), '[]')
  FROM (
    SELECT field, position,
      CASE field
        WHEN 'hash' THEN NULL
        WHEN 'previous' THEN CASE WHEN was ->> 'previous_until' IS NOT NULL THEN jsonb_build_object('until', was -> 'previous_until') END
        ELSE nullif(was -> field, 'null')
      END AS before,
      CASE field
        WHEN 'hash' THEN NULL
        WHEN 'previous' THEN CASE WHEN is_now ->> 'previous_until' IS NOT NULL THEN jsonb_build_object('until', is_now -> 'previous_until') END
        ELSE nullif(is_now -> field, 'null')
      END AS after
    FROM unnest(ARRAY['name', 'hash', 'ip_whitelist', 'ip_whitelist_mode', 'previous', 'enabled', 'expires', 'external_id',
      'permissions', 'roles', 'ratelimits', 'meta']) WITH ORDINALITY AS fields (field, position)
  ) AS fields
  WHERE before IS DISTINCT FROM after
    OR was IS NOT NULL AND is_now IS NOT NULL AND (
      field = 'hash' AND was -> 'hash' <> is_now -> 'hash'
      OR field = 'previous' AND was -> 'previous_hash' <> is_now -> 'previous_hash')
$$;

CREATE FUNCTION extauthz.audit_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  at   timestamptz := clock_timestamp();
  who  text := coalesce(nullif(current_setting('extauthz.actor', true), ''), session_user);
  many boolean := false;
BEGIN
  IF TG_OP = 'INSERT' THEN
    many := (SELECT count(*) > 100 FROM (SELECT FROM new_keys LIMIT 101) AS first_keys);
    INSERT INTO extauthz.audit (key_id, time, actor, database_user, action, changes)
      SELECT k.id, at, who, session_user, 'add', CASE WHEN NOT many THEN extauthz.audit_changes(NULL, to_jsonb(k)) END
      FROM new_keys AS k;
  ELSIF TG_OP = 'DELETE' THEN
    many := (SELECT count(*) > 100 FROM (SELECT FROM old_keys LIMIT 101) AS first_keys);
    INSERT INTO extauthz.audit (key_id, time, actor, database_user, action, changes)
      SELECT k.id, at, who, session_user, 'delete', CASE WHEN NOT many THEN extauthz.audit_changes(to_jsonb(k), NULL) END
      FROM old_keys AS k;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO extauthz.audit (key_id, time, actor, database_user, action, changes)
      SELECT id, at, who, session_user, action, changes
      FROM (
        SELECT coalesce(n.id, o.id) AS id,
          CASE WHEN o.id IS NULL THEN 'add' WHEN n.id IS NULL THEN 'delete' ELSE 'change' END AS action,
          extauthz.audit_changes(CASE WHEN o.id IS NOT NULL THEN to_jsonb(o) END, CASE WHEN n.id IS NOT NULL THEN to_jsonb(n) END) AS changes
        FROM old_keys AS o FULL JOIN new_keys AS n ON n.id = o.id
        WHERE o IS DISTINCT FROM n
      ) AS edits
      WHERE changes <> '[]';
  ELSIF TG_OP = 'TRUNCATE' THEN
    INSERT INTO extauthz.audit (key_id, time, actor, database_user, action)
      SELECT id, at, who, session_user, 'delete' FROM extauthz.keys;
  END IF;
  -- Some old edits leave with each new one, never so many that the edit takes long.
  IF pg_try_advisory_xact_lock(hashtext('extauthz prune audit')) THEN
    DELETE FROM extauthz.audit WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM extauthz.audit WHERE time < at - extauthz.audit_retention() LIMIT 10000));
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER audit_insert AFTER INSERT ON extauthz.keys
  REFERENCING NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.audit_keys();
CREATE TRIGGER audit_update AFTER UPDATE ON extauthz.keys
  REFERENCING OLD TABLE AS old_keys NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.audit_keys();
CREATE TRIGGER audit_delete AFTER DELETE ON extauthz.keys
  REFERENCING OLD TABLE AS old_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.audit_keys();
CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON extauthz.keys
  FOR EACH STATEMENT EXECUTE FUNCTION extauthz.audit_keys();
