-- edge-outbox, version 1: one table of messages, one row of our own state.
--
-- Anybody may INSERT a message with plain SQL, in the transaction that changes their own tables; `topic` and `payload`
-- are enough:
--
--     INSERT INTO outbox (topic, payload, key) VALUES ('weather/roof', '21.5', 'roof');
--
-- Nothing here is newer than SQLite 3.37: one word that a reader does not know makes the whole database unreadable to
-- it. CHECKs say `a OR b` rather than IN, which costs 2 µs more per row.

CREATE TABLE outbox (
    -- The place in commit order. Given by the table, dense, never used twice: the triggers below see to it, since
    -- AUTOINCREMENT would write another page with every commit. The limit is what JSON readers hold exactly.
    id               INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 9007199254740991),

    -- PENDING: to be sent. SENT: done with, because the broker acknowledged it or somebody discarded it (`last_error`
    -- says so then); deleted some time later. FAILED: parked with its reason until somebody asks for a retry.
    status           TEXT    NOT NULL DEFAULT 'PENDING'
                             CHECK (status = 'PENDING' OR status = 'SENT' OR status = 'FAILED'),
    -- When the row took its present status, in Unix milliseconds; with `filler` it decides when a SENT row is purged,
    -- and nothing else.
    -- Set at insert already: it has its full width then, and settling does not make the row grow and split a full page.
    status_at        INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
    -- NULL until the row is SENT, then three bytes: what 'SENT' is shorter than 'PENDING'. SQLite overwrites a row of
    -- unchanged length in place, and so does not write the pages of a large payload a second time. They say in which
    -- era the row was sent, see outbox_state; '...': not known.
    filler           TEXT             CHECK (length(CAST(filler AS BLOB)) = 3),
    -- Sendings that were settled. At least 1 in a row that was dealt with before: see the index outbox_again.
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- The wait drawn when the broker last refused the message for now, in milliseconds; waited again after a restart.
    wait_ms          INTEGER NOT NULL DEFAULT 0 CHECK (wait_ms >= 0),
    -- What a waiting row waits behind: 'key ' and a key, or 'topic ' and a topic.
    held_by          TEXT             CHECK (substr(held_by, 1, 4) = 'key ' OR substr(held_by, 1, 6) = 'topic '),
    -- 1: the connection that wrote the row was to sync its commit. 0 (plain SQL): not known; synced before it is sent.
    synced           INTEGER NOT NULL DEFAULT 0 CHECK (synced = 0 OR synced = 1),
    -- Octets of topic, key, content_type, headers, payload, response_topic and correlation_data when the row was written;
    -- and the sum of them over this row and all before it, so that two rows tell how much stands between them. Leave
    -- both out of an INSERT: a trigger fills them in. An edit does not change them.
    bytes            INTEGER,
    total_bytes      INTEGER,
    -- The last reason for which the message was refused or parked.
    last_error       TEXT,

    -- When the row was written, in Unix milliseconds. Information (order is by id), unless the message expires.
    created_at       INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
    -- With the id the message's name on the wire: clones of a card and restored backups give out the same ids.
    nonce            INTEGER NOT NULL DEFAULT (random()),
    -- CRC-32 over what is sent, made at enqueue; NULL: not checked (plain SQL, or edited since).
    checksum         INTEGER          CHECK (checksum BETWEEN 0 AND 4294967295),

    -- MQTT's quality of service.
    qos              INTEGER NOT NULL DEFAULT 1 CHECK (qos = 0 OR qos = 1 OR qos = 2),
    -- MQTT's retain flag.
    retain           INTEGER NOT NULL DEFAULT 0 CHECK (retain = 0 OR retain = 1),
    -- Foreseen, not read yet.
    priority         INTEGER,
    -- Until when the message is of use, in Unix milliseconds; NULL: for ever. Any integer: what is over when its turn
    -- comes to be sent is parked. No more time is left to a message than there was between `created_at` and this.
    expires_at       INTEGER,

    -- An MQTT topic name, in UTF-8.
    topic            TEXT    NOT NULL
                             CHECK (length(CAST(topic AS BLOB)) BETWEEN 1 AND 65535)
                             CHECK (instr(topic, '+') = 0 AND instr(topic, '#') = 0 AND instr(topic, char(0)) = 0),
    -- Messages of one key are first sent in the order of their ids.
    key              TEXT             CHECK (length(CAST(key AS BLOB)) BETWEEN 1 AND 1024),
    -- The payload's media type.
    content_type     TEXT             CHECK (length(CAST(content_type AS BLOB)) <= 65535),
    -- The topic on which an answer is expected: a topic name as well.
    response_topic   TEXT             CHECK (response_topic IS NULL
                                             OR (length(CAST(response_topic AS BLOB)) BETWEEN 1 AND 65535
                                                 AND instr(response_topic, '+') = 0 AND instr(response_topic, '#') = 0
                                                 AND instr(response_topic, char(0)) = 0)),
    -- What the sender recognises the answer by.
    correlation_data BLOB             CHECK (length(correlation_data) <= 65535),
    -- A JSON array of [name, value] pairs of strings, in their order, repeated names allowed.
    headers          TEXT             CHECK (substr(headers, 1, 1) = '['),
    -- Bytes as BLOB, or text. ANY, since BLOB in a STRICT table refuses text. Last, so that what stands before it is
    -- read without the overflow pages of a large payload.
    payload          ANY     NOT NULL CHECK (typeof(payload) = 'blob' OR typeof(payload) = 'text')
) STRICT;

-- One row. Nothing in it is touched at enqueue.
CREATE TABLE outbox_state (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    -- The version of this schema; PRAGMA user_version and application_id are the application's.
    version  INTEGER NOT NULL CHECK (version >= 1),
    -- At or below it every row is SENT, FAILED, or found by outbox_again or outbox_held: reading goes on above it.
    position INTEGER NOT NULL DEFAULT 0 CHECK (position >= 0),
    -- Counted up by a commit that must reach the disk: a commit that changes no page syncs nothing.
    barrier  INTEGER NOT NULL DEFAULT 0,
    -- Rows that are set aside, found by outbox_again or by outbox_held, and their `bytes`. They may lie below the
    -- position for a month: counted by triggers, since counting them anew takes as long as there are many.
    aside       INTEGER NOT NULL DEFAULT 0,
    aside_bytes INTEGER NOT NULL DEFAULT 0,
    -- Rows that were passed over because the file is damaged where they stand, or cannot be written any more.
    unreadable INTEGER NOT NULL DEFAULT 0 CHECK (unreadable >= 0),
    -- Time for a device whose wall clock cannot tell it. An era lasts as long as a SENT row is to stay, or longer, while
    -- the device is on; what was sent neither in this one nor in the one before may go, whatever its stamp says. 0 to
    -- 999, and 0 again.
    era      INTEGER NOT NULL DEFAULT 0,
    -- How long this era had lasted, in milliseconds, when this was written ...
    era_age  INTEGER NOT NULL DEFAULT 0,
    -- ... which was so many milliseconds after the device's boot ...
    uptime   INTEGER NOT NULL DEFAULT 0,
    -- ... and after which boot that was; 0: not known.
    boot     INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO outbox_state (id, version) VALUES (1, 1);

-- Partial indexes that an ordinary row, inserted, sent and purged, never enters: it costs them no byte. They say what is
-- not SENT and not FAILED, so that a settled row whose status somebody overwrote with nonsense is found, and parked.

-- Serves: the rows to be sent again, in order, wherever the position stands; those in a lane are found by the next.
CREATE INDEX outbox_again ON outbox (id)
WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND attempts > 0 AND held_by IS NULL;

-- Serves: the lanes that wait, the rows of one lane in order, and whether a key's lane is empty.
CREATE INDEX outbox_held ON outbox (held_by, id)
WHERE held_by IS NOT NULL AND status IS NOT 'SENT' AND status IS NOT 'FAILED';

-- Serves: listing, counting and retrying failed messages.
CREATE INDEX outbox_failed ON outbox (id) WHERE status = 'FAILED';

-- The newest row stays, so that the next id is known: `DELETE FROM outbox` in a shell leaves one row.
CREATE TRIGGER outbox_keeps_newest BEFORE DELETE ON outbox
WHEN OLD.id = (SELECT max(id) FROM outbox)
BEGIN
    SELECT RAISE(IGNORE);
END;

-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER outbox_id_stands BEFORE INSERT ON outbox
WHEN EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'outbox: this id is taken; leave id out of the INSERT');
END;

-- A gap, or an id behind a reader's position, would break "a reader that goes on from id > position misses nothing".
CREATE TRIGGER outbox_id_next AFTER INSERT ON outbox
WHEN NEW.id <> (SELECT max(id) FROM outbox)
  OR (NEW.id <> 1 AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id - 1))
BEGIN
    SELECT RAISE(ABORT, 'outbox: ids are given by the table; leave id out of the INSERT');
END;

-- What plain SQL leaves out. A total that cannot be is a damaged one: the sum begins anew, and no INSERT fails for it.
CREATE TRIGGER outbox_counted AFTER INSERT ON outbox
WHEN NEW.total_bytes IS NULL OR NEW.bytes IS NULL
  OR (NEW.status IS NOT 'SENT' AND NEW.status IS NOT 'FAILED'
      AND (NEW.held_by IS NOT NULL OR (NEW.attempts > 0) IS TRUE))
BEGIN
    UPDATE outbox
    SET (bytes, total_bytes) = (
        SELECT n, n + ifnull((SELECT total_bytes FROM outbox
                              WHERE id = NEW.id - 1 AND typeof(total_bytes) = 'integer'
                                AND total_bytes BETWEEN 0 AND 9007199254740991), 0)
        FROM (SELECT length(CAST(NEW.topic AS BLOB)) + length(CAST(NEW.payload AS BLOB))
                     + ifnull(length(CAST(NEW.key AS BLOB)), 0) + ifnull(length(CAST(NEW.content_type AS BLOB)), 0)
                     + ifnull(length(CAST(NEW.headers AS BLOB)), 0)
                     + ifnull(length(CAST(NEW.response_topic AS BLOB)), 0)
                     + ifnull(length(NEW.correlation_data), 0) AS n))
    WHERE id = NEW.id AND (NEW.bytes IS NULL OR NEW.total_bytes IS NULL);
    UPDATE outbox_state
    SET aside = CAST(min(max(aside + 1, 0), 9007199254740991) AS INTEGER),
        aside_bytes = CAST(min(max(aside_bytes + (SELECT bytes FROM outbox WHERE id = NEW.id), 0), 9007199254740991)
                           AS INTEGER)
    WHERE id = 1 AND NEW.status IS NOT 'SENT' AND NEW.status IS NOT 'FAILED'
      AND (NEW.held_by IS NOT NULL OR (NEW.attempts > 0) IS TRUE);
END;

-- A row is set aside, or is so no more. An ordinary one never is, and outbox_state is not touched for it. The bounds
-- keep a damaged counter from making settling fail.
CREATE TRIGGER outbox_aside AFTER UPDATE OF status, attempts, held_by ON outbox
WHEN (OLD.status IS NOT 'SENT' AND OLD.status IS NOT 'FAILED' AND (OLD.held_by IS NOT NULL OR (OLD.attempts > 0) IS TRUE))
  <> (NEW.status IS NOT 'SENT' AND NEW.status IS NOT 'FAILED' AND (NEW.held_by IS NOT NULL OR (NEW.attempts > 0) IS TRUE))
BEGIN
    UPDATE outbox_state
    SET (aside, aside_bytes) = (
        SELECT CAST(min(max(aside + iif(comes, 1, -1), 0), 9007199254740991) AS INTEGER),
               CAST(min(max(aside_bytes + iif(comes, ifnull(NEW.bytes, 0), -ifnull(OLD.bytes, 0)), 0), 9007199254740991)
                    AS INTEGER)
        FROM (SELECT NEW.status IS NOT 'SENT' AND NEW.status IS NOT 'FAILED'
                     AND (NEW.held_by IS NOT NULL OR (NEW.attempts > 0) IS TRUE) AS comes))
    WHERE id = 1;
END;

-- Nothing in it can fail for SQLite, neither a function nor, with OR IGNORE, a constraint. So it keeps no journal of
-- each DELETE, which would cost every row that is purged 0.7 µs.
CREATE TRIGGER outbox_aside_deleted AFTER DELETE ON outbox
WHEN OLD.status IS NOT 'SENT' AND OLD.status IS NOT 'FAILED'
 AND (OLD.held_by IS NOT NULL OR (OLD.attempts > 0) IS TRUE)
BEGIN
    UPDATE OR IGNORE outbox_state
    SET aside = CASE WHEN aside - 1 BETWEEN 0 AND 9007199254740991 THEN CAST(aside - 1 AS INTEGER) ELSE 0 END,
        aside_bytes = CASE WHEN aside_bytes - ifnull(OLD.bytes, 0) BETWEEN 0 AND 9007199254740991
                           THEN CAST(aside_bytes - ifnull(OLD.bytes, 0) AS INTEGER) ELSE 0 END
    WHERE id = 1;
END;

CREATE TRIGGER outbox_id_fixed BEFORE UPDATE OF id ON outbox
WHEN NEW.id IS NOT OLD.id
BEGIN
    SELECT RAISE(ABORT, 'outbox: the id of a message does not change');
END;

-- A message edited on purpose is not a damaged one. The checksum does not cover expires_at.
CREATE TRIGGER outbox_edited
AFTER UPDATE OF topic, payload, key, headers, qos, retain, content_type, response_topic, correlation_data ON outbox
WHEN NEW.checksum IS NOT NULL
 AND (NEW.topic IS NOT OLD.topic OR NEW.payload IS NOT OLD.payload OR NEW.key IS NOT OLD.key
      OR NEW.headers IS NOT OLD.headers OR NEW.qos IS NOT OLD.qos OR NEW.retain IS NOT OLD.retain
      OR NEW.content_type IS NOT OLD.content_type OR NEW.response_topic IS NOT OLD.response_topic
      OR NEW.correlation_data IS NOT OLD.correlation_data)
BEGIN
    UPDATE outbox SET checksum = NULL WHERE id = NEW.id;
END;

-- A row made PENDING again (or anything that is no status at all, to be parked), or taken out of its lane, by hand may lie
-- below the position: it must enter outbox_again.
-- And if its time is over, whoever makes it PENDING again wants it sent all the same. (By the clock, and not in any
-- case: what has time left when it is retried keeps it.)
CREATE TRIGGER outbox_reopened AFTER UPDATE OF status, attempts, held_by ON outbox
WHEN NEW.status IS NOT 'SENT' AND NEW.status IS NOT 'FAILED'
 AND ((OLD.status IS NOT 'PENDING' AND OLD.status IS NOT NEW.status)
      OR ((NEW.attempts > 0) IS NOT TRUE AND NEW.held_by IS NULL AND (OLD.attempts <> 0 OR OLD.held_by IS NOT NULL)))
BEGIN
    UPDATE outbox
    SET attempts = 1, wait_ms = 0, filler = NULL,
        expires_at = CASE WHEN OLD.status = 'PENDING'
                            OR (expires_at > created_at
                                AND expires_at > CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
                          THEN expires_at END
    WHERE id = NEW.id;
END;

-- A row settled by hand leaves its lane.
CREATE TRIGGER outbox_released AFTER UPDATE OF status ON outbox
WHEN NEW.status IS NOT 'PENDING' AND NEW.held_by IS NOT NULL
BEGIN
    UPDATE outbox SET held_by = NULL WHERE id = NEW.id;
END;

CREATE TRIGGER outbox_state_stays BEFORE DELETE ON outbox_state
BEGIN
    SELECT RAISE(ABORT, 'outbox_state: without its row the outbox is lost');
END;
