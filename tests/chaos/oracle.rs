//! The judge: four witnesses who do not know of each other, and what must hold between what they say.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A message is told of as `topic payload` by everybody.
#[derive(Clone, Default)]
pub struct Evidence {
    /// The program: what it has committed, in that order.
    pub committed: Vec<String>,
    /// The table, in the order of its ids.
    pub table: Vec<Row>,
    /// The network: what was sent, in that order, and of what the acknowledgement was passed on.
    pub published: Vec<String>,
    pub acknowledged: HashSet<String>,
    /// The subscriber: what came, in that order.
    pub received: Vec<String>,
    /// The network again: what the broker passed on, or got at all, behind what was sent after it.
    pub delayed: HashSet<String>,
    /// What may be sent twice at most.
    pub most_repeated: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub status: String,
    pub told: String,
}

impl Evidence {
    pub fn repeated(&self) -> usize {
        self.published.len().saturating_sub(self.committed.len())
    }

    /// What must hold at any moment. `table` was read before `acknowledged`.
    pub fn judge_the_present(table: &[Row], acknowledged: &HashSet<String>) -> Vec<String> {
        let sent = table.iter().filter(|row| row.status == "SENT").map(|row| row.told.as_str());
        let failed = table.iter().filter(|row| row.status == "FAILED").map(|row| row.told.as_str());
        [
            count("SENT without an acknowledgement", sent.filter(|told| !acknowledged.contains(*told))),
            count("FAILED", failed),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What must hold once everything is settled; nothing is wrong if nothing is said.
    pub fn judge(&self) -> Vec<String> {
        let committed: HashMap<&str, usize> = self.committed.iter().map(String::as_str).zip(0..).collect();
        let received: HashSet<&str> = self.received.iter().map(String::as_str).collect();
        let unknown = |told: &&str| !committed.contains_key(told);
        let all = self.committed.iter().map(String::as_str);
        let open = self.table.iter().filter(|row| row.status == "PENDING").map(|row| row.told.as_str());
        let mut findings = Self::judge_the_present(&self.table, &self.acknowledged);
        findings.extend(count("still PENDING", open));
        findings.extend(count("lost: committed, and never received", all.filter(|told| !received.contains(told))));
        findings.extend(count("received, and never committed", texts(&self.received).filter(unknown)));
        findings.extend(count("sent, and never committed", texts(&self.published).filter(unknown)));
        findings.extend(count("first sent behind a later one of its key", late(texts(&self.published), &committed)));
        let ordered = texts(&self.received).filter(|told| !self.delayed.contains(*told));
        findings.extend(count("first received behind a later one of its key", late(ordered, &committed)));
        if !self.table.iter().map(|row| &row.told).eq(&self.committed) {
            findings.push("the table does not hold what was committed, in that order".to_owned());
        }
        if self.repeated() > self.most_repeated {
            findings.push(format!("{} repeated, where {} may be", self.repeated(), self.most_repeated));
        }
        findings
    }
}

fn texts(all: &[String]) -> impl Iterator<Item = &str> {
    all.iter().map(String::as_str)
}

fn topic(told: &str) -> &str {
    told.split(' ').next().unwrap_or_default()
}

/// Those that come for the first time when a younger one of their topic, which is of their key, has been there.
fn late<'e>(
    sequence: impl Iterator<Item = &'e str>,
    committed: &HashMap<&str, usize>,
) -> impl Iterator<Item = &'e str> {
    let mut known = HashSet::new();
    let mut newest = BTreeMap::new();
    sequence.filter(move |told| {
        let Some(place) = committed.get(told) else { return false };
        let newest = newest.entry(topic(told)).or_insert(0);
        let late = known.insert(*told) && place < newest;
        *newest = (*newest).max(*place);
        late
    })
}

/// In words how many there are and which is the first; none if there are none.
fn count<'e>(what: &str, found: impl Iterator<Item = &'e str>) -> Option<String> {
    let mut found = found.peekable();
    let first: String = found.peek()?.chars().take(40).collect();
    Some(format!("{} {what}, {first:?} the first of them", found.count()))
}
