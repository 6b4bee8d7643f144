-- Lets the dashboard find keys among a million: by what an id, a name or an owner begins with, by
-- an address that a whitelist holds, and by state.

CREATE INDEX keys_id_prefix ON extauthz.keys (lower(id) text_pattern_ops);
CREATE INDEX keys_name_prefix ON extauthz.keys (lower(name) text_pattern_ops, id) WHERE name IS NOT NULL;
CREATE INDEX keys_external_id_prefix ON extauthz.keys (lower(external_id) text_pattern_ops, id) WHERE external_id IS NOT NULL;

-- A whitelist holds an address if one of the 33 or 129 ranges that hold it is an entry.
CREATE INDEX keys_ip_whitelist ON extauthz.keys USING gin (ip_whitelist);

CREATE INDEX keys_disabled ON extauthz.keys (id) WHERE NOT enabled;
CREATE INDEX keys_unrestricted ON extauthz.keys (id) WHERE ip_whitelist IS NULL;
