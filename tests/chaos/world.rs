//! What a run is played in, and what its witnesses say afterwards.

use std::collections::HashSet;
use std::time::Duration;

use edge_outbox::broker::Mqtt;
use edge_outbox::rusqlite::{Connection, OpenFlags};
use edge_outbox::{Backoff, Outbox, Settings};
use tempfile::TempDir;

use crate::mosquitto::Mosquitto;
use crate::oracle::{Evidence, Row};
use crate::plan::{Letter, Manner, Plan};
use crate::proxy::{Proxy, Published, Traffic};
use crate::subscriber::Subscriber;

/// The world of a run. What it consists of ends before the folder that it lies in.
pub struct World {
    pub outbox: Outbox,
    pub table: Table,
    pub proxy: Proxy,
    subscriber: Subscriber,
    pub broker: Mosquitto,
}

impl World {
    pub fn new(plan: &Plan, folder: TempDir) -> Self {
        let broker = Mosquitto::start_in(folder, &["persistence true", "autosave_interval 0"]);
        let subscriber = Subscriber::start(broker.port(), "chaos/#");
        let proxy = Proxy::to(broker.port());
        let path = broker.folder().join("house.db");
        let outbox = Outbox::builder(&path).settings(settings(plan)).broker(mqtt(plan.manner, &proxy)).open();
        let outbox = outbox.expect("a fresh database");
        let table = Table(Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it is there"));
        World { outbox, table, proxy, subscriber, broker }
    }

    /// Ends everything but the memory of it.
    pub fn evidence(self, plan: &Plan) -> Evidence {
        let table = self.table.rows();
        let traffic = self.proxy.traffic();
        Evidence {
            committed: plan.committed().map(Letter::told).collect(),
            table,
            acknowledged: acknowledged(&traffic),
            published: traffic.published.iter().map(told).collect(),
            received: self.subscriber.collect(),
            delayed: traffic.delayed().map(told).collect(),
            // what is in flight when a connection ends, and what was refused, is sent again; nothing else
            most_repeated: traffic.connections.saturating_sub(1) * plan.window + plan.refusals(),
        }
    }
}

/// The table as somebody else sees it.
pub struct Table(Connection);

impl Table {
    fn rows(&self) -> Vec<Row> {
        let all = "SELECT status, topic || ' ' || payload FROM outbox ORDER BY id";
        let mut rows = self.0.prepare_cached(all).expect("our table");
        let rows = rows.query_map([], |row| Ok(Row { status: row.get(0)?, told: row.get(1)? })).expect("our table");
        rows.map(|row| row.expect("a row")).collect()
    }
}

/// The table first: whatever it calls SENT by then has its acknowledgement by now.
pub fn judge_the_present(table: &Table, proxy: &Proxy) -> Vec<String> {
    let rows = table.rows();
    Evidence::judge_the_present(&rows, &proxy.look(acknowledged))
}

fn acknowledged(traffic: &Traffic) -> HashSet<String> {
    traffic.acknowledged().map(told).collect()
}

fn told(published: &Published) -> String {
    format!("{} {}", published.topic, published.text())
}

fn mqtt(manner: Manner, proxy: &Proxy) -> Mqtt {
    let (port, protocol) = (proxy.port(), manner.protocol_name());
    let url = format!("mqtt://127.0.0.1:{port}?protocol={protocol}&keep_alive=5s&connect_timeout=500ms");
    Mqtt::from_url(&url).expect("a URL as it should be")
}

/// Waits are short, so that many faults fit into a minute; attempts are many, so that no refusal parks anything.
fn settings(plan: &Plan) -> Settings {
    let backoff = Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(50) };
    Settings {
        window: plan.window,
        window_bytes: plan.window_bytes,
        settle_after: plan.settle_after,
        max_attempts: 1_000,
        retry: backoff,
        reconnect: backoff,
        ack_timeout: Duration::from_secs(1),
        ..Settings::default()
    }
}
