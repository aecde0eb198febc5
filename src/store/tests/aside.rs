//! The rows that are set aside: the triggers count what the two indexes hold, whatever SQL is run.

use super::Device;

const STATUS: [&str; 6] = ["'PENDING'", "'SENT'", "'FAILED'", "'SEND'", "''", "'pending'"];
const ATTEMPTS: [&str; 5] = ["0", "1", "2", "-1", "attempts + 1"];
const HELD_BY: [&str; 4] = ["NULL", "'key a'", "'topic t'", "'mine'"];
const SOME: [&str; 4] = ["id = 1 + abs(random() % 8)", "id % 2", "id > 3", "1"];

struct Dice(u64);

impl Dice {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn sql(&mut self) -> String {
        let (status, attempts) = (self.one_of(&STATUS), self.one_of(&ATTEMPTS));
        let (held_by, some) = (self.one_of(&HELD_BY), self.one_of(&SOME[..]));
        let or = self.one_of(&["", "OR IGNORE", "OR REPLACE", "OR FAIL"]);
        match self.below(8) {
            0 => "INSERT INTO outbox (topic, payload) VALUES ('t', 'p'), ('t', zeroblob(70))".to_owned(),
            1 => format!(
                "INSERT {or} INTO outbox (topic, payload, status, attempts, held_by)
                 VALUES ('t', 'p', {status}, abs({}), {held_by})",
                attempts.trim_start_matches("attempts + ")
            ),
            2 => format!("UPDATE {or} outbox SET status = {status} WHERE {some}"),
            3 => format!("UPDATE {or} outbox SET attempts = {attempts} WHERE {some}"),
            4 => format!("UPDATE {or} outbox SET held_by = {held_by} WHERE {some}"),
            5 => format!("UPDATE {or} outbox SET attempts = {attempts}, held_by = {held_by} WHERE {some}"),
            6 => format!(
                "UPDATE {or} outbox SET status = {status}, attempts = {attempts}, held_by = {held_by} WHERE {some}"
            ),
            _ => format!("DELETE FROM outbox WHERE {some}"),
        }
    }
}

/// Status words that a dropped CHECK lets in, and negative attempts, among them.
#[test]
fn the_triggers_count_what_the_indexes_hold_whatever_sql_is_run() {
    for seed in 1..=24 {
        let device = Device::new();
        let recursive = seed % 2 == 0;
        device.sql(&format!(
            "PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA recursive_triggers = {recursive};"
        ));
        device.put_many(3);
        let mut dice = Dice(seed);
        for step in 0..150 {
            let sql = dice.sql();
            device.sql(&sql);
            let counted = device.number("SELECT aside FROM outbox_state");
            let context = format!("seed {seed}, step {step}: {sql}");
            assert_eq!(counted, device.waiting_count() + device.held_count(), "{context}");
            let bytes = "SELECT (SELECT aside_bytes FROM outbox_state) - ifnull(sum(bytes), 0) FROM outbox
                         WHERE status IS NOT 'SENT' AND status IS NOT 'FAILED' AND (held_by IS NOT NULL OR attempts > 0)";
            assert_eq!(device.number(bytes), 0, "{context}");
        }
        assert_eq!(device.text("PRAGMA integrity_check"), "ok");
    }
}

#[test]
fn a_status_that_is_none_can_be_written_and_settled_with_recursive_triggers_too() {
    let device = Device::new();
    device.put_many(2);
    device.sql(
        "PRAGMA recursive_triggers = ON; PRAGMA ignore_check_constraints = ON;
         UPDATE outbox SET status = 'SENT' WHERE id = 1;
         UPDATE outbox SET status = 'nonsense' WHERE id = 1;
         UPDATE outbox SET attempts = 2, wait_ms = 77 WHERE id = 1;",
    );
    assert_eq!((device.waiting_count(), device.number("SELECT wait_ms FROM outbox WHERE id = 1")), (1, 77));
    device.sql("UPDATE outbox SET status = 'FAILED' WHERE id = 1");
    assert_eq!(device.waiting_count(), 0);
}
