use rusqlite::TransactionBehavior;

use super::super::schema::NAMES;
use super::Device;
use crate::Error;
use crate::store::restore;
use crate::store::restore::{Flaw, Kind, Misfit, misfits};

impl Device {
    fn restore(&mut self) -> Result<Vec<String>, Error> {
        let tx = self.app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let restored = restore(&tx)?;
        tx.commit().unwrap();
        Ok(restored)
    }

    fn misfits(&self) -> Vec<(String, Flaw)> {
        misfits(&self.app, 1).unwrap().into_iter().map(|misfit| (misfit.name, misfit.flaw)).collect()
    }
}

#[test]
fn where_everything_stands_nothing_is_put_back_nor_written() {
    let mut device = Device::new();
    let before = device.number("PRAGMA schema_version");
    assert_eq!((device.misfits(), device.restore().unwrap()), (vec![], vec![]));
    assert_eq!(device.number("PRAGMA schema_version"), before);
}

#[test]
fn each_trigger_and_index_that_is_missing_is_put_back_as_it_was() {
    let mut device = Device::new();
    device.put_many(3);
    let all = "SELECT group_concat(name || sql) FROM (SELECT name, sql FROM sqlite_schema ORDER BY name)";
    let before = device.text(all);
    for name in &NAMES[2..] {
        let kind = device.text(&format!("SELECT type FROM sqlite_schema WHERE name = '{name}'"));
        device.sql(&format!("DROP {kind} {name}"));
        assert_eq!(device.misfits(), [(name.to_string(), Flaw::Missing)]);
        assert_eq!(device.restore().unwrap(), [*name]);
        assert_eq!(device.text(all), before, "{name}");
    }
    device.sql("DROP TRIGGER outbox_aside; DROP INDEX outbox_held; DROP TRIGGER outbox_state_stays");
    assert_eq!(device.restore().unwrap(), ["outbox_held", "outbox_aside", "outbox_state_stays"]);
    assert_eq!(device.text(all), before);
    assert_eq!(device.fresh_ids(), [1, 2, 3]);
}

#[test]
fn what_somebody_altered_is_made_anew_and_what_is_the_applications_own_stays() {
    let mut device = Device::new();
    device.sql(
        "DROP TRIGGER outbox_released; CREATE TRIGGER OUTBOX_released AFTER UPDATE ON outbox BEGIN SELECT 1; END;
         DROP INDEX outbox_failed; CREATE INDEX outbox_failed ON outbox (status);
         CREATE TRIGGER outbox_mirror AFTER INSERT ON outbox BEGIN SELECT 2; END; CREATE INDEX outbox_topic ON outbox (topic)",
    );
    assert_eq!(
        device.misfits(),
        [("outbox_failed".to_owned(), Flaw::Altered), ("outbox_released".to_owned(), Flaw::Altered)]
    );
    assert_eq!(device.restore().unwrap(), ["outbox_failed", "outbox_released"]);
    assert_eq!(device.misfits(), []);
    let own = "SELECT count(*) FROM sqlite_schema WHERE name IN ('outbox_mirror', 'outbox_topic')";
    assert_eq!(device.number(own), 2);
}

#[test]
fn an_altered_table_is_told_and_left_alone() {
    let mut device = Device::new();
    device.put_many(2);
    device.sql("ALTER TABLE outbox ADD COLUMN theirs TEXT");
    let misfit = Misfit { kind: Kind::Table, name: "outbox".to_owned(), flaw: Flaw::Altered };
    assert_eq!(misfits(&device.app, 1).unwrap(), [misfit]);
    assert_eq!(device.restore().unwrap(), Vec::<String>::new());
    assert_eq!(device.number("SELECT count(theirs IS NULL) FROM outbox"), 2);
}

#[test]
fn something_else_with_our_name_is_not_touched_and_nothing_is_put_back_beside_it() {
    for theirs in [
        "CREATE TABLE outbox_edited (x)",
        "CREATE TABLE docs (x); CREATE TRIGGER outbox_edited AFTER INSERT ON docs BEGIN SELECT 1; END",
    ] {
        let mut device = Device::new();
        device.sql("DROP TRIGGER outbox_edited; DROP TRIGGER outbox_aside");
        device.sql(theirs);
        assert!(device.misfits().contains(&("outbox_edited".to_owned(), Flaw::Foreign)), "{theirs}");
        let error = device.restore().unwrap_err();
        assert!(matches!(&error, Error::ForeignTable { name } if name == "outbox_edited"), "{error:?}");
        assert_eq!(device.misfits().len(), 2, "{theirs}: all or nothing");
    }
}

#[test]
fn a_temporary_table_with_our_name_does_not_get_the_triggers() {
    let mut device = Device::new();
    device.sql("DROP TRIGGER outbox_edited; DROP INDEX outbox_again; CREATE TEMP TABLE outbox (x, id, topic, payload)");
    assert_eq!(device.restore().unwrap(), ["outbox_again", "outbox_edited"]);
    assert_eq!(device.misfits(), []);
    assert_eq!(device.number("SELECT count(*) FROM temp.sqlite_schema"), 1);
}

#[test]
fn rows_that_were_set_aside_while_a_trigger_was_missing_are_counted_anew() {
    let mut device = Device::new();
    device.put_many(6);
    device.sql(
        "UPDATE outbox SET attempts = 1 WHERE id = 1; DROP TRIGGER outbox_aside;
         UPDATE outbox SET attempts = 1 WHERE id = 2; UPDATE outbox SET held_by = 'key a' WHERE id = 3;
         UPDATE outbox SET status = 'SENT' WHERE id = 1",
    );
    let counted = "SELECT aside * 1000 + aside_bytes FROM outbox_state";
    let standing = device.number("SELECT count(*) * 1000 + sum(bytes) FROM outbox WHERE id IN (2, 3)");
    assert_ne!(device.number(counted), standing);
    assert_eq!(device.restore().unwrap(), ["outbox_aside"]);
    assert_eq!(device.number(counted), standing);
    device.sql("UPDATE outbox_state SET aside = 77");
    assert_eq!(device.restore().unwrap(), Vec::<String>::new());
    assert_eq!(device.number(counted), standing);
    device.sql("UPDATE outbox SET status = 'SENT' WHERE id IN (2, 3)");
    assert_eq!(device.number(counted), 0);
}

#[test]
fn triggers_of_a_newer_version_are_not_made_old_again() {
    let mut device = Device::new();
    device.sql("DROP TRIGGER outbox_edited; UPDATE outbox_state SET version = 2");
    let error = device.restore().unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 2, known: 1 }), "{error:?}");
    assert_eq!(device.misfits(), [("outbox_edited".to_owned(), Flaw::Missing)]);
}
