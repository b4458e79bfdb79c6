-- A suspended account keeps its credential, and nothing opens it meanwhile. A session that was being opened while the
-- account was suspended must not live on when it is restored: `restored_at`. Of two persons under one number who have
-- both claimed, it is known who had it first: `number_since`.
ALTER TABLE credential DROP CONSTRAINT credential_status_check;
ALTER TABLE credential ADD CHECK (status IN ('none', 'pending', 'live', 'suspended', 'revoked'));
ALTER TABLE credential ADD COLUMN restored_at timestamptz;
ALTER TABLE person ADD COLUMN number_since timestamptz;
