//! The whole way of one message: open, write in a transaction, deliver, done. Run it: `cargo run --example quickstart`.

use std::time::Duration;

use edge_outbox::broker::InProcess;
use edge_outbox::{Error, Message, Outbox};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;

    // A broker within this process. In a real program: Mqtt::from_url("mqtt://broker.example:1883")?
    let broker = InProcess::new();
    let inbox = broker.subscribe("weather/#")?;

    // Creates the table `outbox` in the database, beside your own tables, and begins to forward.
    let outbox = Outbox::open(folder.path().join("station.db"), broker)?;

    outbox.transaction(|tx| -> Result<(), Error> {
        tx.execute("CREATE TABLE reading (celsius REAL)", [])?;
        tx.execute("INSERT INTO reading (celsius) VALUES (?1)", [21.5])?;
        outbox.enqueue(tx, &Message::text("weather/roof", "21.5"))?;
        Ok(()) // with an Err here, there would be neither a reading nor a message
    })?;

    let arrival = inbox.recv_timeout(Duration::from_secs(5))?;
    println!("{} got {} as {}", arrival.message.topic, text(&arrival.message), arrival.id);
    arrival.acknowledge();

    outbox.flush(Duration::from_secs(5))?;
    println!("pending messages: {}", outbox.stats()?.pending);
    outbox.shutdown(Duration::from_secs(5))?;
    Ok(())
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload.as_bytes()).into_owned()
}
